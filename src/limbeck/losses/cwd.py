"""CWD: match where in the image each of the teacher's channels is active."""

from __future__ import annotations

from torch.nn import functional as F

from ..errors import ShapeError
from ..shapes import Maps, Rows, TeacherMaps, Value
from ._common import Reduction, check_reduction
from .kd import kd


def cwd(
    student: Maps, teacher: TeacherMaps, *, temperature: float = 4.0, reduction: Reduction = "mean"
) -> Value | Rows:
    r"""Divergence of the student's channels to the teacher's, each channel a distribution over places.

    With :math:`\phi(y_c)_i = \exp(y_{c,i} / T) / \sum_j \exp(y_{c,j} / T)` over the places i of channel c:

    .. math:: \frac{T^2}{C} \sum_c \sum_i \phi(y^t_c)_i \log \frac{\phi(y^t_c)_i}{\phi(y^s_c)_i}

    This is ``kd`` with channels for rows and places for classes. Maps of another size than the teacher's are
    scaled to it, bilinearly.

    Args:
        student: score maps or features ``(N, C, H, W)``.
        teacher: maps ``(N, C, H', W')``, never differentiated.
        temperature: divides the maps, above 0.
        reduction: ``mean`` over samples and channels, ``sum`` over samples of means over channels, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without rows.

    Raises:
        ShapeError: other samples or channels.
        ConfigError: an option is not valid.

    Source:
        Shu et al. 2021, arXiv:2011.13256, equations 2 and 3; the authors' code divides by N and C as here.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[4.0, 0.0]]]])
        >>> cwd(student, teacher)
        tensor(1.7751)
    """
    check_reduction(reduction)
    if student.shape[:2] != teacher.shape[:2]:
        raise ShapeError(
            "cwd compares channel with channel",
            got=f"maps {tuple(student.shape)} and {tuple(teacher.shape)}",
            expected="as many samples and channels",
            fix="project the features first",
        )
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student, teacher.shape[2:], mode="bilinear", align_corners=False)
    rows, channels = student.shape[:2]
    places = kd(
        student.flatten(2).flatten(0, 1),
        teacher.flatten(2).flatten(0, 1),
        temperature=temperature,
        reduction="none" if reduction == "none" else "sum",
    )
    if reduction == "none":
        return places.view(rows, channels).mean(1)
    return places / max(channels * (rows if reduction == "mean" else 1), 1)
