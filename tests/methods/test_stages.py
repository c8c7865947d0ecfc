"""AB, OFD and ReviewKD in runs: their stage before the labels, their margins, their fusion, their warm-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.running import assert_goes_on, config, teacher
from tests.test_taps import Tokens
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import ModelError
from limbeck.losses import ab, hcl, ofd, ofd_margin
from limbeck.methods import AB, OFD, Method, ReviewKD
from limbeck.methods.base import Setting
from limbeck.methods.reviewkd import ABF
from limbeck.models import build
from limbeck.signals import Batch, Signals
from limbeck.taps import Taps, layout
from limbeck.training.session import execute

RUNS = [
    {"name": "ab", "initial_epochs": 1},
    {"name": "ofd"},
    {"name": "reviewkd", "warmup": 2},
]


def network(name: str = "resnet8", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, classes=4, channels=1, size=(8, 8), **options)


def prepared(method: Method, student: nn.Module, taught: nn.Module, rows: int = 6) -> tuple[Any, ...]:
    x = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    setting: Any = Setting(4, torch.arange(rows) % 4, 2, None, student, taught, None)  # type: ignore[arg-type]
    method.prepare(layout(student, x), layout(taught, x), setting)

    def look(model: nn.Module, names: tuple[str, ...]) -> Signals:
        with Taps(names, layout(model, x).classifier).record(model) as found:
            return Signals(model(x), found)

    with torch.no_grad():
        theirs = look(taught.eval(), method.teacher_taps)
    return (
        look(student.train(), method.student_taps),
        theirs,
        Batch(x, torch.arange(rows), torch.arange(rows)),
    )


@pytest.mark.parametrize("method", RUNS, ids=lambda m: m["name"])
def test_runs_and_goes_on_after_a_stop(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = assert_goes_on(monkeypatch, tmp_path, method, teacher=teacher())
    assert run.status == "finished"


def test_ab_trains_before_the_labels_and_not_after(tmp_path: Path) -> None:
    entry = {"name": "ab", "options": {"initial_epochs": 2}}
    rows = execute(config(tmp_path, [entry], epochs=1), teacher=teacher()).metrics("train")
    assert [list(row["terms"]) for row in rows] == [["ab"]] * 10 + [["cross_entropy"]] * 5
    values = [row["terms"]["ab"]["raw"] for row in rows[:10]]
    assert sum(values[5:]) < sum(values[:5])


def test_ab_compares_what_comes_before_the_last_relu() -> None:
    method = AB(margin=0.5)
    student, taught = network(), network("resnet14")
    ours, theirs, batch = prepared(method, student, taught)
    assert method.student_taps == ("layer1.0.preact", "layer2.0.preact", "layer3.0.preact")
    assert all(isinstance(c, nn.Identity) for c in method.connectors)
    expected = sum(
        2.0 ** (i - 2) * ab(ours.features[a], theirs.features[b], margin=0.5)
        for i, (a, b) in enumerate(zip(method.student_taps, method.teacher_taps, strict=True))
    )
    torch.testing.assert_close(method.initial(ours, theirs, batch)["ab"].value, expected)
    assert method(ours, theirs, batch) == {}


def test_ofd_takes_margins_from_the_normalisation_before_the_relu() -> None:
    method = OFD()
    student, taught = network("cnn"), network("wrn_16_2")
    for module in taught.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    ours, theirs, batch = prepared(method, student, taught)
    assert method.teacher_taps[-1] == "bn1"
    norm = taught.get_submodule("bn1")
    assert torch.equal(method.get_buffer("margin2"), ofd_margin(norm.weight, norm.bias))  # type: ignore[arg-type]
    values = []
    for i, (connector, a, b) in enumerate(
        zip(method.connectors, method.student_taps, method.teacher_taps, strict=True)
    ):
        s, t = connector(ours.features[a]), theirs.features[b]
        size = min(s.shape[2], t.shape[2])
        pooled = (F.adaptive_avg_pool2d(x, size) for x in (s, t))
        values.append(2.0 ** (i - 1) * ofd(*pooled, method.get_buffer(f"margin{i + 1}")))
    torch.testing.assert_close(method(ours, theirs, batch)["ofd"].value, sum(values))


def test_ofd_needs_batch_normalisation() -> None:
    with pytest.raises(ModelError, match=r"margins from batch normalisation.*'stages\.0\.0'"):
        prepared(OFD(), network("cnn"), network("cnn", norm="none"))
    with pytest.raises(ModelError, match="margins from batch normalisation"):
        prepared(OFD(), network("cnn"), Tokens(depth=2))


def test_reviewkd_fuses_from_the_deepest() -> None:
    method = ReviewKD(warmup=4)
    student, taught = network("cnn", widths=(4, 8)), network()
    ours, theirs, batch = prepared(method, student, taught)
    assert method.student_taps == ("stages.0", "stages.1", "embedding")
    assert method.teacher_taps == ("layer2.0.preact", "layer3.0.preact", "embedding")
    assert [fusion.att_conv is None for fusion in method.fusions] == [False, False, True]
    below, values = None, []
    for fusion, a, b in reversed(
        list(zip(method.fusions, method.student_taps, method.teacher_taps, strict=True))
    ):
        s, t = (x if x.dim() == 4 else x[:, :, None, None] for x in (ours.features[a], theirs.features[b]))
        out, below = fusion(s, below, tuple(t.shape[2:]))
        values.append(hcl(out, t))
    method.zero_grad()
    term = method(ours, theirs, batch)["reviewkd"]
    torch.testing.assert_close(term.value, sum(values[1:], values[0]))


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0.0, 0.05), (0.9, 0.05), (9.5, 0.5), (19.0, 1.0), (100.0, 1.0)]
)
def test_reviewkd_warms_up(epoch: float, weight: float) -> None:
    method = ReviewKD()
    signals = prepared(method, network("cnn"), network())
    method.epoch = epoch
    assert method(*signals)["reviewkd"].weight == pytest.approx(weight)


def test_reviewkd_takes_a_last_batch_of_one_sample() -> None:
    method = ReviewKD()
    ours, theirs, batch = prepared(method, network("cnn"), network(), rows=1)
    value = method(ours, theirs, batch)["reviewkd"].value
    assert value.isfinite()
    value.backward()


def test_fusion_weighs_both_sources_by_attention() -> None:
    fusion = ABF(3, 4, 5, True).eval()
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 2, 2)
    assert fusion.att_conv is not None
    nn.init.zeros_(fusion.att_conv[0].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        fusion.att_conv[0].bias.copy_(torch.tensor([-1e4, 1e4]))  # type: ignore[union-attr, operator]
        out, residual = fusion(x, y, (8, 8))
    assert torch.equal(residual, y.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert out.shape == (2, 5, 8, 8)


@pytest.mark.parametrize("method", [AB, OFD, ReviewKD])
def test_activations_that_are_no_modules_are_named(method: type[Method]) -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x))

    rectified = nn.Sequential(Stage(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    with pytest.raises(ModelError, match="stage '0' cannot be tapped before its activation"):
        prepared(method(), network("cnn"), rectified)
    by_hand = method(teacher_layers=["0.conv"]) if method is not OFD else None
    if by_hand is not None:
        prepared(by_hand, network("cnn"), rectified)
        assert by_hand.teacher_taps[0] == "0.conv"
