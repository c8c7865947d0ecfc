"""FT: match factors of the features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError
from ..shapes import Maps, TeacherMaps, Value
from ._common import DEGENERATE, Degenerate, choice, positive, reduced
from ._cosine import through_unit, unit
from ._features import empty, energy, maps

Form = Literal["factor", "attention"]
Distance = Literal["l1", "square", "norm"]


def ft(
    student: Maps,
    teacher: TeacherMaps,
    *,
    form: Form = "factor",
    distance: Distance = "l1",
    power: float = 2.0,
    degenerate: Degenerate = "skip",
) -> Value:
    r"""Distance of two normalised factors.

    The larger map is average-pooled to the smaller one's size. Each sample's factor becomes one vector q of
    length 1: all of its elements (``factor``), or only the mean over channels of a power of them
    (``attention``). With d the length of the vector and :math:`\delta = q^s - q^t`

    ========== ===============================================================
    ``l1``     :math:`\frac{1}{Nd} \sum_i |\delta_i|_1`
    ``square`` :math:`\frac{1}{Nd} \sum_i |\delta_i|_2^2`
    ``norm``   :math:`\frac1N \sum_i |\delta_i|_2`
    ========== ===============================================================

    Args:
        student: the translator's factor ``(N, C, H, W)``.
        teacher: the paraphraser's factor ``(N, C, H', W')``, never differentiated; ``attention`` takes any C.
        form: what is compared.
        distance: how.
        power: of ``attention``, above 0.
        degenerate: a factor that is 0 everywhere has no direction. ``skip`` gives it no gradient;
            ``published`` divides by 1e-12, a gradient of 1e9 from one dead factor.

    Returns:
        A scalar; 0 without rows.

    Raises:
        ShapeError: these are no maps of one batch, or their channels differ.
        ConfigError: an option is not valid.

    Source:
        Kim, Park, Kwak, NeurIPS 2018, arXiv:1802.04977; checked against the authors' code and
        Knowledge-Distillation-Zoo (the defaults), torchdistill (``norm``), and RepDistiller, which compares
        attention maps of factors instead (``form="attention"``, with ``l1`` or ``square``).

    Example:
        >>> student, teacher = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
        >>> ft(student.view(1, 2, 1, 1), teacher.view(1, 2, 1, 1))
        tensor(0.2000)
    """
    choice("form", form, ("factor", "attention"))
    choice("distance", distance, ("l1", "square", "norm"))
    choice("degenerate", degenerate, DEGENERATE)
    positive(power=power)
    s, t = maps(student, teacher)
    if form == "factor" and s.shape[1] != t.shape[1]:
        raise ShapeError(
            "student and teacher factors do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="the same C for both",
            fix="translate the student's features to the paraphraser's channels",
        )
    if not s.numel():
        return empty(s)
    if form == "attention":
        difference = _attention(s, power) - _attention(t, power)
        if distance == "norm":
            lengths: Tensor = torch.linalg.vector_norm(difference, dim=1)
            return lengths.mean()
        return (difference.abs() if distance == "l1" else difference.square()).mean()
    return _factors(s, t, distance, degenerate)


def _attention(x: Tensor, power: float) -> Tensor:
    return F.normalize(energy(x, power).flatten(1))


def _factors(student: Tensor, teacher: Tensor, distance: Distance, degenerate: Degenerate) -> Tensor:
    s = student.flatten(1)
    q, size = unit(s.detach(), 1, 1e-12)
    difference = q - unit(teacher.flatten(1), 1, 1e-12)[0]
    if distance == "l1":
        rows, slope = difference.abs().mean(1), difference.sign_().div_(s.shape[1])
    elif distance == "square":
        rows, slope = difference.square().mean(1), difference.mul_(2 / s.shape[1])
    else:
        rows = torch.linalg.vector_norm(difference, dim=1)
        slope = difference.div_(rows.clamp(min=torch.finfo(rows.dtype).tiny)[:, None])
    gradient = through_unit(q, size, slope, 1)
    if degenerate == "skip":
        gradient.masked_fill_(size <= 1e-12, 0.0)
    value: Tensor = reduced(s, rows, gradient, "mean")
    return value
