"""Token divergences: dense, sparse, and from hidden states in pieces."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import (
    Head,
    chunked_cross_entropy,
    chunked_divergence,
    chunked_sparse_divergence,
    sampled_targets,
    sparse_divergence,
    token_divergence,
    top_k_targets,
)
from limbeck.losses._divergences import DIVERGENCES

KINDS = sorted(DIVERGENCES)
SPARSE = [kind for kind in KINDS if kind != "uld"]
FIXED = ("adaptive_kl", "skew_reverse_kl_fixed")  # a part of them is not differentiated
SMOOTH = [kind for kind in KINDS if kind not in FIXED]
double = torch.float64


def draw(*shape: int, scale: float = 1.0, dtype: torch.dtype = double, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * scale


def transcribed(kind: str, student: Tensor, teacher: Tensor, beta: float, alpha: float, mu: float) -> Tensor:
    """The table of the docstring, one row after the other, from probabilities."""
    p, q = teacher.softmax(-1), student.softmax(-1)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum(-1)

    m = beta * p + (1 - beta) * q
    if kind == "adaptive_kl":
        found = []
        for p_row, q_row in zip(p, q, strict=True):
            mass, tail = 0.0, torch.zeros_like(p_row)
            for i in p_row.argsort().tolist():
                mass += float(p_row[i])
                tail[i] = float(mass <= mu)
            gap = (p_row - q_row).abs().detach()
            far, near = (gap * tail).sum() / gap.sum(), (gap * (1 - tail)).sum() / gap.sum()
            found.append(near * kl(p_row, q_row) + far * kl(q_row, p_row))
        return torch.stack(found)
    return {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jsd": lambda: beta * kl(p, m) + (1 - beta) * kl(q, m),
        "skew_kl": lambda: kl(p, alpha * p + (1 - alpha) * q),
        "skew_reverse_kl": lambda: kl(q, (1 - alpha) * p + alpha * q),
        "skew_reverse_kl_fixed": lambda: kl(q, ((1 - alpha) * p + alpha * q).detach()),
        "total_variation": lambda: (p - q).abs().sum(-1) / 2,
        "uld": lambda: (p.sort().values - q.sort().values).abs().sum(-1),
    }[kind]()


def gradient(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_table(kind: str, temperature: float) -> None:
    student, teacher = draw(7, 9).requires_grad_(), draw(7, 9, seed=1)
    constants = {"beta": 0.3, "alpha": 0.2, "mu": 0.4}
    options: dict[str, Any] = {"divergence": kind, "temperature": temperature, **constants}
    expected = transcribed(kind, student / temperature, teacher / temperature, **constants).mean()
    slope = gradient(expected, student)[0]
    for scale, factor in ((False, 1.0), (True, temperature**2)):
        got = token_divergence(student, teacher, scale=scale, **options)
        torch.testing.assert_close(got, expected * factor)
        torch.testing.assert_close(gradient(got, student)[0], slope * factor)


@pytest.mark.parametrize("kind", SMOOTH)
def test_numerical_gradient(kind: str) -> None:
    student, teacher = draw(3, 6).requires_grad_(), draw(3, 6, seed=1)
    assert torch.autograd.gradcheck(
        lambda x: token_divergence(x, teacher, divergence=kind, temperature=2.0, reduction="none"), student
    )


def test_jsd_at_its_ends() -> None:
    student, teacher = draw(4, 5), draw(4, 5, seed=1)
    for beta, kind in ((0.0, "forward_kl"), (1.0, "reverse_kl")):
        torch.testing.assert_close(
            token_divergence(student, teacher, divergence="jsd", beta=beta),
            token_divergence(student, teacher, divergence=kind),
        )
    light = token_divergence(student, teacher, divergence="jsd", beta=0.1)
    mirrored = token_divergence(teacher, student, divergence="jsd", beta=0.9)
    torch.testing.assert_close(light, mirrored)  # beta is the teacher's weight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [60.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_for_large_logits(kind: str, scale: float, dtype: torch.dtype) -> None:
    student = draw(8, 12, scale=scale, dtype=torch.float32).to(dtype).requires_grad_()
    value = token_divergence(student, draw(8, 12, scale=scale, dtype=torch.float32, seed=1), divergence=kind)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_both_rule_out_change_nothing(kind: str) -> None:
    student, teacher = draw(5, 8), draw(5, 8, seed=1)
    holed = [
        torch.cat([x[:, :3], torch.full((5, 2), -math.inf, dtype=double), x[:, 3:]], 1)
        for x in (student, teacher)
    ]
    whole, part = student.requires_grad_(), holed[0].requires_grad_()
    a = token_divergence(whole, teacher, divergence=kind)
    b = token_divergence(part, holed[1], divergence=kind)
    torch.testing.assert_close(a, b)
    (expected,), (got,) = gradient(a, whole), gradient(b, part)
    torch.testing.assert_close(got[:, [0, 1, 2, 5, 6, 7, 8, 9]], expected)
    assert (got[:, 3:5] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_one_model_rules_out_is_finite(kind: str) -> None:
    for first, second in ((draw(2, 4), draw(2, 4, seed=1)), (draw(2, 4, seed=1), draw(2, 4))):
        first[:, 1] = -math.inf
        for student, teacher in ((first, second), (second, first)):
            own = student.clone().requires_grad_()
            value = token_divergence(own, teacher, divergence=kind)
            assert value.isfinite()
            assert gradient(value, own)[0].isfinite().all()


def test_a_fault_stays_visible() -> None:
    broken = draw(2, 4)
    broken[0, 0] = math.nan
    for kind in KINDS:
        assert token_divergence(broken, draw(2, 4), divergence=kind).isnan()


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_itself(kind: str) -> None:
    teacher = draw(4, 6, scale=3)
    student = teacher.clone().requires_grad_()
    value = token_divergence(student, teacher, divergence=kind)
    assert value.abs() < 1e-12
    assert float(gradient(value, student)[0].abs().max()) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_labels_choose_positions(kind: str) -> None:
    student, teacher = draw(2, 5, 6).requires_grad_(), draw(2, 5, 6, seed=1)
    student.data[1, 4] = math.nan  # padding may hold anything
    labels = torch.tensor([[1, -100, 2, 3, -100], [4, 0, -100, 5, -100]])
    rows = token_divergence(student, teacher, labels, divergence=kind, reduction="none")
    assert rows.shape == labels.shape
    assert (rows[labels == -100] == 0).all()
    kept = (student[labels != -100], teacher[labels != -100])
    total = token_divergence(*kept, divergence=kind, reduction="sum")
    torch.testing.assert_close(rows.sum(), total)
    mean = token_divergence(student, teacher, labels, divergence=kind)
    torch.testing.assert_close(mean, total / 6)
    torch.testing.assert_close(
        token_divergence(student, teacher, labels, divergence=kind, num_items=24), total / 24
    )
    slope = gradient(mean, student)[0]
    assert (slope[labels == -100] == 0).all()
    moved = token_divergence(student, teacher, labels.roll(1, 1), divergence=kind)
    assert not torch.allclose(moved, mean)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_learn_from(kind: str) -> None:
    student, none = draw(2, 3, 5).requires_grad_(), torch.full((2, 3), -100)
    value = token_divergence(student, draw(2, 3, 5, seed=1), none, divergence=kind)
    value.backward()
    assert value == 0
    assert student.grad is not None
    assert (student.grad == 0).all()
    hidden = draw(2, 3, 4).requires_grad_()
    head = Head(draw(5, 4).requires_grad_())
    for loss in (
        chunked_divergence(hidden, head, draw(2, 3, 4), head, none, divergence=kind),
        chunked_cross_entropy(hidden, head, none),
    ):
        assert loss == 0
        assert all((g == 0).all() for g in gradient(loss, hidden, head.weight))


def test_uld_compares_any_vocabularies() -> None:
    student, teacher = draw(3, 7).requires_grad_(), draw(3, 4, seed=1)
    padded = torch.cat([teacher.softmax(1), torch.zeros(3, 3)], 1)
    expected = (student.softmax(1).sort(1).values - padded.sort(1).values).abs().sum(1).mean()
    got = token_divergence(student, teacher, divergence="uld")
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradient(got, student), gradient(expected, student))
    torch.testing.assert_close(token_divergence(teacher, student, divergence="uld"), expected.detach())


# ---------------------------------------------------------------------------------------- pieces of hidden states

HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.6},
    "softcap": {"softcap": 2.5, "bias": True},
}


def heads(kind: str) -> tuple[Head, Head]:
    options = dict(HEADS[kind])
    bias = draw(9, seed=4).requires_grad_() if options.pop("bias", False) else None
    return Head(draw(9, 4, seed=2).requires_grad_(), bias, **options), Head(draw(9, 6, seed=3), **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("chunk", [1, 3, 100, None])
def test_pieces_are_the_whole(kind: str, head: str, chunk: int | None) -> None:
    mine, theirs = heads(head)
    hidden, other = draw(2, 5, 4).requires_grad_(), draw(2, 5, 6, seed=1)
    labels = torch.tensor([[1, -100, 2, 3, -100], [4, 0, 5, 5, 7]])
    trained = [x for x in (hidden, mine.weight, mine.bias) if x is not None]
    for options in ({}, {"temperature": 2.0, "scale": True, "num_items": 5, "weights": draw(2, 5).abs()}):
        whole = token_divergence(mine(hidden), theirs(other), labels, divergence=kind, **options)
        pieces = chunked_divergence(
            hidden, mine, other, theirs, labels, divergence=kind, chunk=chunk, **options
        )
        torch.testing.assert_close(pieces, whole)
        torch.testing.assert_close(gradient(3 * pieces, *trained), gradient(3 * whole, *trained))


@pytest.mark.parametrize("head", HEADS)
def test_cross_entropy_in_pieces(head: str) -> None:
    mine, _ = heads(head)
    hidden, labels = draw(7, 4).requires_grad_(), torch.tensor([1, -100, 2, 8, -100, 0, 3])
    trained = [x for x in (hidden, mine.weight, mine.bias) if x is not None]
    whole, pieces = (
        F.cross_entropy(mine(hidden), labels),
        chunked_cross_entropy(hidden, mine, labels, chunk=2),
    )
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(gradient(pieces, *trained), gradient(whole, *trained))


def test_tied_embeddings() -> None:
    table, ids = draw(9, 4).requires_grad_(), torch.tensor([0, 3, 3, 8])
    theirs, other = Head(draw(9, 6, seed=3)), draw(4, 6, seed=1)
    pieces = chunked_divergence(torch.tanh(table[ids]), Head(table), other, theirs, chunk=2)
    whole = token_divergence(Head(table)(torch.tanh(table[ids])), theirs(other))
    torch.testing.assert_close(gradient(pieces, table), gradient(whole, table))


def test_one_weight_for_both_sides() -> None:
    """The student's head reads projected teacher states: only the student's side moves it."""
    weight, hidden = draw(9, 4).requires_grad_(), draw(5, 4).requires_grad_()
    other = draw(5, 4, seed=1).requires_grad_()
    value = chunked_divergence(hidden, Head(weight), other, Head(weight), chunk=2)
    whole = token_divergence(Head(weight)(hidden), Head(weight.detach())(other.detach()))
    torch.testing.assert_close(gradient(value, hidden, weight), gradient(whole, hidden, weight))
    assert torch.autograd.grad(
        chunked_divergence(hidden, Head(weight), other, Head(weight)), other, allow_unused=True
    ) == (None,)


def test_frozen_head_trains_what_is_before_it() -> None:
    hidden, frozen, other = draw(5, 4).requires_grad_(), Head(draw(9, 4, seed=2)), draw(5, 6)
    value = chunked_divergence(hidden, frozen, other, Head(draw(9, 6)), chunk=2)
    assert gradient(value, hidden)[0].abs().sum() > 0
    with torch.no_grad():
        still = chunked_divergence(hidden, frozen, other, Head(draw(9, 6)))
    assert not still.requires_grad
    torch.testing.assert_close(still, value.detach())


def test_autocast() -> None:
    hidden, weight, other, theirs = (draw(n, 8, seed=seed).float() for seed, n in enumerate((6, 20, 6, 20)))
    trained = hidden.requires_grad_(), weight.requires_grad_()
    full = chunked_divergence(hidden, Head(weight), other, Head(theirs), chunk=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = token_divergence(Head(weight)(hidden), Head(theirs)(other))
        pieces = chunked_divergence(hidden, Head(weight), other, Head(theirs), chunk=4)
    assert pieces.dtype == torch.float32
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)
    assert not torch.equal(pieces, full)  # the matrix products did run in bfloat16
    for got, expected in zip(gradient(pieces, *trained), gradient(whole, *trained), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-4)


def test_logits_are_never_held() -> None:
    from benchmarks._pairs import peak_memory

    positions, classes, width = 512, 4000, 8
    hidden = draw(positions, width).float().requires_grad_()
    head, theirs = (
        Head(draw(classes, width).float().requires_grad_()),
        Head(draw(classes, width, seed=1).float()),
    )
    peak = peak_memory(
        lambda: chunked_divergence(
            hidden, head, hidden.detach(), theirs, divergence="jsd", chunk=32
        ).backward()
    )
    assert peak < positions * classes * 4


# ------------------------------------------------------------------------------------------------- sparse teachers


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("tail", ["bucket", "lump", "renormalise"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_entries_are_the_dense_loss(kind: str, tail: Any, temperature: float) -> None:
    student, teacher = draw(4, 7).requires_grad_(), draw(4, 7, seed=1)
    options: dict[str, Any] = {"divergence": kind, "temperature": temperature}
    sparse = sparse_divergence(student, *top_k_targets(teacher, 99), tail=tail, **options)
    dense = token_divergence(student, teacher, **options)
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(gradient(sparse, student), gradient(dense, student))


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("tail", ["bucket", "lump", "renormalise", "none"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_entries_and_the_rest(kind: str, tail: Any, temperature: float) -> None:
    """Against a dense comparison of K + 1 classes."""
    if tail == "none" and (kind, temperature) != ("forward_kl", 1.0):
        with pytest.raises(ConfigError, match="tail='none'"):
            sparse_divergence(
                draw(1, 3), *top_k_targets(draw(1, 3), 1), divergence=kind, tail=tail, temperature=temperature
            )
        return
    student, teacher = draw(4, 7).requires_grad_(), draw(4, 7, seed=1)
    ids, log_probs = top_k_targets(teacher, 3)
    q = (student / temperature).softmax(1)
    known = q.gather(1, ids)
    if tail == "none":
        expected = (log_probs.exp() * (log_probs - known.log())).sum(1).mean()
    else:
        left = 1 - log_probs.exp().sum(1, keepdim=True)
        parts = {"bucket": (left / 4).expand(4, 4), "lump": left, "renormalise": left[:, :0]}[tail]
        spread = torch.cat([log_probs, parts.log()], 1)
        p = (spread / temperature).softmax(1)
        lumped = torch.cat([p[:, :3], p[:, 3:].sum(1, keepdim=True).clamp(min=1e-300)], 1)
        both = torch.cat([known, 1 - known.sum(1, keepdim=True)], 1)
        expected = token_divergence(both.log(), lumped.log(), divergence=kind)
    got = sparse_divergence(student, ids, log_probs, divergence=kind, tail=tail, temperature=temperature)
    if tail == "renormalise" and kind in ("reverse_kl", "adaptive_kl"):
        assert got > 100  # the student believes in what the teacher rules out
        return
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradient(got, student), gradient(expected, student))


def test_entries_that_are_none() -> None:
    student, teacher = draw(3, 6).requires_grad_(), draw(3, 6, seed=1)
    ids, log_probs = top_k_targets(teacher, 2)
    more = (
        torch.cat([ids, torch.full_like(ids, -1)], 1),
        torch.cat([log_probs, torch.zeros_like(log_probs)], 1),
    )
    for kind in SPARSE:
        a = sparse_divergence(student, ids, log_probs, divergence=kind)
        b = sparse_divergence(student, *more, divergence=kind)
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(gradient(a, student), gradient(b, student))


def test_sparse_in_pieces() -> None:
    hidden, head = draw(2, 5, 4).requires_grad_(), Head(draw(9, 4).requires_grad_(), softcap=3.0)
    labels = torch.tensor([[1, -100, 2, 3, -100], [4, 0, 5, 5, 7]])
    ids, log_probs = top_k_targets(draw(2, 5, 9, seed=1), 3)
    for kind in SPARSE:
        whole = sparse_divergence(head(hidden), ids, log_probs, labels, divergence=kind)
        pieces = chunked_sparse_divergence(hidden, head, ids, log_probs, labels, divergence=kind, chunk=3)
        torch.testing.assert_close(pieces, whole)
        torch.testing.assert_close(
            gradient(pieces, hidden, head.weight), gradient(whole, hidden, head.weight)
        )


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_sampled_targets_are_right_on_average(gamma: float) -> None:
    teacher, rows = draw(1, 6), 20_000
    generator = torch.Generator().manual_seed(0)
    ids, shares = sampled_targets(teacher.expand(rows, 6), 40, gamma=gamma, generator=generator)
    for row, share in zip(ids[:20], shares[:20], strict=True):
        seen = row[row >= 0]
        assert len(seen.unique()) == len(seen)
        assert (share[row < 0] == -math.inf).all()
    torch.testing.assert_close(shares.exp().sum(1), torch.ones(rows, dtype=double))
    mean = torch.zeros(rows, 6, dtype=double).scatter_add(1, ids.clamp(min=0), shares.exp()).mean(0)
    torch.testing.assert_close(mean, teacher.softmax(1)[0], rtol=0, atol=3e-3)
    student = draw(1, 6, seed=1).requires_grad_()
    many = sparse_divergence(student.expand(rows, 6), ids, shares, tail="renormalise")
    torch.testing.assert_close(
        gradient(many, student), gradient(token_divergence(student, teacher), student), rtol=0, atol=3e-3
    )


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: token_divergence(draw(2, 3), draw(2, 4)), "vocabularies"),
        (lambda: token_divergence(draw(2, 3), draw(3, 3)), "the same positions"),
        (
            lambda: token_divergence(draw(2, 3), draw(2, 3), torch.zeros(3, dtype=torch.long)),
            "shift them first",
        ),
        (lambda: token_divergence(draw(2, 3), draw(2, 3), divergence="forwardkl"), "forward_kl"),
        (lambda: token_divergence(draw(2, 3), draw(2, 3), beta=1.5), "beta"),
        (lambda: token_divergence(draw(2, 3), draw(2, 3), temperature=0.0), "temperature"),
        (lambda: token_divergence(draw(2, 3), draw(2, 3), num_items=0), "num_items"),
        (
            lambda: chunked_cross_entropy(draw(2, 3), Head(draw(5, 3)), torch.zeros(2).long(), chunk=0),
            "chunk",
        ),
        (
            lambda: chunked_cross_entropy(
                draw(2, 3), Head(draw(5, 3)), torch.zeros(2).long(), reduction="none"
            ),
            "mean or sum",
        ),
        (lambda: sparse_divergence(draw(2, 3), torch.full((2, 1), 3), draw(2, 1)), "beyond the vocabulary"),
        (lambda: sparse_divergence(draw(2, 3), torch.zeros(2, 1).long(), draw(2, 2)), "do not fit"),
        (
            lambda: sparse_divergence(draw(2, 3), torch.zeros(2, 1).long(), draw(2, 1), divergence="uld"),
            "sorted vocabularies",
        ),
    ],
)
def test_wrong_input(call: Any, message: str) -> None:
    with pytest.raises((ShapeError, ConfigError), match=message):
        call()
