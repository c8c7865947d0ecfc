"""Knowledge distillation: match the teacher's softened probabilities."""

from __future__ import annotations

from typing import Literal

import torch

from ..shapes import Logits, Rows, Value
from ._common import (
    Reduction,
    check_reduction,
    choice,
    divergence,
    pair,
    positive,
    probabilities,
    reduced,
    soft,
    through_softmax,
)

Form = Literal["kl", "cross_entropy", "mse_logits", "mse_probabilities"]
FORMS = ("kl", "cross_entropy", "mse_logits", "mse_probabilities")


def kd(
    student: Logits,
    teacher: Logits,
    *,
    temperature: float = 4.0,
    scale: bool = True,
    form: Form = "kl",
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""Distance of the student's softened probabilities to the teacher's.

    With :math:`p = \mathrm{softmax}(z / T)`, per row:

    ===================== ================================================================
    ``kl``                :math:`T^2 \sum_k p^t_k (\log p^t_k - \log p^s_k)`
    ``cross_entropy``     :math:`-T^2 \sum_k p^t_k \log p^s_k`: the same gradient, not 0 at the optimum
    ``mse_probabilities`` :math:`T^2 \frac1C \sum_k (p^s_k - p^t_k)^2`
    ``mse_logits``        :math:`\frac1C \sum_k (z^s_k - z^t_k)^2`, no temperature, no :math:`T^2`
    ===================== ================================================================

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        temperature: divides the logits, above 0.
        scale: multiply by the squared temperature, so that the gradient keeps its size as T changes.
        form: the distance.
        reduction: ``mean`` over rows (PyTorch's ``batchmean``; never divided by C), ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``.

    Raises:
        ShapeError: the shapes differ.
        ConfigError: an option is not valid.

    Source:
        Hinton, Vinyals, Dean 2015, arXiv:1503.02531. ``kl`` was checked against RepDistiller, mdistiller and
        five more; the other forms are what cls_KD, KD_Lib and Knowledge-Distillation-Zoo call KD.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> kd(student, teacher)
        tensor(0.8337)
        >>> kd(student, teacher, temperature=1.0, reduction="none")
        tensor([0.7794])
    """
    positive(temperature=temperature)
    choice("form", form, FORMS)
    check_reduction(reduction)
    s, t = pair(student, teacher)
    if form == "mse_logits":
        rows, gradient = _squares(s, t)
        return reduced(student, rows, gradient, reduction)
    factor = temperature * temperature if scale else 1.0
    if form == "mse_probabilities":
        p = probabilities(s, temperature)
        rows, gradient = _squares(p, probabilities(t, temperature))
        through_softmax(p, gradient)
    else:
        log_s, log_t = soft(s, temperature), soft(t, temperature)
        entropy = (log_t.exp() * log_t).sum(1) if form == "cross_entropy" else None
        rows, gradient = divergence(log_s, log_t, precise=temperature > 4)
        rows = rows if entropy is None else rows.sum(1).sub_(entropy)
    return reduced(student, rows, gradient, reduction, scale=factor, slope=factor / temperature)


def _squares(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared difference of each row and its gradient."""
    difference = a - b
    return difference.square().mean(1), difference.mul_(2 / max(a.shape[1], 1))
