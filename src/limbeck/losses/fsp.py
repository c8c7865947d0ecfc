"""FSP: match how one stage's features flow into the next one's."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from ..connectors import match
from ..errors import ShapeError
from ..shapes import Value
from ._features import empty, full


def fsp(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Value:
    r"""Mean squared difference of two flow matrices.

    Of the maps A, B of two stages, the larger is average-pooled to the smaller one's size. With

    .. math:: G_{cd} = \frac1{HW} \sum_{hw} A_{chw} B_{dhw}

    of each sample, the mean over samples and entries of :math:`(G^s - G^t)^2`.

    Args:
        student: maps ``(N, C, H, W)`` and ``(N, D, H', W')`` of two stages.
        teacher: maps of two stages with the same C and D, of any size, never differentiated.

    Returns:
        A scalar; 0 without rows.

    Raises:
        ShapeError: these are no maps, or batches or channels differ.

    Source:
        Yim et al., CVPR 2017; checked against RepDistiller and Knowledge-Distillation-Zoo.

    Example:
        >>> import torch
        >>> a, b = torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)
        >>> fsp((a, b), (2 * a, b))
        tensor(1.)
    """
    if any(x.dim() != 4 for x in (*student, *teacher)) or any(
        a.shape[:2] != b.shape[:2] for a, b in zip(student, teacher, strict=True)
    ):
        raise ShapeError(
            "student and teacher maps do not fit",
            got=", ".join(
                f"{who} {' and '.join(str(tuple(x.shape)) for x in pair)}"
                for who, pair in (("student", student), ("teacher", teacher))
            ),
            expected="(N, C, H, W) with the teacher's N and C",
            fix="choose networks of equal widths, or put limbeck.connectors.Connector before the student's maps",
        )
    (a, c), (b, d) = (full(s, t) for s, t in zip(student, teacher, strict=True))
    if not a.numel() or not b.numel():
        return empty(a) + empty(b)
    a, b = (x.flatten(2) for x in match(a, b))
    c, d = (x.flatten(2) for x in match(c, d))
    places = a.shape[2]
    return mse_loss(a @ b.mT, (c @ d.mT).mul_(places / c.shape[2])) / places**2
