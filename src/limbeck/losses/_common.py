"""What every loss shares: checks, precision, labels, and a value that carries its own gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ConfigError, ShapeError, suggest
from ..shapes import IGNORE

Reduction = Literal["mean", "sum", "none"]


def pair(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Detached ``(N, C)`` logits of both networks in one precision, float32 at least.

    Raises:
        ShapeError: the two are not matrices of one shape; both shapes are named.
    """
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ShapeError(
            "student and teacher logits do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="the same (N, C) for both",
            fix="flatten pixels or tokens to rows, and use a teacher with the student's classes",
        )
    return wide(student, teacher.dtype), wide(teacher, student.dtype)


def wide(x: Tensor, other: torch.dtype = torch.float32) -> Tensor:
    """Detached, in the wider of its own and the other precision, float32 at least."""
    x, own = x.detach(), x.dtype
    if own is other and (own is torch.float32 or own is torch.float64):
        return x
    return x.to(torch.promote_types(torch.promote_types(own, other), torch.float32))


def rows_and_classes(student: Tensor) -> None:
    """Refuse logits that are no matrix."""
    if student.dim() != 2:
        raise ShapeError("the logits are no matrix", got=tuple(student.shape), expected="(N, C)")


def soft(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature."""
    return torch.log_softmax(logits if temperature == 1 else logits / temperature, 1)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities at a temperature."""
    return torch.softmax(logits if temperature == 1 else logits / temperature, 1)


def exponentials(log: Tensor, out: Tensor | None = None) -> Tensor:
    """Probabilities of log-probabilities: what ``exp`` gives, from a kernel that is faster and no less exact."""
    return torch.softmax(log, 1) if out is None else torch.softmax(log, 1, out=out)


def divergence(log_s: Tensor, log_t: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
    """What adds up to each row's KL ``(N, C)``, and ``p^s - p^t``; both arguments are overwritten.

    The terms are ``p^t (log p^t - log p^s) + (p^s - p^t)``. The second part adds up to 0, but term
    by term it takes away the rounding of the first. At a high temperature T^2 magnifies what is left;
    ``precise`` then takes ``p^s - p^t`` from ``expm1``, which keeps float32's precision.
    """
    if precise:
        larger = torch.maximum(log_s, log_t).exp_()
        log_s -= log_t
        difference = log_s.abs().neg_().expm1_().mul_(larger).copysign_(log_s)
        p = log_t.exp_()
    else:
        p = exponentials(log_t)
        difference = exponentials(log_s).sub_(p)
        log_s -= log_t
    return torch.addcmul(difference, p, log_s, value=-1, out=p), difference


def through_softmax(probability: Tensor, gradient: Tensor, temperature: float = 1.0) -> Tensor:
    """Turn, in place, a gradient for ``softmax(z / T)`` into one for ``z``."""
    if gradient.is_contiguous():
        torch._softmax_backward_data(gradient, probability, 1, gradient.dtype, grad_input=gradient)
    else:
        gradient *= probability
        gradient.addcmul_(probability, gradient.sum(1, keepdim=True), value=-1)
    return gradient.div_(temperature) if temperature != 1 else gradient


def squares(x: Tensor) -> Tensor:
    """Sum of squares: row by row, for a single sum over a large tensor is rounded too often."""
    if x.dim() != 2:
        x = x.flatten(1) if x.dim() > 2 else x[None]
    total: Tensor = torch.linalg.vector_norm(x, dim=1).square_().sum()
    return total


class _Known(torch.autograd.Function):
    """A value whose gradient is known in closed form.

    Both come in a tuple, and so as nothing that the graph would have to look after.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, found: tuple[Tensor, Tensor], slope: float, weights: Tensor | None
    ) -> Tensor:
        value, gradient = found
        ctx.save_for_backward(gradient)
        ctx.dtype, ctx.slope, ctx.weights = student.dtype, slope, weights
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        # Without a graph to make there is nothing to guard, and the guard costs as much as a small loss.
        return (_guarded if torch.is_grad_enabled() else _scaled)(ctx, upstream), None, None, None


def _scaled(ctx: Any, upstream: Tensor) -> Tensor:
    (gradient,) = ctx.saved_tensors
    found = times(gradient, upstream, ctx.slope, ctx.weights)
    return found if found.dtype == ctx.dtype else found.to(ctx.dtype)


_guarded = once_differentiable(_scaled)
_applied: Callable[..., Tensor] = super(torch.autograd.Function, _Known).apply
"""``_Known.apply`` without its care for functorch, which costs as much as a pass over a small batch."""


class _KnownOfAll(torch.autograd.Function):
    """The same for a value of several tensors: in the tuple are the value and their gradients."""

    @staticmethod
    def forward(
        ctx: Any, found: tuple[Tensor, Sequence[Tensor]], slope: float | Tensor, *students: Tensor
    ) -> Tensor:
        value, gradients = found
        ctx.save_for_backward(*gradients)
        ctx.dtypes, ctx.slope = [x.dtype for x in students], slope
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (_all_guarded if torch.is_grad_enabled() else _all_scaled)(ctx, upstream)


def _all_scaled(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    found = [
        times(g, upstream, ctx.slope).to(dtype)
        for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    ]
    return None, None, *found


_all_guarded = once_differentiable(_all_scaled)
_kept: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
"""Whether the graph that is being walked back will be walked again (``retain_graph``)."""


def times(
    gradient: Tensor, upstream: Tensor, slope: float | Tensor = 1.0, weights: Tensor | None = None
) -> Tensor:
    """In a backward pass: a saved gradient times what stands upstream, a slope, and a weight for each row.

    It is multiplied in place, or not at all, where nobody will ask for it again.

    Args:
        gradient: what ``forward`` saved; nothing else may refer to its memory.
        upstream: a scalar, or one number for each row ``(N,)``.
        slope: a number.
        weights: ``(N, 1)``, or None for 1.
    """
    factor: float | Tensor
    if upstream.is_cpu and not upstream.dim() and not isinstance(slope, Tensor):
        factor = upstream.item() * slope
        if weights is not None:
            factor = weights if factor == 1 else weights * factor
        elif factor == 1 and not _kept():
            return gradient
    else:
        factor = upstream.reshape(-1, *[1] * (gradient.dim() - 1)) if upstream.dim() else upstream
        factor = factor * slope if weights is None else factor * weights * slope
    return gradient * factor if _kept() else gradient.mul_(factor)


def exact(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which matrix products keep the precision of their arguments, whatever autocast says."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def wants_gradient(student: Tensor) -> bool:
    """Whether a gradient has to be computed at all."""
    return student.requires_grad and torch.is_grad_enabled()


def known(
    student: Tensor,
    value: Tensor,
    gradient: Tensor | None,
    slope: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Give ``value`` the gradient ``gradient`` (shape of ``student``) with respect to ``student``.

    A ``slope`` and ``weights``, one for each row ``(N, 1)``, multiply it on the way back: together with what
    arrives there, so they cost no pass of their own.

    The closed form spares the recorded graph: one saved tensor, no second softmax. It can be
    differentiated once; asking for a second derivative raises. ``value`` and ``gradient`` are given away.
    """
    if gradient is None:
        return value
    apply: Any = _Known.apply if torch._C._are_functorch_transforms_active() else _applied
    return apply(student, (value, gradient), slope, weights)  # type: ignore[no-any-return]


def known_of_all(
    students: Sequence[Tensor], value: Tensor, gradients: Sequence[Tensor], slope: float | Tensor
) -> Tensor:
    """``known`` for a scalar of several tensors, each with its gradient; ``slope`` multiplies all."""
    if not students:
        return value
    return _KnownOfAll.apply((value, gradients), slope, *students)  # type: ignore[no-any-return, no-untyped-call]


def reduced(
    student: Tensor,
    rows: Tensor,
    gradient: Tensor,
    reduction: Reduction,
    *,
    scale: float = 1.0,
    slope: float = 1.0,
    weights: Tensor | None = None,
    given: Tensor | None = None,
) -> Tensor:
    """Reduce row values and give the result its gradient.

    Args:
        student: what is differentiated, ``(N, C)``.
        rows: the value of each row ``(N,)``, or what adds up to it ``(N, C)``, still to be multiplied by
            ``scale``; changed in place.
        gradient: the gradient of each row's value ``(N, C)``, still to be multiplied by ``slope``; changed
            in place.
        reduction: ``mean``, ``sum`` or ``none``.
        scale: factor on the values.
        slope: factor on the gradients.
        weights: factor ``(N, 1)`` of each row, on both; None for 1.
        given: rows that count, None for all; the mean is over them.
    """
    if rows.dim() > 1 and (reduction == "none" or weights is not None or given is not None):
        rows = rows.sum(1)
    count = rows.shape[0]
    if given is not None:
        rows.masked_fill_(~given, 0.0)
        gradient.masked_fill_(~given[:, None], 0.0)
        weights = None if weights is None else weights.masked_fill(~given[:, None], 0.0)
    if reduction == "none":
        value = (rows if weights is None else rows.mul_(weights.squeeze(1))).mul_(scale)
    else:
        total = rows.sum() if weights is None else rows.dot(weights.squeeze(1).to(rows.dtype))
        if reduction == "sum":
            value = total.mul_(scale)
        elif given is None:
            value, slope = total.mul_(scale / max(count, 1)), slope / max(count, 1)
        else:
            labelled = given.sum().clamp_(min=1)
            value = total * scale / labelled
            gradient.div_(labelled)
    return known(student, value, gradient if wants_gradient(student) else None, slope, weights)


def nothing(student: Tensor, reduction: Reduction = "mean") -> Tensor:
    """A 0 (one for each row with ``none``) that is connected to the student's graph."""
    zeros = torch.zeros_like(student.detach(), dtype=torch.promote_types(student.dtype, torch.float32))
    return reduced(student, zeros.sum(1), zeros, reduction)


def targets(labels: Tensor, rows: int, classes: int) -> tuple[Tensor, Tensor | None]:
    """Labels fit for indexing, and which rows have one (None: all, as far as is known without waiting).

    Raises:
        ShapeError: not one label per row, or a label that is no class and not IGNORE.
    """
    if labels.shape != (rows,):
        raise ShapeError("labels do not fit the logits", got=tuple(labels.shape), expected=f"({rows},)")
    labels = labels.long()
    if rows and not labels.is_cuda:
        low, high = torch.aminmax(labels)
        if low.item() >= 0 and high.item() < classes:
            return labels, None
        wrong = labels[((labels < 0) & (labels != IGNORE)) | (labels >= classes)]
        if len(wrong):
            raise ShapeError(
                "a label is not one of the classes",
                got=int(wrong[0]),
                expected=f"0 to {classes - 1}, or {IGNORE} for a row without label",
                fix="use a network with as many classes as the data has",
            )
    given = labels != IGNORE
    return labels.where(given, 0), given


Degenerate = Literal["skip", "published"]
"""What a vector of length 0, which has no direction, gets: no gradient, or one divided by 1e-12."""


DEGENERATE = ("skip", "published")


def check_reduction(reduction: str) -> None:
    """Refuse an unknown reduction."""
    choice("reduction", reduction, ("mean", "sum", "none"))


def choice(name: str, value: str, known_values: Sequence[str]) -> None:
    """Refuse a value that is not one of the known ones."""
    if value not in known_values:
        raise ConfigError(
            f"{name} is not valid", got=repr(value), expected=suggest(str(value), tuple(known_values))
        )


def positive(**values: float | int) -> None:
    """Refuse values that are not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name} is not valid", got=value, expected="a number above 0")
