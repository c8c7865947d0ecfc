"""Layers, stages, taps and connectors."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from limbeck.connectors import Connector, as_map
from limbeck.errors import ModelError
from limbeck.models import build
from limbeck.taps import EMBEDDING, Anatomy, Taps, layout


class Tokens(nn.Module):
    """A tiny vision transformer: patches, a class token, blocks, a linear classifier."""

    def __init__(self, depth: int = 8, width: int = 12) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 16, batch_first=True) for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.head(tokens[:, 0])
        return out


IMAGES = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_stages_of_a_residual_network_are_its_layers() -> None:
    found = layout(build("resnet20", classes=10, channels=1, size=(16, 16)), IMAGES)
    assert [(name, found.shape(name)) for name in found.stages] == [
        ("layer1", (16, 16, 16)),
        ("layer2", (32, 8, 8)),
        ("layer3", (64, 4, 4)),
    ]
    assert (found.embedding, found.classifier) == ((64,), "fc")
    assert found.shape("layer2.0.conv1") == (32, 8, 8)


def test_a_network_may_name_its_own_stages() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    assert layout(network, IMAGES)[1:] == (("2", "3"), None, None, None, ("input of 2", ""))
    network.anatomy = Anatomy("0", ("2",), ("1",))  # type: ignore[assignment]
    assert layout(network, IMAGES)[1:] == (("2",), None, None, "0", ("1",))


class Step(nn.Module):
    """A block that normalises at the old resolution before it steps down, as several families do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.conv(self.norm(x)), "and something else"


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.first, self.second = Step(4, 8), Step(8, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.second(self.first(self.stem(x))[0])
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def test_what_is_inside_a_block_that_steps_down_is_no_stage() -> None:
    network = Steps()
    found = layout(network, IMAGES)
    assert found.stages == ("stem", "first", "second")
    with Taps(found.stages).record(network) as seen:
        network(IMAGES)
    assert [tuple(seen[name].shape[1:]) for name in found.stages] == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_a_trunk_is_no_block() -> None:
    trunk = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, 1, 1))
    network = nn.Sequential(trunk, nn.Flatten(), nn.Linear(512, 10))
    assert layout(network, IMAGES).stages == ("0.1", "0")


def test_what_is_no_map_of_the_image_is_no_stage() -> None:
    class ChannelsLast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1)

    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), ChannelsLast())
    assert layout(network, IMAGES).stages == ("0",)


