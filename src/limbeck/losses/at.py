"""AT: match where the energy of a feature map lies."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Maps, TeacherMaps, Value
from ._common import choice, positive
from ._features import empty, energy, maps

Form = Literal["mean_square", "norm"]


def at(
    student: Maps, teacher: TeacherMaps, *, power: float = 2.0, form: Form = "mean_square", eps: float = 0.0
) -> Value:
    r"""Distance of two attention maps.

    The larger map is average-pooled to the smaller one's size. With the attention
    :math:`q = a / |a|`, :math:`a_{hw} = \frac1C \sum_c F_{chw}^p` as one vector of all places,

    =============== ==================================================================
    ``mean_square`` :math:`\frac{1}{NHW} \sum_i |q^s_i - q^t_i|^2`, the released code
    ``norm``        :math:`\frac1N \sum_i |q^s_i - q^t_i|`, equation 2 of the paper
    =============== ==================================================================

    ``norm`` is 16 to 130 times larger on ordinary maps: it needs another weight. ``mean_square`` falls as
    1 / HW: its weight belongs to one resolution.

    Args:
        student: maps ``(N, C, H, W)``.
        teacher: maps ``(N, C', H', W')``, never differentiated.
        power: p, above 0. No absolute value is taken: odd powers keep signs, broken ones need features >= 0.
        form: the distance.
        eps: added to the norm of C a, the sum over channels. 0: the norm of a is at least 1e-12 instead.

    Returns:
        A scalar; 0 without rows. A map that is 0 everywhere has attention 0.

    Raises:
        ShapeError: these are no maps of one batch.
        ConfigError: an option is not valid.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv:1612.03928; checked against the authors' code, RepDistiller,
        torchdistill (both forms) and Knowledge-Distillation-Zoo (``eps=1e-6``).

    Example:
        >>> student, teacher = torch.zeros(1, 2, 1, 2), torch.zeros(1, 3, 1, 2)
        >>> student[..., 0], teacher[..., 1] = 1.0, 1.0
        >>> at(student, teacher), at(student, teacher, form="norm")
        (tensor(1.), tensor(1.4142))
    """
    positive(power=power)
    choice("form", form, ("mean_square", "norm"))
    s, t = maps(student, teacher)
    if not s.numel():
        return empty(s)
    difference = _attention(s, power, eps) - _attention(t, power, eps)
    if form == "norm":
        lengths: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return lengths.mean()
    return difference.square().mean()


def _attention(x: Tensor, power: float, eps: float) -> Tensor:
    a = energy(x, power).flatten(1)
    if not eps:
        return F.normalize(a)
    size: Tensor = torch.linalg.vector_norm(a, dim=1, keepdim=True)
    return a / (size + eps / x.shape[1])
