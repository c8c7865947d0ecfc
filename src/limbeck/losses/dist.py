"""DIST: match how classes relate within a sample, and samples within a class."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..shapes import Logits, Value
from ._common import choice, known, nothing, pair, positive, probabilities, through_softmax, wants_gradient
from ._cosine import aligned


def dist(
    student: Logits,
    teacher: Logits,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
    scale: bool = True,
    eps: float = 1e-8,
    eps_form: Literal["added", "clamped"] = "added",
) -> Value:
    r"""One minus Pearson's correlation of probabilities, over rows and over columns.

    With :math:`P = \mathrm{softmax}(z / T)`,

    .. math:: T^2 \Big( \beta \big(1 - \tfrac1N \sum_i \rho(P^s_{i:}, P^t_{i:})\big)
              + \gamma \big(1 - \tfrac1C \sum_k \rho(P^s_{:k}, P^t_{:k})\big) \Big),
              \quad \rho(a, b) = \frac{\langle \bar a, \bar b \rangle}{|\bar a| |\bar b| + \epsilon},

    where the bar takes the vector's own mean away.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        beta: weight of the rows (relations between classes).
        gamma: weight of the columns (relations between the samples of the batch).
        temperature: divides the logits, above 0. The authors use 4 on CIFAR-100 and 1 on ImageNet.
        scale: multiply by the squared temperature, as the released classification code does since December
            2022; the paper's pseudo-code does not.
        eps: keeps constant vectors at correlation 0.
        eps_form: ``added`` to the product of norms (the authors), or each norm ``clamped`` to at least eps
            (torchdistill). They differ where a class has next to no probability in the batch: ``added``
            does not reach 0 there for equal networks.

    Returns:
        A scalar in [0, 2 T^2 (beta + gamma)]. It compares the rows with each other: a batch of one has
        correlation 0 in every column, and no gradient from them. 0 without rows.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Huang et al. 2022, arXiv:2205.10536; checked against hunto/image_classification_sota, the authors'
        segmentation copy (``temperature=1``) and torchdistill.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> dist(student, teacher, temperature=1.0)
        tensor(1.0000)
    """
    positive(temperature=temperature)
    choice("eps_form", eps_form, ("added", "clamped"))
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student)
    p, q = probabilities(s, temperature), probabilities(t, temperature)
    value = torch.zeros((), dtype=p.dtype, device=p.device)
    gradient = torch.zeros_like(p) if wants_gradient(student) else None
    factor = temperature * temperature if scale else 1.0
    for dim, weight in ((1, beta * factor), (0, gamma * factor)):
        if weight:
            value += _side(p, q, dim, weight, eps, eps_form == "clamped", gradient)
    if gradient is not None:
        through_softmax(p, gradient, temperature)
    return known(student, value, gradient)


def _side(
    p: Tensor, q: Tensor, dim: int, weight: float, eps: float, clamped: bool, gradient: Tensor | None
) -> Tensor:
    """``weight * (1 - mean correlation)``, its gradient added to ``gradient``."""
    a, b = p - p.mean(dim, keepdim=True), q - q.mean(dim, keepdim=True)
    rho, x, y = aligned(a, b, dim, eps, clamped)
    if gradient is not None:
        gradient.addcmul_(a, x, value=-weight / rho.numel()).addcmul_(b, y, value=-weight / rho.numel())
    return weight * (1 - rho.mean())
