"""BSS: the attack against a transcription, the choice of images and classes, the schedules, whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.running import assert_goes_on, config, teacher
from torch import nn

from limbeck.config import TeacherConfig
from limbeck.errors import ConfigError
from limbeck.losses import kd
from limbeck.methods import BSS
from limbeck.methods.boundary import boundary_samples, choose_bases, choose_targets
from limbeck.signals import Batch, Signals
from limbeck.training.session import execute


def network(inputs: int = 12, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, classes)).double()


def transcribed(model: nn.Module, image: torch.Tensor, base: int, target: int, steps: int) -> torch.Tensor:
    """One image at a time, as the paper writes it."""
    x = image
    for _ in range(steps):
        x = x.detach().requires_grad_()
        scores = model(x[None])[0]
        if int(scores.argmax()) != base:
            break
        difference = scores[base] - scores[target]
        (gradient,) = torch.autograd.grad(-difference, x)
        x = (x + 0.3 * (difference + 1e-4) * gradient / gradient.norm()).clamp(-2.5, 2.5)
    return x.detach()


def test_the_attack_is_the_papers() -> None:
    model = network()
    images = torch.randn(7, 3, 2, 2, dtype=torch.float64)
    bases = model(images).argmax(1)
    target = (bases + 1) % 4
    for steps in (1, 5, 30):
        found = boundary_samples(model, images, target, steps=steps)
        for image, base, aim, moved in zip(images, bases.tolist(), target.tolist(), found, strict=True):
            torch.testing.assert_close(moved, transcribed(model, image, base, aim, steps))
    assert not found.requires_grad
    assert (found - images).abs().max() > 0
    assert all(p.grad is None for p in model.parameters())


def test_attacked_images_lie_at_the_border() -> None:
    model = network()
    images = torch.randn(20, 3, 2, 2, dtype=torch.float64)
    before = model(images)
    base, target = before.topk(2, dim=1).indices.T
    after = model(boundary_samples(model, images, target, steps=60))
    rows = torch.arange(20)
    gaps = [(x[rows, base] - x[rows, target]).abs().mean() for x in (before, after)]
    assert gaps[1] < gaps[0] / 50


def test_a_range_per_channel_is_kept_and_a_flat_network_moves_nothing() -> None:
    model = network()
    low, high = -torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    found = boundary_samples(
        model, torch.randn(5, 3, 2, 2).double(), torch.zeros(5).long(), low=low, high=high
    )
    assert (found.abs() <= high).all()
    flat = lambda x: torch.cat([x.flatten(1).sum(1, keepdim=True) * 0 + 1, x.flatten(1)[:, :1] * 0], 1)
    images = torch.randn(3, 3, 2, 2)
    assert torch.equal(boundary_samples(flat, images, torch.ones(3).long(), low=-9.0, high=9.0), images)


def test_images_that_are_no_more_the_base_class_stay() -> None:
    model = network()
    images = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    wrong = (model(images).argmax(1) + 1) % 4
    target = (wrong + 1) % 4
    assert torch.equal(boundary_samples(model, images, target, base=wrong), images)


def test_bases_are_right_in_both_and_differ_most_off_the_label() -> None:
    torch.manual_seed(0)
    student, theirs = torch.randn(40, 3), 2 * torch.randn(40, 3)
    labels = theirs.argmax(1)
    labels[:5] = (labels[:5] + 1) % 3
    labels[5] = -100
    right = [i for i in range(6, 40) if int(student[i].argmax()) == int(labels[i])]
    assert choose_bases(student, theirs, labels, 100).tolist() == right
    scores = {}
    for i in right:
        off = (theirs[i].softmax(0) - student[i].softmax(0)) ** 2
        scores[i] = float(off.sum() - off[labels[i]])
    best = sorted(right, key=lambda i: -scores[i])[:4]
    assert choose_bases(student, theirs, labels, 4).tolist() == best
    never = -student.new_ones(40, 3).scatter(1, labels.clamp(min=0)[:, None], 2.0)
    assert choose_bases(never, theirs, labels, 100).tolist() == list(range(6, 40))
    assert len(choose_bases(student, -theirs, theirs.argmax(1), 100)) == 0


def test_targets_are_drawn_in_proportion_and_never_the_base() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([3.0, 1.0, 2.0, -300.0]).expand(20_000, 4)
    found = choose_targets(logits, torch.zeros(20_000).long()).bincount(minlength=4) / 20_000
    share = torch.softmax(torch.tensor([1.0, 2.0]), 0)
    torch.testing.assert_close(found, torch.tensor([0, *share, 0]), atol=0.02, rtol=0)
    sure = torch.tensor([[300.0, 0.0, -1.0]])
    assert int(choose_targets(sure, torch.tensor([0]))) in (1, 2)


def test_schedules_are_the_published_lines() -> None:
    method = BSS()
    method.epochs = 80
    for epoch in (0.0, 1.0, 20.0, 59.5, 60.0, 79.0, 80.0):
        method.epoch = epoch
        expected = {
            "kd": max(3 * (1 - epoch / 80), 0) + 1,
            "attack": max(2 * (1 - 4 / 3 * epoch / 80), 0),
        }
        assert method.term_weights() == pytest.approx(expected)


def draw() -> tuple[Signals, Signals, Batch]:
    torch.manual_seed(0)
    batch = Batch(torch.zeros(6, 3, 2, 2), torch.arange(6) % 4, torch.arange(6))
    return Signals(torch.randn(6, 4, requires_grad=True)), Signals(torch.randn(6, 4)), batch


def test_terms_are_kd_without_its_scale_on_both_batches() -> None:
    student, theirs, batch = draw()
    second = [Signals(torch.randn(3, 4)) for _ in range(2)]
    student.extra["second"], theirs.extra["second"] = second
    terms = BSS(temperature=2.0)(student, theirs, batch)
    assert torch.equal(terms["kd"].value, kd(student.logits, theirs.logits, temperature=2.0, scale=False))
    assert torch.equal(
        terms["attack"].value, kd(second[0].logits, second[1].logits, temperature=2.0, scale=False)
    )
    assert [term.weight for term in terms.values()] == [4.0, 2.0]


def test_a_step_without_attack_has_the_same_terms_until_the_last_quarter() -> None:
    student, theirs, batch = draw()
    method = BSS()
    found = method(student, theirs, batch)
    assert float(found["attack"].value.detach()) == 0
    assert torch.autograd.grad(found["attack"].value, student.logits)[0].eq(0).all()
    method.epoch = 0.8
    assert list(method(student, theirs, batch)) == ["kd"]
    fail: Any = pytest.fail
    assert method.second(fail, fail, batch) is None
    with pytest.raises(ConfigError, match="method 'bss' needs a teacher"):
        method(student, None, batch)


def test_the_second_batch_holds_attacked_images_with_their_labels_and_ids() -> None:
    model = network().float()
    images = torch.randn(9, 3, 2, 2)
    labels = model(images).argmax(1)
    labels[3] = (labels[3] + 1) % 4
    batch = Batch(images, labels, torch.arange(9) + 10, epoch=2)
    found = BSS(attacked=5, limit=1.5).second(lambda x: model(x) / 2, model, batch)
    assert found is not None
    places = found.ids - 10
    assert len(found) == 5
    assert 3 not in places.tolist()
    assert torch.equal(found.labels, labels[places])
    assert not torch.equal(found.inputs, images[places])
    assert found.inputs.abs().max() <= 1.5
    assert not found.inputs.requires_grad
    nothing = Batch(images, (model(images).argmax(1) + 1) % 4, batch.ids)
    assert BSS().second(model, model, nothing) is None


def test_it_attacks_within_the_range_of_pixels_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    second = BSS.second

    def watched(self: BSS, *arguments: Any) -> Batch | None:
        found = second(self, *arguments)
        if found is not None:
            seen.append(found)
        assert self.epochs == 2
        return found

    monkeypatch.setattr(BSS, "second", watched)
    run = assert_goes_on(monkeypatch, tmp_path, {"name": "bss", "attacked": 8}, teacher=teacher())
    rows = run.metrics("train")
    weights = [{n: term["weight"] for n, term in row["terms"].items()} for row in rows]
    assert weights[0] == {"cross_entropy": 1.0, "bss.kd": 4.0, "bss.attack": 2.0}
    assert "bss.attack" not in weights[-1]
    assert seen
    inputs = run.inputs()
    pixels = torch.cat([batch.inputs for batch in seen]) * inputs.std[0] + inputs.mean[0]
    assert float(pixels.min()) >= -1e-5
    assert float(pixels.max()) <= 1 + 1e-5
    assert max(len(batch) for batch in seen) <= 8


def test_it_needs_a_teacher_that_sees_what_it_is_shown(tmp_path: Path) -> None:
    kept = config(tmp_path, ["bss"]).model_copy(update={"teacher": TeacherConfig(cache="memory")})
    with pytest.raises(ConfigError, match="bss needs exact_views"):
        execute(kept, teacher=teacher())
