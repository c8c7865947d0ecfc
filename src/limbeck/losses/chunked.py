"""Token losses from hidden states and output heads, without ever holding all the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..errors import ConfigError, ShapeError
from ..shapes import Features, Value
from ._common import exact, times, wants_gradient, wide
from ._divergences import Found, chosen
from .tokens import Items, counted, per_item

Rows = Tensor | slice
"""Flat positions."""
Loss = Callable[[Tensor, Tensor | None, Rows], Found]
"""(student logits, teacher logits, flat rows) -> value of each row, or what adds up to it, and its gradient for the
student's logits."""
BYTES, ROWS = 16 * 2**20, 128
"""Size of one piece's logits when ``chunk`` is not given, and positions that it has at least: with fewer, reading a
large head for every piece costs more than the products do."""

TINY = 1e-30
"""Probabilities above it have all their digits in float32."""


@dataclass(frozen=True, slots=True)
class Head:
    """A language model's last layer: how hidden states become logits.

    Attributes:
        weight: ``(V, d)``; rows beyond a shared vocabulary may be cut off by slicing it.
        bias: ``(V,)``, or None.
        scale: factor on the logits.
        softcap: c of :math:`c \\tanh(z / c)`, applied last, or None.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits ``(..., V)`` of hidden states ``(..., d)``."""
        logits = linear(hidden, self.weight, self.bias)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def chunked_divergence(
    student: Features,
    student_head: Head,
    teacher: Features,
    teacher_head: Head,
    labels: Tensor | None = None,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    beta: float = 0.5,
    alpha: float = 0.1,
    mu: float = 0.5,
    scale: bool = False,
    weights: Tensor | None = None,
    reduction: str = "mean",
    num_items: Items | None = None,
    chunk: int | None = None,
) -> Value:
    r"""``token_divergence`` of what two heads say about two sets of hidden states.

    Equal to ``token_divergence(student_head(student), teacher_head(teacher), labels, ...)``. Positions go
    through the heads in pieces of ``chunk``; gradients for hidden states, weight and bias are found in the same
    pass, so that no logits are kept for the way back and none are computed twice. Memory beyond the gradients
    is a few times ``chunk * V`` numbers. Positions without a label never reach a head.

    Every divergence has its exact form here, those that sort the vocabulary too: a piece holds whole rows.

    Args:
        student: hidden states ``(N, d)`` or ``(B, T, d)``, the inputs of the head.
        student_head: its head; weight and bias are differentiated if they require it, tied ones too.
        teacher: hidden states of the same positions, of any width, never differentiated.
        teacher_head: its head, never differentiated.
        labels: ``(N,)`` or ``(B, T)``, already shifted, -100 leaves a position out.
        divergence, temperature, beta, alpha, mu, scale, weights, num_items: as for ``token_divergence``.
        reduction: ``mean`` or ``sum``.
        chunk: positions at a time; by default as many as give 16 MiB of float32 logits, and at least 128.

    Returns:
        A scalar.

    Raises:
        ShapeError: shapes or vocabularies differ.
        ConfigError: an option is not valid.

    Example:
        >>> hidden, other = torch.eye(3), torch.ones(3, 2)
        >>> mine, theirs = Head(torch.ones(5, 3).tril()), Head(torch.eye(5, 2))
        >>> chunked_divergence(hidden, mine, other, theirs, torch.tensor([1, -100, 2]), chunk=1)
        tensor(0.2977)
    """
    of = chosen(divergence, temperature, beta, alpha, mu, scale)
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ShapeError(
            "student and teacher hidden states do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="the same positions for both",
        )

    def loss(s: Tensor, t: Tensor | None, rows: Rows) -> Found:
        assert t is not None
        return of.raw(s, t)[:2]

    return _reduced(
        loss,
        student,
        student_head,
        (teacher, teacher_head),
        labels,
        weights,
        reduction,
        num_items,
        chunk,
        of.scales,
    )


