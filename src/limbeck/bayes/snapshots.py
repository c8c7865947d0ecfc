"""Posteriors that are sets of weights met on the way: SWAG and stochastic gradient Langevin dynamics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..bayesian import BayesConfig
from ..seeds import derive
from .base import Posterior, scores

Batches = Callable[[], Iterable[Tensor]]
"""Training inputs as they are, batch after batch, on the network's device."""


class Snapshots(Posterior):
    """Whole networks that were kept, ``samples`` of them; before any is, the network alone.

    Args:
        network: the network that is trained.
        samples: how many are kept.

    Attributes:
        bank: their weights ``(S, P)``; ``statistics``: what normalisation layers remember ``(S, Q)``.
        filled: how many there are.
    """

    bank: Tensor
    statistics: Tensor
    filled: Tensor
    draws_fresh = False

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__(network, samples)
        kept = max(samples, 1)
        self.register_buffer("bank", torch.zeros(kept, len(flat(network.parameters()))))
        self.register_buffer("statistics", torch.zeros(kept, len(flat(_statistics(network).values()))))
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def keep(self) -> None:
        """Keep the network as it stands."""
        place = int(self.filled)
        self.bank[place] = flat(self.network.parameters())
        if self.statistics.shape[1]:
            self.statistics[place] = flat(_statistics(self.network).values())
        self.filled += 1

    def count(self, samples: int) -> int:
        return min(samples, max(int(self.filled), 1))

    def draw(self, x: Tensor, number: int) -> Tensor:
        """The numbered network of the bank: in order with key 0, else in an order of the key."""
        filled = int(self.filled)
        if not filled:
            return scores(self.network(x))
        if self.key:
            order = torch.randperm(filled, generator=torch.Generator().manual_seed(derive(self.key, "order")))
            number = int(order[number])
        own = {**dict(self.network.named_parameters()), **_statistics(self.network)}
        stored = torch.cat([self.bank[number], self.statistics[number]])
        return scores(functional_call(self.network, _like(stored, own), (x,)))


class SWAG(Snapshots):
    r"""A Gaussian around the average of late weights: ``N(mean, (diag(var) + D D^T / (R - 1)) / 2)``.

    ``mean`` and ``var`` are those of the collected weights, D the differences of the last R of them to the mean that
    was then. At the end ``samples`` networks are drawn, each with batch statistics of its own from a pass over the
    training data; the network itself becomes the mean (SWA).

    Source:
        Maddox et al., NeurIPS 2019, arXiv:1902.02476.

    Example:
        >>> swag = SWAG(nn.Linear(2, 2), BayesConfig(name="swag", samples=3))
        >>> for _ in range(4):
        ...     swag.collect()
        >>> swag.finish(lambda: [])
        >>> torch.allclose(swag.bank[0], flat(swag.network.parameters()))
        True
    """

    mean: Tensor
    square: Tensor
    deviations: Tensor
    collected: Tensor

    def __init__(self, network: nn.Module, config: BayesConfig) -> None:
        super().__init__(network, config.samples)
        size = self.bank.shape[1]
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))
        self.register_buffer("deviations", torch.zeros(config.rank, size))
        self.register_buffer("collected", torch.tensor(0))

    @torch.no_grad()
    def collect(self) -> None:
        """Take the weights as they stand into the moments."""
        weights, number = flat(self.network.parameters()), int(self.collected)
        self.mean += (weights - self.mean) / (number + 1)
        self.square += (weights.square() - self.square) / (number + 1)
        self.deviations[number % len(self.deviations)] = weights - self.mean
        self.collected += 1

    def gaussian(self) -> Tensor:
        """One draw ``(P,)`` of the weights."""
        spread = (self.square - self.mean.square()).clamp(min=0).sqrt()
        rank = min(int(self.collected), len(self.deviations))
        own, shared = torch.randn_like(self.mean), torch.randn(rank, device=self.mean.device)
        low_rank = shared @ self.deviations[:rank] / math.sqrt(max(rank - 1, 1))
        return self.mean + (spread * own + low_rank) / math.sqrt(2)

    @torch.no_grad()
    def finish(self, batches: Batches) -> None:
        """Draw the networks that answer from now on, and become the mean."""
        self.filled.zero_()
        for number in range(self.samples):
            with self._stream(number):
                self._become(self.gaussian(), batches)
            self.keep()
        self._become(self.mean, batches)

    def _become(self, weights: Tensor, batches: Batches) -> None:
        for parameter, value in zip(
            self.network.parameters(), _like(weights, dict(self.network.named_parameters())).values()
        ):
            parameter.copy_(value)
        if self.statistics.shape[1]:
            refresh(self.network, batches)


class SGLD(Snapshots):
    r"""Langevin dynamics: every step of SGD is followed by noise, and late weights are kept as samples.

    A step of rate :math:`\alpha` on the mean loss of N samples, then
    :math:`w \leftarrow w + \sqrt{2 \alpha T / N}\, \xi`: the posterior at temperature T is stationary, up to the step's
    own error. A weight decay d is the prior :math:`N(0, 1 / (d N))`.

    Source:
        Welling, Teh, ICML 2011.

    Example:
        >>> chain = SGLD(nn.Linear(2, 2), BayesConfig(name="sgld", samples=2))
        >>> before = chain.network.weight.detach().clone()
        >>> chain.perturb(rate=0.1, samples=100)
        >>> bool((chain.network.weight != before).all())
        True
    """

    def __init__(self, network: nn.Module, config: BayesConfig) -> None:
        super().__init__(network, config.samples)
        self.temperature = config.posterior_temperature

    @torch.no_grad()
    def perturb(self, rate: float, samples: int) -> None:
        """Add the noise that belongs to a step of this rate on the mean loss of so many training samples."""
        sd = math.sqrt(2 * rate * self.temperature / samples)
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=sd)


@torch.no_grad()
def refresh(network: nn.Module, batches: Batches) -> None:
    """Measure the statistics of batch normalisations anew, as the mean over batches.

    Source: Izmailov et al., UAI 2018, arXiv:1803.05407; checked against ``torch.optim.swa_utils.update_bn``.
    """
    kinds = nn.modules.batchnorm._BatchNorm
    norms = [m for m in network.modules() if isinstance(m, kinds) and m.track_running_stats]
    modes = {module: module.training for module in network.modules()}
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for x in batches():
        network(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in modes.items():
        module.training = mode


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Tensors end to end, in float32.

    Example:
        >>> flat([torch.zeros(2, 2), torch.ones(1)])
        tensor([0., 0., 0., 0., 1.])
    """
    return (
        torch.cat(parts) if (parts := [t.detach().reshape(-1).float() for t in tensors]) else torch.zeros(0)
    )


def _statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: b for name, b in network.named_buffers() if b.is_floating_point()}


def _like(stored: Tensor, own: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = torch.split(stored, [tensor.numel() for tensor in own.values()])
    return {name: part.view(t.shape).to(t.dtype) for part, (name, t) in zip(parts, own.items(), strict=True)}
