"""Dual-space KD against the formula written out with whole logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.losses.test_tokens import draw, gradient
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import Head, dual_space, projector_start, token_divergence

LABELS = torch.tensor([[1, -100, 2, 3, -100], [4, 0, 5, 5, 7]])


def states(other: int = 9) -> dict[str, Any]:
    """Student width 4, teacher width 6, vocabularies of 9 and ``other``; the projections agree here and there."""
    there = projector_start(draw(9, 4, seed=1), draw(other, 6, seed=3)[:9])[0]
    return {
        "student": draw(2, 5, 4).requires_grad_(),
        "student_head": Head(
            draw(9, 4, seed=1).requires_grad_(), draw(9, seed=9).mul(0.1).requires_grad_(), softcap=4.0
        ),
        "teacher": draw(2, 5, 6, seed=2),
        "teacher_head": Head(draw(other, 6, seed=3).requires_grad_(), scale=0.7),
        "to_student": (draw(2, 5, 6, seed=2) @ there.T + draw(2, 5, 4, seed=4) / 2).requires_grad_(),
        "to_teacher": draw(2, 5, 6, seed=5).requires_grad_(),
    }


def trained(parts: dict[str, Any]) -> list[Tensor]:
    head = parts["student_head"]
    return [parts["student"], head.weight, head.bias, parts["to_student"], parts["to_teacher"]]


def frozen(head: Head) -> Head:
    return Head(
        head.weight.detach(), None if head.bias is None else head.bias.detach(), head.scale, head.softcap
    )


def written_out(
    parts: dict[str, Any], labels: Tensor, mask: bool = True, items: float | None = None, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    kept = labels != -100
    head, other = parts["student_head"], frozen(parts["teacher_head"])
    said = other(parts["teacher"])[kept]
    read = frozen(head)(parts["to_student"])[kept]
    choice = said.argmax(1)
    agree = (read.argmax(1) == choice).double()
    n = items or len(choice)
    rows = token_divergence(head(parts["student"])[kept], read.detach(), reduction="none", **options)
    first = (rows * agree).sum() / agree.sum() if mask else rows.sum() / n
    back = token_divergence(other(parts["to_teacher"])[kept], said, reduction="sum", **options) / n
    return first, F.cross_entropy(read, choice, reduction="sum") / n, back


@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "adaptive_kl"])
def test_the_three_terms(kind: str, chunk: int | None) -> None:
    parts = states()
    options: dict[str, Any] = {"divergence": kind, "temperature": 2.0}
    for mask, agreement in ((True, 1.0), (False, -1.0)):
        found = dual_space(**parts, labels=LABELS, agreement=agreement, num_items=16, chunk=chunk, **options)
        expected = written_out(parts, LABELS, mask, 16, **options)
        assert 0 < found.agreed < found.known == 8
        torch.testing.assert_close(tuple(found[:3]), expected)
        weights = (1.0, 0.5, 2.0)
        mine, theirs = (sum(w * x for w, x in zip(weights, terms)) for terms in (found[:3], expected))
        torch.testing.assert_close(gradient(mine, *trained(parts)), gradient(theirs, *trained(parts)))


def test_each_term_trains_its_own() -> None:
    """Student and head by the first, the way to the student by the second, the way to the teacher by the third."""
    parts = states()
    own = ([0, 1, 2], [3], [4])
    for k, mine in enumerate(own):
        found = dual_space(**parts, labels=LABELS)
        inputs = [*trained(parts), parts["teacher_head"].weight]
        slopes = torch.autograd.grad(found[k], inputs, allow_unused=True)
        moved = [i for i, slope in enumerate(slopes) if slope is not None and bool((slope != 0).any())]
        assert moved == mine


def test_the_mask_only_where_few_agree() -> None:
    parts = states()
    agreed = float(dual_space(**parts, labels=LABELS).agreed) / 8
    for agreement, mask in ((agreed - 0.01, False), (agreed + 0.01, True)):
        found = dual_space(**parts, labels=LABELS, agreement=agreement)
        torch.testing.assert_close(found.student_space, written_out(parts, LABELS, mask)[0])


def test_teacher_and_student_are_one() -> None:
    hidden, head = draw(5, 4), Head(draw(9, 4, seed=1))
    there, back = projector_start(head.weight, head.weight)
    found = dual_space(
        hidden, head, hidden, head, hidden @ there.T, hidden @ (back @ head.weight).T, divergence="reverse_kl"
    )
    assert found.agreed == 5
    assert float(found.student_space.abs() + found.teacher_space.abs()) < 1e-12


def test_projection_keeps_the_logits() -> None:
    """Where the student is as wide as the teacher's head has rank, the projected logits are the teacher's."""
    narrow, wide = draw(30, 8), draw(30, 6, seed=1)
    both = torch.cat([wide, draw(30, 2, seed=2)], 1)  # the student's head spans the teacher's
    hidden = draw(7, 6, seed=3)
    there, _ = projector_start(both, wide)
    torch.testing.assert_close(hidden @ there.T @ both.T, hidden @ wide.T)
    there, _ = projector_start(narrow, wide)
    best = torch.linalg.lstsq(narrow, (hidden @ wide.T).T).solution.T
    torch.testing.assert_close(hidden @ there.T, best)


def test_other_vocabulary() -> None:
    """Targets are the teacher's choices in the student's words; positions without one are left out of all terms."""
    parts = states(other=12)
    choice = frozen(parts["teacher_head"])(parts["teacher"]).argmax(-1)
    translate = torch.arange(12).where(torch.arange(12) < 9, torch.tensor(-100))
    translate[choice[0, 0]] = -100
    found = dual_space(**parts, labels=LABELS, translate=translate)
    labels = LABELS.where(translate[choice] != -100, -100)
    assert 0 < found.known < 8
    torch.testing.assert_close(tuple(found[:3]), written_out(parts, labels))


def test_ground_truth_as_in_the_first_version() -> None:
    parts = states()
    found = dual_space(
        **parts,
        labels=LABELS,
        targets=LABELS,
        agreement=-1.0,
        divergence="reverse_kl",
        teacher_divergence="forward_kl",
    )
    kept = LABELS != -100
    read = frozen(parts["student_head"])(parts["to_student"])[kept]
    torch.testing.assert_close(found.projector, F.cross_entropy(read, LABELS[kept]))
    torch.testing.assert_close(
        found.student_space, written_out(parts, LABELS, False, divergence="reverse_kl")[0]
    )
    torch.testing.assert_close(found.teacher_space, written_out(parts, LABELS)[2])


def test_divisor_over_processes() -> None:
    parts = states()
    alone = dual_space(**parts, labels=LABELS)
    shared = dual_space(**parts, labels=LABELS, total=lambda agreed: agreed * 3)
    torch.testing.assert_close(shared.student_space * 3, alone.student_space)


def test_nothing_counts() -> None:
    parts = states()
    found = dual_space(**parts, labels=torch.full_like(LABELS, -100))
    slopes = gradient(sum(found[:3]), *trained(parts))
    assert all(term == 0 for term in found)
    assert all((slope == 0).all() for slope in slopes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"to_student": draw(2, 5, 6)}, "widths 4, 6, 4, 6"),
        ({"teacher": draw(2, 4, 6)}, "the states do not fit"),
        ({"labels": LABELS[:1]}, "shift them first"),
        ({"num_items": 0}, "num_items"),
        ({"divergence": "kl"}, "forward_kl"),
    ],
)
def test_wrong_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ShapeError, ConfigError), match=message):
        dual_space(**{**states(), "labels": LABELS, **change})


def test_heads_of_other_lengths() -> None:
    with pytest.raises(ShapeError, match="shared tokens"):
        projector_start(draw(5, 2), draw(6, 2))