def chunked_cross_entropy(
    hidden: Features,
    head: Head,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    reduction: str = "mean",
    num_items: Items | None = None,
    chunk: int | None = None,
) -> Value:
    r"""Cross-entropy of a head's next-token distribution, :math:`-\log q_y`, in pieces.

    Equal to ``torch.nn.functional.cross_entropy(head(hidden), labels)``, and 0 connected to the graph where no
    position has a label. Arguments as for ``chunked_divergence``.

    Raises:
        ShapeError: not one label for each position.
        ConfigError: an option is not valid.

    Example:
        >>> chunked_cross_entropy(torch.zeros(2, 3), Head(torch.ones(4, 3)), torch.tensor([0, -100]))
        tensor(1.3863)
    """
    flat = labels.flatten()

    def loss(s: Tensor, t: Tensor | None, rows: Rows) -> Found:
        return cross_entropy_rows(s, flat[rows])

    return _reduced(loss, hidden, head, None, labels, weights, reduction, num_items, chunk)


def _reduced(
    loss: Loss,
    hidden: Tensor,
    head: Head,
    other: tuple[Tensor, Head] | None,
    labels: Tensor | None,
    weights: Tensor | None,
    reduction: str,
    num_items: Items | None,
    chunk: int | None,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Sum or mean over the positions that count; ``scales`` multiply what ``loss`` finds."""
    if reduction not in ("mean", "sum"):
        raise ConfigError("reduction is not valid", got=repr(reduction), expected="mean or sum")
    if chunk is not None and chunk < 1:
        raise ConfigError("chunk is not valid", got=chunk, expected="a number of positions of at least 1")
    rows = counted(hidden.shape[:-1], labels)
    count = hidden.shape[:-1].numel() if rows is None else len(rows)
    share = 1.0 if reduction == "sum" else per_item(count, num_items)
    widest = max(len(h.weight) for h in (head, *([other[1]] if other else [])))
    work = _Work(
        loss,
        head,
        other,
        pieces(rows, count, chunk or length(widest)),
        None if weights is None else weights.detach().flatten(),
        (share * scales[0], share * scales[1]),
        tuple(x is not None and wants_gradient(x) for x in (hidden, head.weight, head.bias)),
    )
    return _Chunked.apply(hidden, head.weight, head.bias, work)  # type: ignore[no-any-return, no-untyped-call]


def length(classes: int) -> int:
    """Positions of a piece when nobody says how many."""
    return max(ROWS, BYTES // (4 * classes))


def pieces(rows: Tensor | None, count: int, chunk: int) -> list[Rows]:
    """The positions that count, ``chunk`` at a time: slices where all do."""
    if rows is not None:
        return list(torch.split(rows, chunk)) if count else []
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]


@dataclass(frozen=True, slots=True)
class _Work:
    loss: Loss
    head: Head
    other: tuple[Tensor, Head] | None
    pieces: list[Rows]
    weights: Tensor | None
    scales: tuple[float, float]
    wanted: tuple[bool, ...]


class _Chunked(torch.autograd.Function):
    """Value and gradients, one piece of positions after another."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: _Work) -> Tensor:
        flat, head = hidden.flatten(0, -2), cast(work.head)
        kind = torch.promote_types(flat.dtype, torch.float32)
        total = torch.zeros((), dtype=kind, device=hidden.device)
        # written as a whole: states where pieces are slices of all positions, the weight by the first piece
        filled = (isinstance(work.pieces[0], slice), True, False) if work.pieces else (False,) * 3
        found = [
            (torch.empty_like if full else torch.zeros_like)(x, dtype=kind)
            if x is not None and wanted
            else None
            for x, wanted, full in zip((flat, weight, bias), work.wanted, filled, strict=True)
        ]
        teacher = _asked(work.other)
        scale, share = work.scales
        with exact(hidden):
            for i, rows in enumerate(work.pieces):
                logits, slope = head_logits(flat[rows], head)
                value, gradient = work.loss(logits, teacher(rows), rows)
                if work.weights is not None:
                    value = value.sum(1) if value.dim() > 1 else value
                    value.mul_(work.weights[rows])
                    gradient.mul_(work.weights[rows][:, None])
                total += value.sum()
                if any(work.wanted):
                    add_gradients(found, rows, gradient, slope, flat[rows], head, share, first=i == 0)
        ctx.save_for_backward(*found)
        ctx.shape, ctx.dtypes = hidden.shape, [None if x is None else x.dtype for x in (hidden, weight, bias)]
        return total * scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (_guarded if torch.is_grad_enabled() else _scaled)(ctx, upstream)


def _scaled(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    out = [
        None if x is None else times(x, upstream).to(dtype)
        for x, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    ]
    return out[0] if out[0] is None else out[0].view(ctx.shape), out[1], out[2], None


_guarded = torch.autograd.function.once_differentiable(_scaled)


def _asked(other: tuple[Tensor, Head] | None) -> Callable[[Rows], Tensor | None]:
    """What gives the teacher's logits at some positions."""
    if other is None:
        return lambda rows: None
    flat, head = other[0].detach().flatten(0, -2), cast(other[1])
    return lambda rows: head_logits(flat[rows], head)[0]


def cross_entropy_rows(logits: Tensor, target: Tensor) -> Found:
    """Cross-entropy of each row and its gradient, from detached logits, which stay as they are."""
    p, column = torch.softmax(logits, 1), target[:, None]
    chosen = p.gather(1, column).squeeze(1)
    if logits.is_cpu and bool((chosen > TINY).all()):
        value = chosen.log_().neg_()
    else:  # the likeliest class has p = 1 / sum exp(z - max), never below 1 / V: its logarithm is exact enough for all
        value = (logits.amax(1) - logits.gather(1, column).squeeze(1)).sub_(p.amax(1).log_())
    return value, p.scatter_(1, column, -1.0, reduce="add")


def cast(head: Head) -> Head:
    """A detached head in the precision of autocast, where it is on; call it once for all pieces."""
    weight, bias = head.weight.detach(), head.bias
    if torch.is_autocast_enabled(weight.device.type):
        weight = weight.to(torch.get_autocast_dtype(weight.device.type))
    return Head(weight, None if bias is None else bias.detach(), head.scale, head.softcap)


def head_logits(hidden: Tensor, head: Head) -> tuple[Tensor, Tensor | None]:
    """Logits of detached states in float32 at least, and the slope of the soft cap."""
    logits = wide(hidden.detach().to(head.weight.dtype) @ head.weight.T)
    if head.bias is not None:
        logits += head.bias
    if head.scale != 1:
        logits *= head.scale
    if head.softcap is None:
        return logits, None
    capped = logits.div_(head.softcap).tanh_()
    slope = 1 - capped.square()
    return capped.mul_(head.softcap), slope


def add_gradients(
    found: list[Tensor | None],
    rows: Rows,
    gradient: Tensor,
    slope: Tensor | None,
    piece: Tensor,
    head: Head,
    share: float = 1.0,
    first: bool = False,
) -> None:
    """Write what a gradient for a piece's logits, which it overwrites, means for states, add it for weight and bias.

    ``share`` multiplies it: on the way, where that costs nothing, but before it is rounded to a lower precision. The
    ``first`` piece overwrites the weight's.
    """
    states, weight, bias = found
    share *= head.scale
    if slope is not None:
        gradient *= slope
    if gradient.dtype != head.weight.dtype:
        gradient, share = gradient.mul_(share), 1.0
    if bias is not None:
        bias.add_(gradient.sum(0), alpha=share)
    low = gradient.to(head.weight.dtype)
    if states is not None:
        if isinstance(rows, slice) and low.dtype == states.dtype:
            states[rows].addmm_(low, head.weight, beta=0, alpha=share)
        else:
            states[rows] = (low @ head.weight).to(states.dtype).mul_(share)
    if weight is not None:
        piece = piece.detach().to(low.dtype)
        if low.dtype == weight.dtype:
            weight.addmm_(low.T, piece, beta=0 if first else 1, alpha=share)
        elif first:
            torch.mul(low.T @ piece, share, out=weight)
        else:
            weight.add_(low.T @ piece, alpha=share)


__all__ = ["Head", "chunked_cross_entropy", "chunked_divergence"]
