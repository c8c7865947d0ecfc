"""How one token is chosen from logits, and where the random numbers for it come from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import ConfigError, ModelError


@dataclass(frozen=True)
class Sampler:
    r"""A distribution over tokens made from logits :math:`z`, and a way to draw from it.

    First :math:`p = \mathrm{softmax}(z / T)`, then only the ``top_k`` most probable tokens, then of those,
    renormalised, the smallest set of most probable tokens whose mass reaches ``top_p``: the token that
    crosses the mass is kept. Equally probable tokens are ordered by id, the lowest first. Logits of ``-inf``
    are tokens that cannot be drawn.

    Attributes:
        temperature: divides the logits; 0 takes the most probable token (greedy).
        top_p: mass of the nucleus, in (0, 1]; 1 is off.
        top_k: number of tokens, at least 1; ``None`` is off.

    Raises:
        ConfigError: an option is not valid.

    Source:
        Nucleus: Holtzman et al., ICLR 2020, arXiv:1904.09751. Order of the steps as in transformers.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0, -math.inf]])
        >>> Sampler(temperature=0).draw(logits, torch.Generator())
        tensor([0])
        >>> Sampler(top_p=0.7).warp(logits).exp()
        tensor([[1.0000, 0.3679, 0.0000, 0.0000]])
    """

    temperature: float | int = 1.0
    top_p: float | int = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError("temperature is not valid", got=self.temperature, expected="a number from 0 on")
        if not 0 < self.top_p <= 1:
            raise ConfigError("top_p is not valid", got=self.top_p, expected="a number above 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError("top_k is not valid", got=self.top_k, expected="at least 1, or None for all")

    def warp(self, logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows vocabulary"]:
        """Logits of the distribution that is drawn from.

        Args:
            logits: ``(..., V)``.

        Returns:
            ``(..., V)`` in float32 at least, the largest of a row 0, and ``-inf`` for what cannot be drawn.

        Raises:
            ModelError: a row holds NaN, ``+inf`` or nothing but ``-inf``.
        """
        x = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
        largest, first = x.max(-1, keepdim=True).values, x.argmax(-1, keepdim=True)
        if not bool(largest.isfinite().all()):
            raise ModelError(
                "no token can be drawn from these logits",
                got="NaN, +inf, or a row of -inf",
                expected="a finite largest logit in every row",
                fix="look for a diverged model, or for a row without any attended token",
            )
        if self.temperature == 0:
            return torch.full_like(x, -math.inf).scatter_(-1, first, 0.0)
        x = (x - largest) / self.temperature  # the difference first: no temperature makes it overflow
        if self.top_k is not None and self.top_k < x.shape[-1]:
            x = x.masked_fill(~_most_probable(x, self.top_k), -math.inf)
        if self.top_p < 1:
            mass, order = torch.softmax(x, -1).sort(dim=-1, descending=True, stable=True)
            before = mass.cumsum(-1) - mass
            inside = (before < self.top_p).scatter_(-1, torch.zeros_like(first), True)
            x = x.masked_fill(~torch.empty_like(inside).scatter_(-1, order, inside), -math.inf)
        return x

    def pick(
        self, logits: Float[Tensor, "*rows vocabulary"], numbers: Float[Tensor, "*rows"]
    ) -> Int[Tensor, "*rows"]:
        """The tokens at given quantiles: the inverse of the cumulative distribution, in order of token ids.

        Args:
            logits: ``(..., V)``.
            numbers: one in [0, 1) per row; greedy sampling does not look at them.

        Returns:
            Token ids ``(...)``.

        Raises:
            ModelError: as ``warp``.
        """
        x = self.warp(logits)
        if self.temperature == 0:
            return x.argmax(-1)
        mass = torch.softmax(x.double(), -1).cumsum(-1)
        total = mass[..., -1:]
        wanted = torch.minimum(numbers.double()[..., None] * total, total.nextafter(torch.zeros_like(total)))
        return torch.searchsorted(mass, wanted, right=True)[..., 0]

    def draw(
        self, logits: Float[Tensor, "*rows vocabulary"], generator: torch.Generator
    ) -> Int[Tensor, "*rows"]:
        """Token ids ``(...)``, with one number of the generator per row (greedy sampling takes it, too)."""
        numbers = torch.rand(
            logits.shape[:-1], generator=generator, dtype=torch.float64, device=generator.device
        )
        return self.pick(logits, numbers.to(logits.device))


def _most_probable(x: Tensor, count: int) -> Tensor:
    """The ``count`` largest of each row, of equal ones those that come first."""
    border = x.topk(count, -1).values[..., -1:]
    above, equal = x > border, x == border
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def row_numbers(generator: torch.Generator, rows: int, positions: int) -> Float[Tensor, "rows positions 2"]:
    """Random numbers in [0, 1) of every position of every row: column 0 drafts, column 1 replaces.

    The generator gives one seed per row, and a row's numbers come from its seed alone. So a text depends
    neither on the batch that it was made in, nor on ``positions``, nor on how often a position was drafted;
    and the generator's state before the call is all that is needed to make the same texts again.

    Example:
        >>> together = row_numbers(torch.Generator().manual_seed(0), 2, 5)
        >>> generator = torch.Generator().manual_seed(0)
        >>> alone = [row_numbers(generator, 1, count) for count in (5, 3)]
        >>> bool((together[0] == alone[0][0]).all() and (together[1, :3] == alone[1][0]).all())
        True
    """
    seeds = torch.randint(2**63 - 1, (rows,), generator=generator, device=generator.device)
    streams = (torch.Generator().manual_seed(seed) for seed in seeds.tolist())
    return torch.stack(
        [torch.rand(positions, 2, generator=stream, dtype=torch.float64) for stream in streams]
    )


@contextmanager
def sampling(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; afterwards every module is in the mode that it was in.

    Older versions of PyTorch keep the half precision copies of weights that autocast made here without a
    graph for a later forward in the same region, whose weights then get no gradients (pytorch#112583): the
    copies are dropped.

    Example:
        >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with sampling(model):
        ...     print(model[0].training, torch.is_grad_enabled())
        False False
        >>> model[0].training, model[1].training
        (True, False)
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        torch.clear_autocast_cache()
