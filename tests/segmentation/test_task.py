"""Pixels as rows: signals, labels, the loss, and the numbers."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
import torch
import torchmetrics
from torch.nn import functional as F

from limbeck.errors import ConfigError, ModelError, ShapeError
from limbeck.evaluation.segmentation import Confusion
from limbeck.losses import cwd, kd
from limbeck.models import build
from limbeck.signals import Batch
from limbeck.tasks import Segmentation

TASK = Segmentation(3, (6, 8))


def example() -> tuple[torch.Tensor, Batch]:
    torch.manual_seed(0)
    masks = torch.randint(0, 3, (2, 6, 8))
    masks[0, :2] = -100
    return torch.randn(2, 3, 3, 4, requires_grad=True), Batch(
        torch.zeros(2, 1, 6, 8), masks, torch.tensor([4, 7])
    )


def test_rows_are_pixels_in_the_order_of_the_masks() -> None:
    maps, batch = example()
    signals, rows = TASK.signals(maps), TASK.rows(batch)
    assert signals.logits.shape == (96, 3)
    full = F.interpolate(maps, (6, 8), mode="bilinear", align_corners=False)
    row = 48 + 5 * 8 + 3
    assert torch.equal(signals.logits[row], full[1, :, 5, 3])
    assert rows.labels[row] == batch.labels[1, 5, 3]
    assert rows.ids[row] == 7
    assert torch.equal(signals.extra["maps"], maps)


def test_a_stride_thins_what_methods_see_and_not_what_is_learned() -> None:
    maps, batch = example()
    thin = Segmentation(3, (6, 8), stride=3)
    signals, rows = thin.signals(maps), thin.rows(batch)
    assert signals.logits.shape == (2 * 2 * 3, 3)
    assert torch.equal(signals.logits[1], signals.extra["full"][0, :, 0, 3])
    assert rows.labels.shape == (12,)
    assert torch.equal(thin.loss(signals, rows), TASK.loss(TASK.signals(maps), TASK.rows(batch)))
    with pytest.raises(ConfigError, match="stride"):
        Segmentation(3, (6, 8), stride=7)


def test_the_loss_leaves_void_pixels_out() -> None:
    maps, batch = example()
    signals = TASK.signals(maps)
    logits, labels = signals.logits, batch.labels.flatten()
    expected = F.cross_entropy(logits[labels != -100], labels[labels != -100])
    torch.testing.assert_close(TASK.loss(signals, TASK.rows(batch)), expected)
    nothing = Batch(batch.inputs, torch.full_like(batch.labels, -100), batch.ids)
    loss = TASK.loss(signals, TASK.rows(nothing))
    assert float(loss.detach()) == 0
    assert loss.requires_grad


def test_outputs_of_other_packages() -> None:
    maps, _ = example()
    for output in ({"out": maps}, namedtuple("Output", "logits")(maps)):
        assert torch.equal(TASK.signals(output).logits, TASK.signals(maps).logits)
    for wrong in (torch.zeros(2, 3), {"aux": maps}, None):
        with pytest.raises(ModelError, match="score maps"):
            TASK.signals(wrong)


def test_numbers_are_those_of_torchmetrics() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(500, 4), torch.randint(0, 3, (500,))
    labels[:40] = -100
    seen = Confusion(4)
    for part in (slice(0, 130), slice(130, 500)):
        seen.add(logits[part], labels[part])
    found, given = seen.metrics(), labels != -100
    guess = logits.argmax(1)
    args = {"task": "multiclass", "num_classes": 4}
    jaccard = torchmetrics.JaccardIndex(**args, average="none")(guess[given], labels[given])
    torch.testing.assert_close(seen.iou().float(), jaccard)
    assert found["miou"] == pytest.approx(float(jaccard.mean()))
    assert found["accuracy"] == pytest.approx(float((guess == labels)[given].float().mean()))
    assert found["nll"] == pytest.approx(float(F.cross_entropy(logits, labels)))


def test_a_class_that_never_occurs_does_not_count() -> None:
    seen = Confusion(3)
    seen.add(torch.eye(3)[[0, 1]], torch.tensor([0, 1]))
    assert seen.metrics()["miou"] == 1.0
    assert torch.isnan(seen.iou()[2])


def test_agreement_with_a_teacher() -> None:
    torch.manual_seed(2)
    s, t, labels = torch.randn(50, 3), torch.randn(50, 3), torch.randint(0, 3, (50,))
    seen = Confusion(3)
    seen.add(s, labels, t)
    found = seen.metrics()
    assert found["agreement"] == pytest.approx(float((s.argmax(1) == t.argmax(1)).float().mean()))
    assert found["teacher_kl"] == pytest.approx(float(kd(s, t, temperature=1.0)))


def test_cwd_is_the_paper_s_formula() -> None:
    torch.manual_seed(3)
    s, t = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True), torch.randn(2, 3, 4, 5).double()
    total = 0.0
    for n in range(2):
        for c in range(3):
            p, q = (x[n, c].flatten().div(2.5).softmax(0) for x in (t, s))
            total = total + (p * (p / q).log()).sum() * 2.5**2 / 3 / 2
    torch.testing.assert_close(cwd(s, t, temperature=2.5), total)
    torch.testing.assert_close(cwd(s, t, temperature=2.5, reduction="none").mean(), total)
    torch.testing.assert_close(cwd(s, t, temperature=2.5, reduction="sum"), total * 2)
    (gradient,) = torch.autograd.grad(cwd(s, t), s)
    assert float(gradient.flatten(2).sum(2).abs().max()) < 1e-12  # moving a whole channel changes nothing
    assert float(cwd(t, t)) == pytest.approx(0, abs=1e-12)


def test_cwd_at_the_edges() -> None:
    torch.manual_seed(4)
    s, t = 300 * torch.randn(2, 3, 4, 4), (300 * torch.randn(2, 3, 4, 4)).requires_grad_()
    s.requires_grad_()
    loss = cwd(s, t)
    loss.backward()
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(s.grad).all())
    assert t.grad is None
    assert float(cwd(s[:0], t[:0]).detach()) == 0
    assert cwd(s, t[..., :2, :2]).dim() == 0
    with pytest.raises(ShapeError, match="channel"):
        cwd(s, t[:, :2])


@pytest.mark.parametrize(("stride", "size"), [(1, (7, 9)), (2, (8, 8)), (4, (16, 12))])
def test_fcn_keeps_the_resolution_it_is_asked_for(stride: int, size: tuple[int, int]) -> None:
    net = build("fcn", classes=5, channels=3, size=size, widths=(4, 6, 6), stride=stride)
    maps = net(torch.randn(2, 3, *size))
    assert maps.shape == (2, 5, -(-size[0] // stride), -(-size[1] // stride))
    maps.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_fcn_sees_farther_when_dilated(tmp_path: Path) -> None:
    def reach(dilations: tuple[int, ...]) -> int:
        net = build("fcn", classes=2, channels=1, size=(41, 41), widths=(2, 2, 2), stride=1,
                    dilations=dilations, norm="none")  # fmt: skip
        for p in net.parameters():
            torch.nn.init.constant_(p, 0.1)
        x = torch.ones(1, 1, 41, 41, requires_grad=True)
        net(x)[0, 0, 20, 20].backward()
        return int((x.grad[0, 0, 20] != 0).sum())

    assert reach((1,)) == 7
    assert reach((1, 2, 4)) == 15
