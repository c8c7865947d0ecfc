from __future__ import annotations

import pytest
import torch

from limbeck import models
from limbeck.errors import ModelError
from limbeck.taps import layout

KIND = {"classes": 7, "channels": 1, "size": (8, 8)}


LARGE = {"resnet110", "resnet32x4", "vgg19", "ResNet34", "ResNet50"}


@pytest.mark.parametrize("name", [name for name in models.MODELS if name not in LARGE])
def test_every_model_gives_logits_and_gradients(name: str) -> None:
    net = models.build(name, **KIND)
    logits = net(torch.randn(3, 1, 8, 8))
    assert logits.shape == (3, 7)
    logits.sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (28, 28), (33, 40)])
@pytest.mark.parametrize(
    "name", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet18", "cnn", "mlp"]
)
def test_any_input_size_and_channel_count(name: str, size: tuple[int, int]) -> None:
    net = models.build(name, classes=3, channels=4, size=size).eval()
    assert net(torch.randn(2, 4, *size)).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet8", "cnn", "mlp"])
def test_same_seed_same_weights(name: str) -> None:
    torch.manual_seed(3)
    first = models.build(name, **KIND).state_dict()
    torch.manual_seed(3)
    second = models.build(name, **KIND).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_residual_initialisation_is_he_normal_fan_out() -> None:
    torch.manual_seed(0)
    net = models.build("resnet20", classes=10, channels=3, size=(32, 32))
    weight = net.get_parameter("layer3.1.conv1.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert bool((net.get_parameter("layer3.1.bn1.weight") == 1).all())


def test_vgg_halves_before_its_last_block_only_where_images_are_large() -> None:
    net = models.build("vgg8", classes=10, channels=1, size=(32, 32)).eval()
    for size, last in ((28, (4, 4)), (32, (4, 4)), (64, (4, 4)), (96, (6, 6))):
        assert layout(net, torch.zeros(1, 1, size, size)).shape("relu4")[1:] == last


def test_mobilenet_takes_a_width() -> None:
    net = models.build("MobileNetV2", **KIND, width=1.0)
    assert net.get_parameter("blocks.6.0.conv.6.weight").shape[:2] == (320, 960)
    with pytest.raises(ModelError, match="width"):
        models.build("MobileNetV2", **KIND, width=0)


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_no_activation_works_in_place(name: str) -> None:
    with torch.device("meta"):
        net = models.build(name, **KIND)
    assert not [m for m in net.modules() if getattr(m, "inplace", False)]


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", torch.nn.BatchNorm2d), ("group", torch.nn.GroupNorm), ("none", type(None))]
)
def test_cnn_options(norm: str, kind: type) -> None:
    net = models.build("cnn", **KIND, widths=[6, 12, 20], norm=norm)
    norms = [m for m in net.modules() if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.GroupNorm))]
    assert len(norms) == (0 if norm == "none" else 3)
    assert all(isinstance(m, kind) for m in norms)
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 7)


def test_features_are_reachable_by_name() -> None:
    seen = []
    net = models.build("cnn", **KIND)
    net.get_submodule("stages.1").register_forward_hook(lambda _, __, out: seen.append(out.shape))
    net(torch.randn(2, 1, 8, 8))
    assert seen == [(2, 32, 4, 4)]


def test_unknown_name_says_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'resnet8x5'.*'resnet8x4'"):
        models.build("resnet8x5", **KIND)


def test_unknown_option_is_named_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"'cnn' has no option 'width'.*'widths'"):
        models.build("cnn", **KIND, width=(1,))
    with pytest.raises(ModelError, match=r"'resnet8' has no option 'depth'; expected no options"):
        models.build("resnet8", **KIND, depth=9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnn", {"widths": ()}),
        ("cnn", {"widths": (8, 0)}),
        ("cnn", {"widths": 16}),
        ("cnn", {"widths": "16"}),
        ("cnn", {"norm": "layer"}),
        ("mlp", {"widths": (-1,)}),
        ("mlp", {"widths": (1.5,)}),
    ],
)
def test_bad_option_values(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"widths|norm"):
        models.build(name, **KIND, **options)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ModelError, match=r"classes=0"):
        models.build("cnn", classes=0, channels=1, size=(8, 8))


def test_describe_lists_every_model_without_touching_the_generator() -> None:
    before = torch.get_rng_state()
    rows = dict(models.describe())
    assert torch.equal(before, torch.get_rng_state())
    assert list(rows) == list(models.MODELS)
    assert rows["resnet8x4"] == 1_233_540
    assert rows["resnet110"] == 1_736_564
