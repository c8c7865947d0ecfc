"""OFD: match what the teacher's ReLU lets pass, and stay below a margin where it lets nothing."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Maps, Rows, Value
from ._common import Reduction, check_reduction, known, wants_gradient
from ._features import alike

Channels = Float[Tensor, "channels"]

RARE = 1e-3
"""A channel that is negative less often than this gets the margin -3 standard deviations."""


def ofd(student: Maps, teacher: Maps, margin: Channels, *, reduction: Reduction = "mean") -> Value | Rows:
    r"""Partial squared distance to the teacher's pre-activations above a margin.

    With :math:`t' = \max(t, m)`, :math:`m` a negative margin for each channel, over all elements of a sample,

    .. math:: \sum_i (s_i - t'_i)^2 \, [\, s_i > t'_i \text{ or } t'_i > 0 \,] .

    Args:
        student: pre-activations ``(N, C, H, W)``, already brought to the teacher's shape.
        teacher: pre-activations ``(N, C, H, W)``, never differentiated.
        margin: for each channel, from ``ofd_margin``.
        reduction: ``mean`` over samples of their sums, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``.

    Raises:
        ShapeError: the shapes differ, or there is not one margin for each channel.

    Source:
        Heo et al., ICCV 2019, arXiv:1904.01866; checked against clovaai/overhaul-distillation (``sum``) and
        mdistiller (``mean``).

    Example:
        >>> maps = torch.tensor([[[[-2.0]], [[1.0]]]])
        >>> ofd(torch.zeros(1, 2, 1, 1), maps, torch.tensor([-0.5, -0.5]))
        tensor(1.2500)
    """
    check_reduction(reduction)
    s, t = alike(student, teacher)
    if margin.shape != s.shape[1:2]:
        raise ShapeError("margins do not fit the maps", got=tuple(margin.shape), expected=f"({s.shape[1]},)")
    target = torch.maximum(t, margin.detach().to(s.dtype)[:, None, None])
    gap = s.detach() - target
    # Below 0 the teacher only bounds: a gap counts above 0 there, any gap where the target is active.
    least = target.gt_(0).mul_(-torch.finfo(gap.dtype).max)
    torch.maximum(gap, least, out=gap)
    value = gap.flatten(1).square().sum(1) if reduction == "none" else gap.flatten().dot(gap.flatten())
    n = max(len(s), 1) if reduction == "mean" else 1
    return known(s, value / n, gap if wants_gradient(s) else None, 2 / n)


def ofd_margin(weight: Channels, bias: Channels) -> Channels:
    r"""Expected negative response of each channel of a batch normalisation.

    .. math:: m = E[x \mid x < 0], \; x \sim N(\beta, \gamma^2): \quad
              m = \beta - |\gamma| \frac{\phi(\beta / \gamma)}{\Phi(-\beta / |\gamma|)} ,

    and :math:`-3 |\gamma|` where :math:`\Phi(-\beta / |\gamma|) \le 0.001`.

    Args:
        weight: scale :math:`\gamma` of each channel.
        bias: shift :math:`\beta` of each channel.

    Returns:
        Margins ``(C,)`` in float32, never above 0.

    Source:
        As ``ofd``; checked against clovaai/overhaul-distillation.

    Example:
        >>> ofd_margin(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 5.0]))
        tensor([-0.7979, -3.0000])
    """
    pairs = zip(weight.detach().tolist(), bias.detach().tolist(), strict=True)
    found = [_below(abs(spread), mean) for spread, mean in pairs]
    return torch.tensor(found, dtype=torch.float32, device=weight.device)


def _below(spread: float, mean: float) -> float:
    """Expected value of a normal variable where it is negative."""
    if not spread:
        return min(mean, 0.0)
    z = mean / spread
    below = math.erfc(z / math.sqrt(2)) / 2
    if below <= RARE:
        return -3 * spread
    return mean - spread * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / below
