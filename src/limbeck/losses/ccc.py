"""CCC: Lin's concordance correlation coefficient as a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Value
from ._common import wide


def ccc(student: Tensor, target: Tensor, *, unbiased: bool = False, eps: float = 1e-8) -> Value:
    r"""One minus the concordance correlation coefficient, mean over outputs.

    With mean :math:`\mu`, variance :math:`\sigma^2` and covariance over the rows that have a target,

    .. math:: 1 - \frac1D \sum_d \frac{2\, \mathrm{cov}(y_d, \hat y_d)}
        {\sigma^2_{y_d} + \sigma^2_{\hat y_d} + (\mu_{y_d} - \mu_{\hat y_d})^2 + \epsilon}

    It is computed from the rows at hand: give it at least some 30 of them.

    Args:
        student: predictions ``(N, D)``.
        target: what they should be ``(N, D)``, labels or a teacher's predictions, never differentiated; a row with a
            NaN has no target.
        unbiased: divide variances and covariance by N - 1, as the authors of M2PKD do; the difference is O(1/N).
        eps: keeps a constant pair at CCC 0.

    Returns:
        A scalar in [0, 2]; 0 connected to the graph with fewer than two targets.

    Raises:
        ShapeError: the two are not matrices of one shape.

    Source:
        Lin, Biometrics 1989; in M2PKD's public code with ``unbiased=True``.

    Example:
        >>> y = torch.tensor([[0.0], [1.0], [2.0]])
        >>> ccc(y, y).abs() < 1e-6, ccc(-y, y)
        (tensor(True), tensor(1.2500))
    """
    return 1 - coefficients(student, target, unbiased=unbiased, eps=eps).mean()


def coefficients(student: Tensor, target: Tensor, *, unbiased: bool = False, eps: float = 1e-8) -> Tensor:
    """CCC of each output ``(D,)``; arguments and errors as ``ccc``. All 1 with fewer than two targets."""
    if student.dim() != 2 or student.shape != target.shape:
        raise ShapeError(
            "predictions and targets do not fit",
            got=f"{tuple(student.shape)} and {tuple(target.shape)}",
            expected="the same (N, D) for both",
        )
    y = wide(target, student.dtype)
    x = student.to(y.dtype)
    known = ~torch.isnan(y).any(1)
    if not bool(known.all()):
        x, y = x[known], y[known]
    if len(x) < 2:
        return x.sum(0) * 0 + 1
    mean_x, mean_y = x.mean(0), y.mean(0)
    a, b = x - mean_x, y - mean_y
    n = len(x) - int(unbiased)
    covariance, spread = (a * b).sum(0) / n, (a.square().sum(0) + b.square().sum(0)) / n
    return 2 * covariance / (spread + (mean_x - mean_y).square() + eps)
