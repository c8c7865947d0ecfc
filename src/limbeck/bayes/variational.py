"""Variational inference: a Gaussian over every weight, trained with its mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..bayesian import BayesConfig
from ..methods.base import Method, Term, Terms
from ..signals import Batch, Signals
from .base import Posterior, scores, weight_layers


class Variational(Posterior):
    r"""Mean-field Gaussians ``w ~ N(mu, sd^2)`` over weights and biases of linear and convolutional layers.

    One draw of all weights in every training step. The mean network is ``network`` itself; normalisation layers
    stay deterministic. The prior is ``N(0, prior_sd^2)``, by default ``1/sqrt(inputs of a unit)`` for weights and 1
    for biases.

    Args:
        network: the network; its initial weights are the initial means.
        config: ``initial_sd``, ``largest_sd``, ``prior_sd``, ``samples``.

    Source:
        Blundell et al., ICML 2015, arXiv:1505.05424. Start and bound of the standard deviations as in the code of
        Morad et al. (arXiv:2601.01484), whose posterior is over inducing weights instead.

    Example:
        >>> posterior = Variational(nn.Linear(4, 3), BayesConfig(name="vi"))
        >>> posterior.kl().item() > 0, posterior.sample_proba(torch.zeros(2, 4), 3).shape
        (True, torch.Size([3, 2, 3]))
    """

    def __init__(self, network: nn.Module, config: BayesConfig) -> None:
        super().__init__(network, config.samples)
        self.largest = config.largest_sd
        self.names: list[str] = []
        self.priors: list[float] = []
        self.log_sd = nn.ParameterList()
        for path, layer in weight_layers(network):
            for part, parameter in layer.named_parameters(recurse=False):
                name = f"{path}.{part}".lstrip(".")
                own = 1.0 if part == "bias" else 1 / math.sqrt(parameter[0].numel())
                self.names.append(name)
                self.priors.append(config.prior_sd or own)
                self.log_sd.append(torch.full_like(parameter, math.log(config.initial_sd)))

    def weights(self) -> dict[str, Tensor]:
        """One draw of the weights, differentiable in means and standard deviations."""
        return {name: mean + sd * noise(mean) for name, mean, sd in zip(self.names, *self.moments())}

    def moments(self) -> tuple[list[Tensor], list[Tensor]]:
        """Means and standard deviations of the weights, in the order of ``names``."""
        means: list[Tensor] = [self.network.get_parameter(name) for name in self.names]
        return means, [log.exp().clamp(max=self.largest) for log in self.log_sd]

    def kl(self) -> Tensor:
        """Divergence of the posterior from the prior in nats: ``sum log(p/s) + (s^2 + m^2) / 2p^2 - 1/2``."""
        total = []
        for mean, sd, prior in zip(*self.moments(), self.priors):
            total.append((math.log(prior) - sd.log() + (sd**2 + mean**2) / (2 * prior**2) - 0.5).sum())
        return torch.stack(total).sum()

    def learn(self, x: Tensor) -> Tensor:
        return scores(functional_call(self.network, self.weights(), (x,)))

    def draw(self, x: Tensor, number: int) -> Tensor:
        return self.learn(x)


class KL(Method):
    """``kappa KL(q || prior) / N`` beside cross-entropy: the negative evidence bound for each training sample.

    Kappa is 0 up to one share of the epochs, and rises to ``kl_weight`` at another.

    Args:
        config: ``kl_weight``, ``anneal``.
        samples: training samples N.
        epochs: of the run.
    """

    name = "kl"
    paper = "Blundell et al. 2015, arXiv:1505.05424"
    status = "transcribed"
    needs = frozenset()

    def __init__(self, config: BayesConfig, samples: int, epochs: int) -> None:
        super().__init__()
        self.config, self.samples, self.epochs = config, samples, epochs

    def kappa(self) -> float:
        """The factor where the run stands."""
        low, high = (share * self.epochs for share in self.config.anneal)
        risen = float(self.epoch >= high) if high == low else (self.epoch - low) / (high - low)
        return self.config.kl_weight * min(max(risen, 0.0), 1.0)

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        assert isinstance(student, Variational)
        signals.extra["kl"] = student.kl()

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return {self.name: Term(student.extra["kl"] / self.samples, self.kappa())}


def noise(like: Tensor) -> Tensor:
    """Standard normal numbers, the same whatever the memory layout of the tensor that they are like."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device)
