"""Multi-level distillation: its two forms term by term, and the strong view that a run shows both networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.test_logit_methods import config, teacher
from torch import Tensor
from torch.nn import functional as F

from limbeck.losses import kd, low_confidence, mlkd_batch, mlkd_class
from limbeck.methods import MLKD
from limbeck.signals import Batch, Signals
from limbeck.teachers import LiveTeacher
from limbeck.training.session import execute

__all__ = ["teacher"]  # the fixture


def draw() -> tuple[list[Tensor], Batch]:
    generator = torch.Generator().manual_seed(0)
    logits = [3 * torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(4)]
    return logits, Batch(torch.zeros(7, 1), torch.arange(7) % 5, torch.arange(7))


def run(options: dict[str, Any], raw: list[Tensor] | None = None) -> dict[str, Tensor]:
    (s, t, s2, t2), batch = draw()
    extras = [{}, {}, {}, {}] if raw is None else [{"raw": x} for x in raw]
    student = Signals(s, {}, {"second": Signals(s2, {}, extras[2]), **extras[0]})
    taught = Signals(t, {}, {"second": Signals(t2, {}, extras[3]), **extras[1]})
    terms = MLKD(**options)(student, taught, batch)
    return {name: term.value for name, term in terms.items()}


def test_the_released_form() -> None:
    (s, t, s2, t2), batch = draw()
    unsure, rare = (mask.double().mean() for mask in low_confidence(t))
    found = run({"temperatures": [4, 3, 5, 2, 6]})

    def over(loss: Any, a: Tensor, b: Tensor, temperatures: tuple[float, ...] = (4, 3, 5, 2, 6)) -> Tensor:
        return torch.stack([loss(a, b, temperature=float(x)) for x in temperatures]).sum()

    assert torch.allclose(found["strong_labels"], F.cross_entropy(s2, batch.labels))
    instance = unsure * over(kd, s, t) + over(kd, s2, t2, (4, 3, 5)) + over(kd, s, t, (2, 6))
    assert torch.allclose(found["instance"], instance)
    assert torch.allclose(found["batch"], unsure * over(mlkd_batch, s, t))
    assert torch.allclose(found["class"], rare * over(mlkd_class, s, t))


def test_the_intended_form() -> None:
    (s, t, s2, t2), _ = draw()
    unsure, rare = low_confidence(t)
    found = run({"form": "intended", "temperatures": [2, 6]})
    instance = sum(
        kd(s, t, temperature=x, reduction="none")[unsure].sum() / 7 + kd(s2, t2, temperature=x)
        for x in (2.0, 6.0)
    )
    assert torch.allclose(found["instance"], torch.as_tensor(instance))
    for name, loss, mask in (("batch", mlkd_batch, unsure), ("class", mlkd_class, rare)):
        expected = sum(loss(s, t, temperature=x, mask=mask) for x in (2.0, 6.0))
        assert torch.allclose(found[name], torch.as_tensor(expected))


def test_only_instances_are_standardised() -> None:
    """Signals are the standardised ones; the raw ones stand beside them."""
    _, batch = draw()
    plain = run({})
    raw = [10 * x for x in draw()[0]]
    found = run({}, raw)
    assert torch.equal(found["instance"], plain["instance"])
    assert torch.allclose(found["strong_labels"], F.cross_entropy(raw[2], batch.labels))
    unsure, rare = (mask.double().mean() for mask in low_confidence(raw[1]))
    for name, loss, share in (("batch", mlkd_batch, unsure), ("class", mlkd_class, rare)):
        parts = [loss(raw[0], raw[1], temperature=t) for t in MLKD().options.temperatures]
        assert torch.allclose(found[name], share * torch.stack(parts).sum())


def test_a_term_without_weight_is_not_computed() -> None:
    nothing = dict.fromkeys(("strong_label_weight", "instance_weight", "class_weight"), 0.0)
    assert list(run(nothing)) == ["batch"]


def test_a_run_shows_both_networks_the_same_strong_view(teacher: LiveTeacher, tmp_path: Path) -> None:
    shown: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    method = MLKD(operations=2)
    original = teacher.model.forward

    def watch(x: Tensor) -> Tensor:
        shown["teacher"].append(x)
        return original(x)

    teacher.model.forward = watch  # type: ignore[method-assign]
    inner = method.second

    def second(student: Any, taught: Any, batch: Batch) -> Batch:
        made = inner(student, taught, batch)
        assert torch.equal(made.labels, batch.labels)
        assert not torch.equal(made.inputs, batch.inputs)
        shown["student"].append(made.inputs)
        return made

    method.second = second  # type: ignore[method-assign]
    try:
        execute(config(tmp_path, {"name": "object:mlkd"}, epochs=1), methods=[method], teacher=teacher)
    finally:
        teacher.model.forward = original  # type: ignore[method-assign]
    assert len(shown["student"]) >= 5
    for view in shown["student"]:
        assert any(view.shape == seen.shape and torch.equal(view, seen) for seen in shown["teacher"])


@pytest.mark.parametrize("seed", [0, 1])
def test_views_follow_the_seed_of_the_run(seed: int, teacher: LiveTeacher, tmp_path: Path) -> None:
    views = []
    for number in range(2):
        method = MLKD()
        settings = config(tmp_path / str(number), {"name": "object:mlkd"}, epochs=1)
        execute(settings.model_copy(update={"seed": seed}), methods=[method], teacher=teacher)
        views.append(method.strong)
    assert views[0].seed == views[1].seed
    other = MLKD()
    settings = config(tmp_path / "other", {"name": "object:mlkd"}, epochs=1)
    execute(settings.model_copy(update={"seed": seed + 5}), methods=[other], teacher=teacher)
    assert other.strong.seed != views[0].seed
