"""Random fields, pseudo labels, the switch, and ASDT: each against its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from limbeck.errors import ConfigError
from limbeck.methods import resolve
from limbeck.methods.asdt import ASDT
from limbeck.methods.base import Setting
from limbeck.models import build
from limbeck.models.asdt import Dual
from limbeck.pulse import PulseWidthSchedule
from limbeck.segmentation import (
    affinity,
    dense_energy,
    mean_field,
    plain_cross_entropy,
    reliable_labels,
    split_cross_entropy,
    symmetric,
    with_background,
)
from limbeck.signals import Batch
from limbeck.taps import Layout
from limbeck.tasks import WeakSegmentation
from limbeck.teachers import Inputs

RAW = Layout((), (), None, None)


def test_the_switch_is_the_released_one() -> None:
    signal = PulseWidthSchedule(start=1000)
    on = [i for i in range(1, 2000) if signal.turn(i)]
    assert on == [i for i in range(1, 2000) if i > 1000 and (i // 25) % 6 == 0]
    assert sum(signal.turn(i) for i in range(1050, 1050 + 1500)) == 250


def test_the_switch_at_its_edges() -> None:
    assert [PulseWidthSchedule(period=4, slots=1, start=2).turn(i) for i in range(1, 6)] == [0, 0, 1, 1, 1]
    assert (
        sum(PulseWidthSchedule(period=50, slots=7).turn(i) for i in range(49, 98)) == 7
    )  # slots of 50 // 7 steps
    turns = [PulseWidthSchedule(period=4, slots=4, phase=1).turn(i, teachers=3) for i in range(1, 9)]
    assert turns == [1, 2, 0, 0, 1, 2, 0, 0]
    for wrong in ({"period": 3, "slots": 4}, {"slots": 2, "phase": 2}, {"period": 0}):
        with pytest.raises(ValueError):
            PulseWidthSchedule(**wrong)


def test_affinities_are_those_of_all_pairs() -> None:
    torch.manual_seed(0)
    images = 255 * torch.rand(2, 3, 3, 4)
    found = affinity(images, 2.0, 30.0)
    for i, j in ((0, 7), (5, 11), (3, 3)):
        (y, x), (v, u) = divmod(i, 4), divmod(j, 4)
        colour = (images[1, :, y, x] - images[1, :, v, u]).square().sum() / (2 * 30.0**2)
        expected = 0.0 if i == j else torch.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * 2.0**2) - colour)
        assert float(found[1, i, j]) == pytest.approx(float(expected), abs=1e-5)


def test_mean_field_is_its_formula_pixel_by_pixel() -> None:
    torch.manual_seed(1)
    images, scores = 255 * torch.rand(1, 3, 2, 3), torch.rand(1, 4, 2, 3)
    kernel = symmetric(affinity(images, 1.5, 60.0))
    q = scores.flatten(2) / scores.flatten(2).sum(1, keepdim=True)
    for _ in range(3):
        energy = torch.stack(
            [sum(kernel[0, i, j] * q[0, :, j] for j in range(6) if j != i) for i in range(6)], 1
        )
        new = scores.flatten(2)[0] * torch.exp(7.0 * energy)
        q = (new / new.sum(0))[None]
    torch.testing.assert_close(mean_field(scores, [(kernel, 7.0)], 3).flatten(2), q)


def test_mean_field_gives_only_classes_that_are_allowed() -> None:
    scores = torch.rand(2, 3, 4, 4)
    allowed = torch.tensor([[1, 0, 1], [1, 1, 0]])
    kernel = symmetric(affinity(torch.zeros(2, 3, 4, 4), 2.0, 10.0))
    found = mean_field(scores, [(kernel, 300.0)], 5, allowed)
    assert bool(torch.isfinite(found).all())
    assert float(found[0, 1].max()) == 0.0
    assert float(found[1, 2].max()) == 0.0


def transcribed(cams: Any, low: Any, high: Any, exponent: float, confidence: float) -> torch.Tensor:
    """One image at a time, as the released code goes about it."""
    labels = torch.full((cams.shape[0], *cams.shape[2:]), -100)
    for b in range(len(cams)):
        ground = (1 - cams[b].amax(0)) ** exponent
        own = torch.cat([ground[None], cams[b]]).argmax(0)
        for y in range(cams.shape[2]):
            for x in range(cams.shape[3]):
                label = int(low[b, :, y, x].argmax()) or -100
                if int(high[b, :, y, x].argmax()) == 0:
                    label = 0
                if max(high[b, 0, y, x], low[b, 1:, y, x].max()) < confidence or label == -100:
                    continue
                if label == 0:
                    labels[b, y, x] = 0 if ground[y, x] > confidence else -100
                    continue
                strong = cams[b, label - 1][cams[b, label - 1] > 0.1]
                if not len(strong):
                    continue
                if own[y, x] == label and cams[b, label - 1, y, x] > torch.quantile(strong, 0.6):
                    labels[b, y, x] = label
    return labels


def test_reliable_labels_are_the_published_ones_and_a_weak_class_has_none() -> None:
    torch.manual_seed(2)
    cams = torch.rand(3, 2, 6, 6) ** 2
    cams[1, 0] = 0.05  # wins no activation above the floor
    low = torch.rand(3, 3, 6, 6).mul(4).softmax(1)
    high = torch.rand(3, 3, 6, 6).mul(4).softmax(1)
    found = reliable_labels(cams, low, high, exponent=3.0, confidence=0.5)
    assert torch.equal(found, transcribed(cams, low, high, 3.0, 0.5))
    assert set(found.unique().tolist()) == {-100, 0, 1, 2}
    assert not bool((found[1] == 1).any())


def test_the_split_cross_entropy_never_is_nan() -> None:
    torch.manual_seed(3)
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 0], [1, -100]], [[2, 2], [0, -100]]])
    rows = F.cross_entropy(logits, labels, reduction="none")
    expected = rows[labels == 0].mean() + rows[labels > 0].mean()
    torch.testing.assert_close(split_cross_entropy(logits, labels), expected)
    for one in (torch.zeros_like(labels), torch.full_like(labels, 2), torch.full_like(labels, -100)):
        value = split_cross_entropy(logits, one)
        assert bool(torch.isfinite(value))
        assert value.requires_grad
    assert float(plain_cross_entropy(logits, torch.full_like(labels, -100)).detach()) == 0
    assert bool(torch.isfinite(split_cross_entropy(300 * logits, labels)))


def test_the_dense_energy_is_its_formula_and_its_gate_is_not_differentiated() -> None:
    torch.manual_seed(4)
    images, labels = 255 * torch.rand(2, 3, 2, 3), torch.tensor([0, -100, 1, 2, -100, 0] * 2).view(2, 2, 3)
    kernel = affinity(images, 3.0, 90.0)
    logits = torch.randn(2, 3, 2, 3, requires_grad=True)
    s = logits.softmax(1)
    flat, total = s.flatten(2), torch.tensor(0.0)
    gate = torch.where(labels.flatten(1) == -100, 1.0, 1 - flat.detach().amax(1))
    for b in range(2):
        for k in range(3):
            total = total - flat[b, k] @ (gate[b] * (kernel[b] @ flat[b, k])) / 2
    mine = dense_energy(s, kernel, labels)
    torch.testing.assert_close(mine, total)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (mine, total)))


def dual(batch: int = 2, size: int = 8) -> Dual:
    torch.manual_seed(5)
    maps = [torch.randn(batch, 4, size, size, requires_grad=True) for _ in range(2)]
    return Dual(maps[0], maps[1], torch.rand(batch, 3, size, size), torch.randn(batch, 3, requires_grad=True))


def method(**options: Any) -> ASDT:
    made = resolve(
        "asdt", {"stride": 1, "energy": 0.001, "confidence": 0.3, "exponents": (1.0, 2.0), **options}
    )
    assert isinstance(made, ASDT)
    inputs = Inputs(3, (8, 8), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    net = torch.nn.Identity()
    made.prepare(RAW, None, Setting(4, torch.zeros(5, 4), 1, inputs, net, None, lambda *a, **k: net))
    return made


def terms(made: ASDT, step: int, output: Dual | None = None) -> Any:
    made.step = step
    task = WeakSegmentation(4, (8, 8))
    torch.manual_seed(6)
    batch = Batch(torch.randn(2, 3, 8, 8), torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0]]), torch.arange(2))
    return made(task.signals(output or dual()), None, task.rows(batch))


SWITCH = {"period": 4, "slots": 2, "start": 5}


def test_slots_decide_what_the_student_learns_from() -> None:
    made = method(classify=2, switch=SWITCH)
    seen = [set(terms(made, step)) for step in range(10)]
    off, on = {"head", "energy", "student_by_cam"}, {"head", "energy", "student_by_head"}
    turns = [PulseWidthSchedule(**SWITCH).turn(step + 1) for step in range(10)]
    assert turns == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0]
    assert seen == [set(), set(), *(on if turn else off for turn in turns[2:])]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"switch": None}, {"student_by_cam": 0.5}),
        ({"switch": {"period": 4, "slots": 1}}, {"student_by_head": 0.5}),
        ({"switch": {"period": 4, "slots": 1}, "w_t2": 0.1}, {"student_by_head": 0.05}),
        ({"switch": {"period": 4, "slots": 1}, "on": "add"}, {"student_by_cam": 0.5, "student_by_head": 0.5}),
        (
            {"switch": {"period": 4, "slots": 1}, "mix": True},
            {"student_by_cam": 0.25, "student_by_head": 0.25},
        ),
    ],
)
def test_readings_are_options(options: Any, weights: dict[str, float]) -> None:
    found = terms(method(**options), 7)
    assert {name: term.weight for name, term in found.items() if name.startswith("student")} == weights


def test_terms_are_their_formulas_and_heads_do_not_teach_themselves() -> None:
    made, output = method(switch={"period": 4, "slots": 1}), dual()
    found = terms(made, 7, output)
    task = WeakSegmentation(4, (8, 8))
    torch.manual_seed(6)
    images = made.seen(torch.randn(2, 3, 8, 8))
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0]])
    first = made.cam_labels(images, output.cams, present)
    second = made.head_labels(images, output.teacher, present)
    torch.testing.assert_close(found["head"].value, split_cross_entropy(output.teacher, first))
    torch.testing.assert_close(found["student_by_head"].value, F.cross_entropy(output.student, second))
    assert set(second[1].unique().tolist()) <= {0, 2}
    assert set(first[0].unique().tolist()) <= {-100, 0, 1, 3}
    (gradient,) = torch.autograd.grad(found["student_by_head"].value, output.teacher, allow_unused=True)
    assert gradient is None
    free = method(switch={"period": 4, "slots": 1}, restrict=False).head_labels(
        images, output.teacher, present
    )
    assert len(free.unique()) == 4
    assert task.signals(output).logits.shape == (128, 4)


def test_fusion_takes_the_larger_of_both_probabilities() -> None:
    output = dual()
    full = WeakSegmentation(4, (8, 8)).signals(output).extra["full"]
    torch.testing.assert_close(
        full.exp(), torch.maximum(output.student.softmax(1), output.teacher.softmax(1))
    )


def test_other_scales_are_averaged_and_leave_no_trace() -> None:
    made = method(switch=None, scales=(1.0, 0.5))
    net = build("asdt", classes=4, channels=3, size=(8, 8), widths=(4, 4), norm="batch").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x = torch.randn(2, 3, 8, 8)
    task = WeakSegmentation(4, (8, 8))
    output = net.eval()(x)
    net.train()
    signals = task.signals(output)
    made.observe(net, signals, Batch(x, torch.zeros(2, 4), torch.arange(2)))
    half = net.eval()(F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)).cams
    half = F.interpolate(half, output.cams.shape[2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(signals.extra["dual"].cams, (output.cams + half) / 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_activation_maps_are_the_classifier_at_every_place() -> None:
    net = build("asdt", classes=4, channels=3, size=(8, 8), widths=(4, 6), dropout=0.0)
    x = torch.randn(2, 3, 8, 8)
    output = net(x)
    features = net.get_submodule("trunk")(x)
    weight = net.get_parameter("classify.weight")
    torch.testing.assert_close(output.cams, F.relu(F.conv2d(features, weight)))
    torch.testing.assert_close(output.scores, F.conv2d(features, weight).mean((2, 3)))
    assert not output.cams.requires_grad
    detached = build("asdt", classes=4, channels=3, size=(8, 8), widths=(4, 6), detach_student=True)
    detached(x).student.sum().backward()
    assert detached.get_parameter("trunk.0.0.weight").grad is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(3, 8, 8), "offers masks"),
        (torch.zeros(3, 0), "offers masks"),
        (torch.zeros(3), "classification"),
    ],
)
def test_other_data_is_refused(labels: torch.Tensor, words: str) -> None:
    made = resolve("asdt")
    net = torch.nn.Identity()
    inputs = Inputs(3, (8, 8), (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(ConfigError, match=words):
        made.prepare(RAW, None, Setting(4, labels, 1, inputs, net, None, lambda *a, **k: net))


def test_background_scores() -> None:
    cams = torch.tensor([[[[0.5]], [[0.25]]]])
    assert with_background(cams, 2.0).flatten().tolist() == [0.25, 0.5, 0.25]
