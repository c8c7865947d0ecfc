"""DSKD: both models' distributions from one head, in the student's space and in the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..shapes import IGNORE, Features, Value
from ._common import exact, times, wants_gradient, wide
from ._divergences import Divergence, chosen
from .chunked import Head, Rows, add_gradients, cast, cross_entropy_rows, head_logits, length, pieces
from .tokens import Items, counted


class DualSpace(NamedTuple):
    """The terms of ``dual_space``, and what was counted.

    Attributes:
        student_space: pulls the student to the teacher's states as the student's head reads them.
        projector: trains the way from the teacher's space to the student's.
        teacher_space: pulls the student's states, as the teacher's head reads them, to the teacher.
        agreed: tokens at which the projected teacher says what the teacher says.
        known: tokens that count.
    """

    student_space: Value
    projector: Value
    teacher_space: Value
    agreed: Tensor
    known: Tensor


def dual_space(
    student: Features,
    student_head: Head,
    teacher: Features,
    teacher_head: Head,
    to_student: Features,
    to_teacher: Features,
    labels: Tensor | None = None,
    *,
    targets: Tensor | None = None,
    translate: Tensor | None = None,
    agreement: float = 1.0,
    divergence: str = "forward_kl",
    teacher_divergence: str | None = None,
    temperature: float = 1.0,
    beta: float = 0.5,
    alpha: float = 0.1,
    mu: float = 0.5,
    scale: bool = False,
    num_items: Items | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
    chunk: int | None = None,
) -> DualSpace:
    r"""Three terms per token, for hidden states :math:`h^s, h^t`, heads W and projected states u, v.

    With :math:`z^{t2s} = W^s u`, where u is the teacher's state in the student's space, :math:`z^{s2t} = W^t v`,
    where v is the student's state in the teacher's, and the teacher's own choice :math:`a = \arg\max z^t`:

    ================= ===================================================================================
    ``student_space`` :math:`\frac1{\sum g} \sum_i g_i D(z^s_i, z^{t2s}_i)`, trains the student and its head; g is
                      1 where :math:`\arg\max z^{t2s} = a`
    ``projector``     :math:`\frac1N \sum_i CE(z^{t2s}_i, a_i)`, trains u alone
    ``teacher_space`` :math:`\frac1N \sum_i D(z^{s2t}_i, z^t_i)`, trains v alone, and through it the student
    ================= ===================================================================================

    No gradient reaches the teacher, its head, or the student's head through :math:`z^{t2s}`. Logits are made in
    pieces of ``chunk`` tokens, each of the four once, and none are kept.

    Args:
        student: ``(..., d)``, inputs of the student's head.
        student_head: ``(V, d)``; weight and bias are trained by ``student_space``.
        teacher: ``(..., D)`` of the same positions.
        teacher_head: ``(V', D)``, never trained. V' may differ: the spaces are compared one by one.
        to_student: u ``(..., d)``, from the trained projector of detached teacher states.
        to_teacher: v ``(..., D)``, from the student's states.
        labels: already shifted, -100 leaves a position out; None counts every one.
        targets: of ``projector`` and of the agreement instead of a, shape of ``labels``, in the student's
            vocabulary; the first version of DSKD takes the ground truth.
        translate: ``(V',)``, for each of the teacher's tokens the student's, -100 where there is none. Positions
            whose a has none are left out of all three terms.
        agreement: g is used where the share of agreed tokens is at most this: 1 is always, -1 never (the mean
            is then over N).
        divergence: D, as for ``token_divergence``; in ``teacher_space`` the student's distribution is
            :math:`z^{s2t}`.
        teacher_divergence: another D for ``teacher_space``; the first version of DSKD takes forward KL.
        temperature, beta, alpha, mu, scale: of D. No :math:`T^2` in the released code.
        num_items: N instead of the number of positions that count here.
        total: turns this process's :math:`\sum g` into the divisor of ``student_space``, such as the mean over
            processes; by default the number itself.
        chunk: tokens at a time; by default as many as give 16 MiB of float32 logits, and at least 128.

    Returns:
        The three terms, each 0 and connected to the graph where nothing counts.

    Raises:
        ShapeError: shapes do not fit.
        ConfigError: an option is not valid.

    Source:
        DSKDv2, arXiv:2504.11426, checked against the released code; first version arXiv:2406.17328. Deviation:
        the share of agreed tokens is over the positions counted here, not over ``num_items``.

    Example:
        >>> states, head = torch.eye(3), Head(torch.eye(3))
        >>> found = dual_space(states, head, states, head, states, states)
        >>> found.student_space, found.teacher_space, found.agreed
        (tensor(0.), tensor(0.), tensor(3.))
    """
    _fits(student, teacher, to_student, to_teacher, student_head, teacher_head)
    if num_items is not None and not float(num_items) > 0:
        raise ConfigError("num_items is not valid", got=float(num_items), expected="a number above 0")
    rows = counted(student.shape[:-1], labels)
    count = student.shape[:-1].numel() if rows is None else len(rows)
    if targets is not None:
        counted(student.shape[:-1], targets)
    constants = (temperature, beta, alpha, mu, scale)
    widest = max(len(student_head.weight), len(teacher_head.weight))
    inputs = (student, student_head.weight, student_head.bias, to_student, to_teacher)
    work = _Work(
        chosen(divergence, *constants),
        chosen(teacher_divergence or divergence, *constants),
        student_head,
        teacher.detach(),
        teacher_head,
        pieces(rows, count, chunk or length(widest)),
        None if targets is None else targets.flatten(),
        translate,
        agreement,
        None if num_items is None else float(num_items),
        total or (lambda count: count),
        tuple(x is not None and wants_gradient(x) for x in inputs),
    )
    return DualSpace(*_Terms.apply(*inputs, work))  # type: ignore[no-untyped-call]


def projector_start(student_head: Tensor, teacher_head: Tensor) -> tuple[Tensor, Tensor]:
    r"""Where the projectors start: logits survive them as well as they can.

    Args:
        student_head: ``(V, d)``, the columns of shared tokens.
        teacher_head: ``(V, D)``, the same tokens in the same order.

    Returns:
        :math:`(W^{s+} W^t)` ``(d, D)``, the weight of a bias-free linear layer from the teacher's space to the
        student's whose logits are the least-squares fit to the teacher's; and :math:`W^{t+}` ``(D, V)``, so that
        ``pinv @ student_head`` ``(D, d)`` is the weight of the way back for the head as it is now. In float32 at least.

    Raises:
        ShapeError: the heads have other numbers of tokens.

    Source:
        DSKDv2, arXiv:2504.11426.

    Example:
        >>> head = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> there, back = projector_start(head, head)
        >>> torch.allclose(there, torch.eye(2), atol=1e-6), torch.allclose(back @ head, torch.eye(2), atol=1e-6)
        (True, True)
    """
    if len(student_head) != len(teacher_head):
        raise ShapeError(
            "the heads have other numbers of tokens",
            got=f"{len(student_head)} and {len(teacher_head)}",
            fix="give the rows of shared tokens only, in one order",
        )
    s, t = (wide(x) for x in (student_head, teacher_head))
    return torch.linalg.pinv(s) @ t, torch.linalg.pinv(t)


@dataclass(frozen=True, slots=True)
class _Work:
    own: Divergence
    other: Divergence
    student_head: Head
    teacher: Tensor
    teacher_head: Head
    pieces: list[Rows]
    targets: Tensor | None
    translate: Tensor | None
    agreement: float
    num_items: float | None
    total: Callable[[Tensor], Tensor]
    wanted: tuple[bool, ...]


class _Terms(torch.autograd.Function):
    """All terms and their gradients, one piece of tokens after another."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        to_student: Tensor,
        to_teacher: Tensor,
        work: _Work,
    ) -> tuple[Tensor, ...]:
        inputs = (student, weight, bias, to_student, to_teacher)
        h, u, v, g = (x.flatten(0, -2) for x in (student, to_student, to_teacher, work.teacher))
        mine, theirs = (cast(head) for head in (work.student_head, work.teacher_head))
        kind = wide(h[:0]).dtype
        found = [
            torch.zeros_like(x, dtype=kind) if x is not None and wanted else None
            for x, wanted in zip((h, weight, bias, u, v), work.wanted, strict=True)
        ]
        sums = torch.zeros(3, dtype=kind, device=h.device)
        agreed, known = (torch.zeros((), dtype=kind, device=h.device) for _ in range(2))
        partial = work.targets is not None or work.translate is not None
        (scale, share), (other_scale, other_share) = work.own.scales, work.other.scales
        with exact(student):
            masked = _masked(work, g, u, mine, theirs)
            for piece in work.pieces:
                said, _ = head_logits(g[piece], theirs)
                target = _target(work, said, piece)
                if partial and not bool((keep := target != IGNORE).all()):
                    piece, said, target = _only(piece, keep), said[keep], target[keep]
                read, slope = head_logits(u[piece], mine)
                same = read.argmax(1) == target
                agreed += same.sum()
                known += len(target)
                value, gradient = cross_entropy_rows(read, target)
                sums[1] += value.sum()
                add_gradients([found[3], None, None], piece, gradient, slope, u[piece], mine)
                back, slope = head_logits(v[piece], theirs)
                _, gradient, total = work.other.raw(back, said)
                sums[2] += total
                add_gradients([found[4], None, None], piece, gradient, slope, v[piece], theirs, other_share)
                if masked and not bool(same.all()):
                    piece, read = _only(piece, same), read[same]
                own, slope = head_logits(h[piece], mine)
                _, gradient, total = work.own.raw(own, read)
                sums[0] += total
                add_gradients(found[:3], piece, gradient, slope, h[piece], mine, share)
        sums *= sums.new_tensor([scale, 1.0, other_scale])
        items = known.clamp(min=1) if work.num_items is None else torch.full_like(known, work.num_items)
        first = work.total(agreed).to(kind).clamp(min=1e-3) if masked else items
        shares = torch.stack([first, items, items]).reciprocal()
        ctx.save_for_backward(shares, *found)
        ctx.shapes = [None if x is None else (x.shape, x.dtype) for x in inputs]
        ctx.mark_non_differentiable(agreed, known)
        return *(sums * shares).unbind(), agreed, known

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        shares, *found = ctx.saved_tensors
        factors = (0, 0, 0, 1, 2)
        out = [
            None if x is None else times(x, upstream[k] * shares[k]).to(form[1]).view(form[0])
            for x, k, form in zip(found, factors, ctx.shapes, strict=True)
        ]
        return *out, None


def _only(piece: Rows, mask: Tensor) -> Tensor:
    """Positions of a piece that a mask leaves."""
    if isinstance(piece, slice):
        return mask.nonzero().squeeze(1).add_(piece.start)
    return piece[mask]


def _target(work: _Work, said: Tensor, rows: Rows) -> Tensor:
    """What the projected teacher should say, in the student's vocabulary."""
    if work.targets is not None:
        return work.targets[rows]
    choice = said.argmax(1)
    return choice if work.translate is None else work.translate.to(choice.device)[choice]


def _masked(work: _Work, teacher: Tensor, projected: Tensor, mine: Head, theirs: Head) -> bool:
    """Whether the share of agreed tokens is so small that only they count. Looks at the tokens only if it must."""
    if not 0 <= work.agreement < 1:
        return work.agreement >= 1
    agreed = known = 0
    for rows in work.pieces:
        target = _target(work, head_logits(teacher[rows], theirs)[0], rows)
        said = head_logits(projected[rows], mine)[0].argmax(1)
        agreed += int(((said == target) & (target != IGNORE)).sum())
        known += int((target != IGNORE).sum())
    return agreed <= work.agreement * known


def _fits(student: Tensor, teacher: Tensor, u: Tensor, v: Tensor, own: Head, other: Head) -> None:
    shapes = [tuple(x.shape) for x in (student, teacher, u, v)]
    positions = {shape[:-1] for shape in shapes}
    widths = [shape[-1] for shape in shapes]
    d, wide_ = own.weight.shape[1], other.weight.shape[1]
    if len(positions) > 1 or widths != [d, wide_, d, wide_]:
        raise ShapeError(
            "the states do not fit",
            got="student {}, teacher {}, to_student {}, to_teacher {}".format(*shapes),
            expected=f"one set of positions; widths {d}, {wide_}, {d}, {wide_} as the heads take them",
        )


__all__ = ["DualSpace", "dual_space", "projector_start"]
