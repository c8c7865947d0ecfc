"""Divergences between two rows of logits, each with its gradient in closed form.

Every function takes log-probabilities ``(n, V)`` of student and teacher, both of which it may overwrite, and
returns the value of each row ``(n,)`` and its gradient for the student's logits ``(n, V)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ._common import choice, divergence, positive, soft, through_softmax

Found = tuple[Tensor, Tensor]
FLOOR = -1e4
"""Log-probability of a class that a model rules out with a logit of -inf."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Which divergence, and its constants; see ``token_divergence``.

    Raises:
        ConfigError: a constant is not valid.
    """

    name: str = "forward_kl"
    temperature: float = 1.0
    beta: float = 0.5
    alpha: float = 0.1
    mu: float = 0.5
    scale: bool = False

    def __post_init__(self) -> None:
        choice("divergence", self.name, tuple(DIVERGENCES))
        positive(temperature=self.temperature)
        for name in ("beta", "alpha", "mu"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is not valid", got=getattr(self, name), expected="0 to 1")

    def rows(self, student: Tensor, teacher: Tensor) -> Found:
        """Value of each row and its gradient, from detached logits, which stay as they are."""
        if student.shape[1] != teacher.shape[1] and self.name != "uld":
            raise ShapeError(
                "student and teacher have other vocabularies",
                got=f"{student.shape[1]} and {teacher.shape[1]} entries",
                fix="cut both to the shared entries, or take divergence='uld', which compares by rank",
            )
        return self.compare(soft(student, self.temperature), soft(teacher, self.temperature))

    def compare(self, log_s: Tensor, log_t: Tensor) -> Found:
        """The same from log-probabilities at the temperature, which may be overwritten."""
        value, gradient = DIVERGENCES[self.name](_floored(log_s), _floored(log_t), self)
        factor = self.temperature if self.scale else 1.0
        if factor != 1:
            value, gradient = value.mul_(factor * factor), gradient.mul_(factor)
        elif self.temperature != 1:
            gradient.div_(self.temperature)
        return value, gradient


def _floored(log: Tensor) -> Tensor:
    return log.nan_to_num_(nan=math.nan, posinf=math.inf, neginf=FLOOR)


def _forward_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    return divergence(log_s, log_t, precise=of.temperature > 4)


def _reverse_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``sum q (log q - log p)``."""
    q = log_s.exp()
    return _expected(q, log_s.sub_(log_t))


def _jsd(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``beta KL(p | m) + (1 - beta) KL(q | m)`` with ``m = beta p + (1 - beta) q``; a single KL at the ends."""
    beta = of.beta
    if beta in (0, 1):
        return (_reverse_kl if beta else _forward_kl)(log_s, log_t, of)
    log_m = _mixture(log_t, log_s, beta)
    q = log_s.exp()
    own, slope = _expected(q, log_s.sub_(log_m))
    p = log_t.exp()
    other = p.mul_(log_t.sub_(log_m)).sum(1)
    return other.mul_(beta).add_(own, alpha=1 - beta), slope.mul_(1 - beta)


def _skew_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``KL(p | alpha p + (1 - alpha) q)``."""
    log_m = _mixture(log_t, log_s, of.alpha)
    ratio = (log_t - log_m).exp_().mul_(of.alpha - 1)
    p = log_t.exp()
    value = p.mul_(log_t.sub_(log_m)).sum(1)
    return value, through_softmax(log_s.exp_(), ratio)


def _skew_reverse_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``KL(q | (1 - alpha) p + alpha q)``."""
    log_m = _mixture(log_s, log_t, of.alpha)
    q = log_s.exp()
    apart = log_s.sub_(log_m)
    slope = apart.exp().mul_(-of.alpha).add_(apart)
    return apart.mul_(q).sum(1), through_softmax(q, slope)


def _skew_reverse_kl_fixed(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """The same value; the mixture is not differentiated."""
    log_m = _mixture(log_s, log_t, of.alpha)
    q = log_s.exp()
    return _expected(q, log_s.sub_(log_m))


def _adaptive_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """Forward and reverse KL, weighted by how far apart the teacher's head and tail are."""
    p, q = log_t.exp(), log_s.exp()
    ordered, order = p.sort(1)
    tail = torch.empty_like(order, dtype=torch.bool).scatter_(1, order, ordered.cumsum_(1) <= of.mu)
    gap = (p - q).abs_()
    whole = gap.sum(1)
    far = gap.mul_(tail).sum(1)
    share = (far / whole).nan_to_num_(nan=0.5)[:, None]
    back, slope = _expected(q, log_s - log_t)
    forward, gradient = divergence(log_s, log_t)
    value = torch.lerp(forward, back, share[:, 0])
    return value, torch.lerp(gradient, slope, share)


def _total_variation(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``sum |p - q| / 2``."""
    q = log_s.exp_()
    gap = q - log_t.exp_()
    slope = gap.sign().div_(2)
    return gap.abs_().sum(1).div_(2), through_softmax(q, slope)


def _uld(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``sum over ranks |q_(r) - p_(r)|``; the smaller vocabulary is continued with zeros."""
    q = log_s.exp_()
    ordered, order = q.sort(1, descending=True)
    target = log_t.exp_().sort(1, descending=True).values
    shared = min(ordered.shape[1], target.shape[1])
    beyond = target[:, shared:].sum(1)
    ordered[:, :shared] -= target[:, :shared]
    slope = torch.empty_like(q).scatter_(1, order, ordered.sign())
    return ordered.abs_().sum(1).add_(beyond), through_softmax(q, slope)


def _expected(q: Tensor, apart: Tensor) -> Found:
    """``sum q apart`` and, for an ``apart`` whose own slope adds up to nothing, its gradient; overwrites both."""
    product = q * apart
    value = product.sum(1)
    return value, product.sub_(q.mul_(value[:, None]))


def _mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """``log(share e^first + (1 - share) e^second)``."""
    if share in (0, 1):
        return first.clone() if share else second.clone()
    return torch.logaddexp(first + math.log(share), second + math.log1p(-share))


DIVERGENCES: dict[str, Callable[[Tensor, Tensor, Divergence], Found]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "jsd": _jsd,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
    "skew_reverse_kl_fixed": _skew_reverse_kl_fixed,
    "adaptive_kl": _adaptive_kl,
    "total_variation": _total_variation,
    "uld": _uld,
}
"""Name -> closed form."""