def test_a_layer_that_gives_no_tensor_cannot_be_tapped() -> None:
    class Words(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "no tensor"

    with (
        pytest.raises(ModelError, match=r"'0' gives no tensor; got str"),
        Taps(["0"]).record(network := nn.Sequential(Words())),
    ):
        network(IMAGES)


def test_stages_of_blocks_with_tokens() -> None:
    found = layout(Tokens(), IMAGES)
    assert found.stages == ("blocks.1", "blocks.3", "blocks.5", "blocks.7")
    assert found.shape("blocks.7") == (65, 12)


def test_a_wrong_name_gets_the_nearest() -> None:
    network = build("cnn", classes=10, channels=1, size=(16, 16))
    with pytest.raises(ModelError, match=r"'stages\.1'"):
        layout(network, IMAGES).shape("stage.1")
    with pytest.raises(ModelError, match=r"stage\.1"), Taps(["stage.1"]).record(network):
        pass


def test_looking_changes_nothing() -> None:
    network = build("resnet8", classes=10, channels=1, size=(16, 16)).train()
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    layout(network, IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in network.modules())


def test_taps_give_what_the_modules_gave_and_leave_no_hook() -> None:
    network = build("resnet8", classes=10, channels=1, size=(16, 16)).eval()
    with Taps(["layer1", "layer3", EMBEDDING], classifier="fc").record(network) as found:
        logits = network(IMAGES)
    assert torch.equal(network.fc(found[EMBEDDING]), logits)  # type: ignore[operator]
    assert torch.equal(network.layer3(network.layer2(found["layer1"])), found["layer3"])  # type: ignore[operator]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    found["layer3"].sum().backward()


def test_taps_work_under_compile_and_autocast() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)).eval()
    network(IMAGES)
    compiled = torch.compile(network, backend="eager")
    taps = Taps(["1"])
    with taps.record(network) as plain:
        network(IMAGES)
    with taps.record(network) as inside, torch.autocast("cpu", torch.bfloat16):
        compiled(IMAGES)
    torch.testing.assert_close(inside["1"].float(), plain["1"], rtol=0.05, atol=0.05)


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((8, 4, 4), (8, 4, 4)),
    ((8, 4, 4), (16, 2, 2)),
    ((8, 4, 4), (16, 8, 8)),
    ((8, 8, 4), (16, 4, 4)),
    ((8, 4, 4), (17, 12)),
    ((17, 12), (8, 4, 4)),
    ((16, 12), (65, 20)),
    ((8, 4, 4), (32,)),
    ((17, 12), (32,)),
    ((5,), (7,)),
]


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_connectors_bring_any_shape_to_any_other(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    connector = Connector(source, target)
    x = torch.randn(3, *source, requires_grad=True)
    out = connector(x)
    assert out.shape == (3, *target)
    out.sum().backward()
    assert x.grad is not None
    assert " -> " in str(connector)


def test_same_shape_needs_no_parameters() -> None:
    connector = Connector((8, 4, 4), (8, 4, 4))
    assert not list(connector.parameters())
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(connector(x), x)


def test_tokens_as_a_map_keep_their_places() -> None:
    grid = torch.arange(2 * 3 * 3 * 5.0).reshape(2, 9, 5)
    with_class = torch.cat([torch.full((2, 1, 5), -1.0), grid], 1)
    for tokens in (grid, with_class):
        assert torch.equal(as_map(tokens)[:, :, 1, 2], grid[:, 5])


@pytest.mark.parametrize("make", [lambda: Connector((7, 5), (8, 4, 4)), lambda: Connector((5,), (8, 4, 4))])
def test_no_connector(make: Callable[[], Connector]) -> None:
    with pytest.raises(ModelError, match="no connector"):
        make()


class Block(nn.Module):
    """A post-activated residual block; one activation module serves twice, perhaps in place."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.conv2(self.relu(self.conv1(x))) + x)
        return out


@pytest.mark.parametrize("inplace", [False, True])
def test_what_the_last_activation_reads_is_kept_even_where_it_works_in_place(inplace: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Block(inplace)).eval()
    found = layout(network, IMAGES)
    assert (found.stages, found.preacts) == (("1",), ("input of 1.relu#2",))
    assert found.before_activation() == found.preacts
    assert found.shape("input of 1.relu#2") == (4, 16, 16)
    with Taps(["1", *found.preacts]).record(network) as seen:
        network(IMAGES)
    preact = seen["input of 1.relu#2"]
    assert bool((preact < 0).any())
    assert torch.equal(preact.relu(), seen["1"])
    preact.sum().backward()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_pre_activated_stage_is_read_behind_the_next_normalisation() -> None:
    stem = nn.Conv2d(1, 4, 3, padding=1)
    network = nn.Sequential(nn.Sequential(stem, nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4), nn.ReLU()).eval()
    found = layout(nn.Sequential(network, nn.Conv2d(4, 8, 3, stride=2), nn.ReLU()), IMAGES)
    assert found.preacts == ("input of 0.2", "input of 2")
    assert found.norm_before("input of 0.2") == "0.1"
    assert found.norm_before("input of 2") is None


def test_a_stage_without_activation_is_its_own_and_a_hidden_one_is_named() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).relu()

    linear = layout(nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3)), nn.Conv2d(4, 4, 3, stride=2)), IMAGES)
    assert linear.preacts == linear.stages
    hidden = layout(nn.Sequential(Hidden()), IMAGES)
    assert hidden.preacts == ("",)
    with pytest.raises(ModelError, match="stage '0' cannot be tapped before its activation"):
        hidden.before_activation()


def test_wrong_names_of_inputs_get_the_nearest() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Block())
    found = layout(network, IMAGES)
    for name in ("input of 1.rely", "input of 1.relu#3"):
        with pytest.raises(ModelError, match=r"'1\.relu'"):
            found.shape(name)
    with pytest.raises(ModelError, match=r"no layer '1\.rely'"), Taps(["input of 1.rely"]).record(network):
        pass
