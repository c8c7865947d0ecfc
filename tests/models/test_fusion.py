"""Networks on several modalities: what is missing, and that samples do not see each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from limbeck.errors import ConfigError, ModelError, ShapeError
from limbeck.modalities import Modalities
from limbeck.models.fusion import FusionNet, build_fusion

LAYOUT = Modalities((("face", (5,)), ("heart", (2, 16)), ("photo", (1, 8, 8))))


def rows(n: int = 6, *missing: str) -> torch.Tensor:
    torch.manual_seed(1)
    parts = {name: torch.randn(n, *shape) for name, shape in LAYOUT.shapes}
    return LAYOUT.without(LAYOUT.join(parts, torch.ones(n, 3, dtype=torch.bool)), missing)


def network(**options: Any) -> Any:
    torch.manual_seed(0)
    return build_fusion("fusion", classes=4, modalities=LAYOUT, **{"width": 8, "hidden": (6,), **options})


KINDS: list[dict[str, Any]] = [
    {},
    {"fusion": "attention"},
    {"sees": "face", "imagines": ("heart", "photo")},
    {"sees": "face", "zeros": "heart"},
    {"streams": True},
    {"encoders": {"photo": {"name": "resnet8"}}, "sees": ("face", "photo")},
]


@pytest.mark.parametrize("options", KINDS)
def test_no_sample_sees_its_batch_mates(options: dict[str, Any]) -> None:
    net, x = network(**options).eval(), rows()
    x[2:4] = LAYOUT.without(x[2:4], ["heart"])
    together = net(x)
    for i in range(len(x)):
        assert torch.allclose(net(x[i : i + 1])[0], together[i], atol=1e-5)


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_a_missing_modality_counts_nothing(fusion: str) -> None:
    net = network(fusion=fusion).eval()
    x = rows(6, "heart")
    other = x.clone()
    other[:, 5:37] = 7.0  # numbers behind a flag that says that they are not there
    assert torch.equal(net(x), net(other))
    assert not torch.allclose(net(x), net(rows()))
    assert net(rows(2, "face", "heart", "photo")).isfinite().all()
    assert net.whole(x).tolist() == [False] * 6
    assert network(sees="face").whole(x).all()


def test_what_is_imagined_stands_in_only_where_it_is_missing() -> None:
    net = network(sees=("face", "heart"), imagines="heart").eval()
    whole, half = rows(), rows(6, "heart")
    with torch.no_grad():
        net.tnets["heart"].layers[-1].bias += 5.0
        changed = net(whole), net(half)
        net.tnets["heart"].layers[-1].bias -= 5.0
    assert torch.equal(changed[0], net(whole))
    assert not torch.allclose(changed[1], net(half))


@pytest.mark.parametrize("detach", [True, False])
def test_gradients_pass_the_tnet_as_asked(detach: bool) -> None:
    net = network(sees="face", imagines="heart", tnet={"detach": detach})
    net(rows()).sum().backward()
    assert (net.tnets["heart"].layers[0].weight.grad is None) == detach


def test_the_layout_goes_there_and_back() -> None:
    parts = {name: torch.randn(3, *shape) for name, shape in LAYOUT.shapes}
    present = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    row = LAYOUT.join(parts, present)
    assert torch.equal(LAYOUT.present(row), present)
    found = LAYOUT.split(row)
    for i, (name, part) in enumerate(parts.items()):
        assert torch.equal(found[name][present[:, i]], part[present[:, i]])
        assert found[name][~present[:, i]].eq(0).all()
    assert Modalities.of(LAYOUT.plain()) == LAYOUT
    with pytest.raises(ShapeError, match="no rows of this data's modalities"):
        LAYOUT.split(torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sees": "hart"}, ModelError, "no modality 'hart'; expected 'heart'"),
        ({"sees": "face", "zeros": "face"}, ModelError, "cannot be 0 and be seen"),
        ({"zeros": ("face", "heart", "photo")}, ModelError, "sees no modality"),
        ({"widht": 3}, ConfigError, "widht: unknown key"),
        ({"fusion": "attention", "width": 7}, ModelError, "no multiple"),
        ({"encoders": {"face": "identity"}}, ModelError, "must have the network's width"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        network(**options)
    with pytest.raises(ModelError, match="reads one image"):
        build_fusion("resnet8", classes=4, modalities=LAYOUT)
    assert isinstance(network(), FusionNet)
