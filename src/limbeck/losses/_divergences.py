"""Divergences between two rows of logits, each with its gradient in closed form.

Every function takes log-probabilities ``(n, V)`` of student and teacher, both of which it may overwrite, and
returns the value of each row ``(n,)``, or what adds up to it ``(n, V)``, and its gradient for the student's logits
``(n, V)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ._common import choice, divergence, exponentials, positive, soft, through_softmax

Found = tuple[Tensor, Tensor]


class Raw(NamedTuple):
    """What a divergence found.

    Attributes:
        value: of each row ``(n,)``, or what adds up to it ``(n, V)``.
        gradient: for the student's logits ``(n, V)``.
        total: sum of ``value``.
    """

    value: Tensor
    gradient: Tensor
    total: Tensor


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

    @property
    def scales(self) -> tuple[float, float]:
        """Factors on the value and on the gradient that ``raw`` leaves to do."""
        factor = self.temperature**2 if self.scale else 1.0
        return factor, factor / self.temperature

    def rows(self, student: Tensor, teacher: Tensor) -> Found:
        """Value of each row and its gradient, from detached logits, which stay as they are."""
        value, gradient, _ = self.raw(student, teacher)
        scale, slope = self.scales
        value = value.sum(1) if value.dim() > 1 else value
        return value.mul_(scale) if scale != 1 else value, gradient.mul_(slope) if slope != 1 else gradient

    def raw(self, student: Tensor, teacher: Tensor) -> Raw:
        """The same still to be multiplied by ``scales``, and without a pass of its own for logits of -inf.

        They can only matter where the sum is not finite without ``FLOOR``.
        """
        if student.shape[1] != teacher.shape[1] and self.name != "uld":
            raise ShapeError(
                "student and teacher have other vocabularies",
                got=f"{student.shape[1]} and {teacher.shape[1]} entries",
                fix="cut both to the shared entries, or take divergence='uld', which compares by rank",
            )
        of, make = self.temperature, _tempered if self.name in SOFTMAX else soft
        if student.is_cpu:
            value, gradient = DIVERGENCES[self.name](make(student, of), make(teacher, of), self)
            total = value.sum()
            if math.isfinite(total.item()):
                return Raw(value, gradient, total)
        value, gradient = self.compare(soft(student, of), soft(teacher, of))
        return Raw(value, gradient, value.sum())

    def compare(self, log_s: Tensor, log_t: Tensor) -> Found:
        """What ``raw`` gives, from log-probabilities at the temperature, which may be overwritten."""
        return DIVERGENCES[self.name](_floored(log_s), _floored(log_t), self)


chosen = lru_cache(maxsize=64)(Divergence)
"""``Divergence``, made and checked once for each set of constants."""


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature


def _floored(log: Tensor) -> Tensor:
    return log.nan_to_num_(nan=math.nan, posinf=math.inf, neginf=FLOOR)


def _forward_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    return divergence(log_s, log_t, precise=of.temperature > 4)


def _reverse_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``sum q (log q - log p)``."""
    q = exponentials(log_s)
    return _expected(q, log_s.sub_(log_t))


def _jsd(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``beta KL(p | m) + (1 - beta) KL(q | m)`` with ``m = beta p + (1 - beta) q``; a single KL at the ends."""
    beta = of.beta
    if beta in (0, 1):
        return (_reverse_kl if beta else _forward_kl)(log_s, log_t, of)
    log_m = _mixture(log_t, log_s, beta)
    q = exponentials(log_s)
    own, slope = _expected(q, log_s.sub_(log_m))
    p = exponentials(log_t)
    other = p.mul_(log_t.sub_(log_m))
    return own.lerp_(other, beta), slope.mul_(1 - beta)


def _skew_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``KL(p | alpha p + (1 - alpha) q)``."""
    log_m = _mixture(log_t, log_s, of.alpha)
    ratio = torch.sub(log_t, log_m, out=log_m)
    p = exponentials(log_t, out=log_t)
    value = p.mul_(ratio)
    gradient = through_softmax(exponentials(log_s, out=log_s), ratio.exp_())
    return value, gradient.mul_(of.alpha - 1)


def _skew_reverse_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``KL(q | (1 - alpha) p + alpha q)``."""
    log_m = _mixture(log_s, log_t, of.alpha)
    q = exponentials(log_s)
    apart = log_s.sub_(log_m)
    slope = torch.exp(apart, out=log_m).mul_(-of.alpha).add_(apart)
    return apart.mul_(q), through_softmax(q, slope)


def _skew_reverse_kl_fixed(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """The same value; the mixture is not differentiated."""
    log_m = _mixture(log_s, log_t, of.alpha)
    q = exponentials(log_s)
    return _expected(q, log_s.sub_(log_m))


def _adaptive_kl(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """Forward and reverse KL, weighted by how far apart the teacher's head and tail are."""
    p = exponentials(log_t)
    tail = _tail(p, of.mu)
    q = exponentials(log_s)
    gap = p.sub_(q).abs_()
    whole = gap.sum(1)
    far = gap.mul_(tail).sum(1)
    del p, gap, tail
    share = (far / whole).nan_to_num_(nan=0.5)
    terms, slope = _expected(q, log_s - log_t)
    back = terms.sum(1)
    del q, terms
    forward, gradient = divergence(log_s, log_t)
    return torch.lerp(forward.sum(1), back, share), gradient.lerp_(slope, share[:, None])


def _tail(p: Tensor, mass: float) -> Tensor:
    """The least probable classes that have this mass."""
    ordered, order = p.sort(1)
    return torch.empty_like(order, dtype=torch.bool).scatter_(1, order, ordered.cumsum_(1) <= mass)


def _total_variation(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``sum |p - q| / 2``."""
    q, p = exponentials(log_s), exponentials(log_t)
    gap = q - p
    slope = torch.sign(gap, out=p)
    return gap.abs_().mul_(0.5), through_softmax(q, slope).mul_(0.5)


def _uld(log_s: Tensor, log_t: Tensor, of: Divergence) -> Found:
    """``sum over ranks |q_(r) - p_(r)|``; the smaller vocabulary is continued with zeros."""
    target = exponentials(log_t).sort(1, descending=True).values
    q = exponentials(log_s)
    ordered, order = q.sort(1, descending=True)
    shared, beyond = min(ordered.shape[1], target.shape[1]), None
    if target.shape[1] > shared:
        target, beyond = target[:, :shared], target[:, shared:].sum(1)
    (ordered if ordered.shape[1] == shared else ordered[:, :shared]).sub_(target)
    slope = torch.empty_like(q).scatter_(1, order, ordered.sign())
    terms = ordered.abs_()
    return terms if beyond is None else terms.sum(1).add_(beyond), through_softmax(q, slope)


def _expected(q: Tensor, apart: Tensor) -> Found:
    """``sum q apart`` and, for an ``apart`` whose own slope adds up to nothing, its gradient; overwrites both."""
    product = q * apart
    return product, through_softmax(q, apart)


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
SOFTMAX = ("total_variation", "uld")
"""Those that read any logits as well as log-probabilities, and overwrite neither."""
