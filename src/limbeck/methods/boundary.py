"""Boundary supporting samples: images pushed to where a network is undecided between two classes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .base import Ask

Scores = Literal["logits", "probabilities"]


def boundary_samples(
    ask: Ask,
    inputs: Tensor,
    target: Tensor,
    *,
    base: Tensor | None = None,
    scores: Scores = "logits",
    steps: int = 10,
    step_size: float = 0.3,
    low: float | Tensor = -2.5,
    high: float | Tensor = 2.5,
    offset: float = 1e-4,
) -> Tensor:
    r"""Images moved from the side of their base class to just across the border of their target class.

    With :math:`d(x) = s_{base}(x) - s_{target}(x)` and :math:`g = \nabla_x (s_{target} - s_{base})`, each
    step adds :math:`\eta (d(x) + o) \, g / |g|_2` to images that are still taken for their base class, and
    clamps all of them. Near a linear border and with a small slope this approaches it and crosses.

    Args:
        ask: inputs ``(N, ...)`` to logits ``(N, C)``, differentiable in the inputs.
        inputs: ``(N, ...)``, left as they are.
        target: class ids ``(N,)`` to move towards.
        base: class ids ``(N,)`` to move from; None is what the network says of ``inputs``.
        scores: what the differences are taken of: raw ``logits`` (the authors) or ``probabilities``
            (Knowledge-Distillation-Zoo).
        steps: at most so many.
        step_size: the factor eta.
        low, high: range of the inputs, numbers or per channel.
        offset: the o that carries an image across the border.

    Returns:
        New inputs ``(N, ...)``, without a graph. (The authors' ``max_epsilon`` is computed and never used, so
        there is no bound on the whole way.)

    Source:
        Heo et al., AAAI 2019, arXiv:1805.05532; checked against bhheo/BSS_distillation and
        Knowledge-Distillation-Zoo. A gradient that vanishes leaves its image in place instead of making NaN.

    Example:
        >>> halves = lambda x: torch.cat([x, -x], 1)  # class 0 where x > 0
        >>> boundary_samples(halves, torch.tensor([[1.0], [-2.0]]), torch.tensor([1, 0])).abs() < 1e-3
        tensor([[True],
                [True]])
    """
    x = inputs.detach().clone()
    least, most = (torch.as_tensor(limit).to(x) for limit in (low, high))
    each = (-1, *[1] * (x.dim() - 1))
    with torch.enable_grad():
        for _ in range(steps):
            x.requires_grad_()
            logits = ask(x)
            found = logits.argmax(1)
            base = found if base is None else base
            values = logits if scores == "logits" else torch.softmax(logits, 1)
            gap = (values.gather(1, base[:, None]) - values.gather(1, target[:, None])).squeeze(1)
            (gradient,) = torch.autograd.grad(gap.sum(), x)
            here = found == base
            if not bool(here.any()):
                break
            size = gradient.flatten(1).norm(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
            way = step_size * here * (gap.detach() + offset) / size
            x = torch.clamp(x.detach() - way.view(each) * gradient, least, most)
    return x.detach()


def choose_bases(student: Tensor, teacher: Tensor, labels: Tensor, count: int) -> Tensor:
    """Rows worth attacking: those that both networks have right, the most different ones first.

    Where the student has none right, as in its first steps, those that the teacher has right. Of more than
    ``count`` rows, those with the largest squared difference of probabilities off the label are taken.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``.
        labels: ``(N,)``; -100 is never right.
        count: at most so many.

    Returns:
        positions of rows; empty if the teacher has none right.

    Example:
        >>> right = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
        >>> choose_bases(torch.tensor([[1.0, 0.0], [0.0, 4.0], [0.0, 1.0]]), right, torch.tensor([0, 1, 0]), 1)
        tensor([0])
    """
    sure = teacher.argmax(1) == labels
    both = sure & (student.argmax(1) == labels)
    rows = (both if bool(both.any()) else sure).nonzero().squeeze(1)
    if len(rows) <= count:
        return rows
    p, q = (torch.softmax(logits[rows].float(), 1) for logits in (student, teacher))
    off = (q - p).square().scatter(1, labels[rows, None], 0.0).sum(1)
    return rows[off.argsort(descending=True, stable=True)[:count]]


def choose_targets(teacher: Tensor, base: Tensor) -> Tensor:
    """A target class per row, drawn in proportion to the teacher's probabilities of the other classes.

    Args:
        teacher: logits ``(N, C)``.
        base: class ids ``(N,)``, never drawn.
    """
    others = teacher.float().scatter(1, base[:, None], -torch.inf)
    return torch.multinomial(torch.softmax(others, 1), 1).squeeze(1)
