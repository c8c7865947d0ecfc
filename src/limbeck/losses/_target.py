"""The target class against the rest: what decoupled, normalised and refined KD share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def split(logits: Tensor, column: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-odds of the target against the rest ``(N, 1)``, and log-probabilities among the rest ``(N, C)``.

    Args:
        logits: ``(N, C)``, at least two classes.
        column: the target of each row ``(N, 1)``; the rest is minus infinity there.
        temperature: divides the logits.

    Example:
        >>> odds, rest = split(torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[0]]), 1.0)
        >>> odds, rest
        (tensor([[1.3069]]), tensor([[   -inf, -0.6931, -0.6931]]))
    """
    z = logits / temperature
    target = z.gather(1, column)
    z.scatter_(1, column, -torch.inf)
    log_rest = torch.log_softmax(z, 1)
    # One non-target class is enough to read the normaliser off; the largest one is the safest.
    normaliser = z.amax(1, keepdim=True) - log_rest.amax(1, keepdim=True)
    return target - normaliser, log_rest


def binary(odds_s: Tensor, odds_t: Tensor) -> Tensor:
    """KL of the two Bernoulli distributions with these log-odds.

    Both are mirrored to where the teacher's log-odds are negative: there nothing cancels.

    Example:
        >>> binary(torch.tensor([0.0]), torch.tensor([1.0]))
        tensor([0.1109])
    """
    mirror = torch.where(odds_t > 0, -1.0, 1.0).to(odds_t)
    s, t = odds_s * mirror, odds_t * mirror
    return torch.sigmoid(t).mul_(t - s).add_(logsigmoid(-t)).sub_(logsigmoid(-s))
