"""FitNets: regress the teacher's features."""

from __future__ import annotations

from ..shapes import Features, Value
from ._common import known, squares, wants_gradient
from ._features import alike, empty


def fitnets(student: Features, teacher: Features) -> Value:
    r"""Mean squared difference of features.

    .. math:: \frac1n \sum_i (s_i - t_i)^2

    over all n elements of the batch's features.

    Args:
        student: features of any shape, already brought to the teacher's shape by a regressor.
        teacher: features of the same shape, never differentiated.

    Returns:
        A scalar; 0 without elements.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Romero et al., ICLR 2015, arXiv:1412.6550 (equation 3, which sums and halves instead); checked against
        RepDistiller.

    Example:
        >>> import torch
        >>> fitnets(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
        tensor(2.5000)
    """
    s, t = alike(student, teacher)
    if not s.numel():
        return empty(s)
    difference = s.detach() - t
    value = squares(difference).div_(s.numel())
    return known(s, value, difference if wants_gradient(s) else None, 2 / s.numel())
