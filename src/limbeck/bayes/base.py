"""A distribution over networks that answers as one network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..seeds import derive


@runtime_checkable
class BayesianTeacher(Protocol):
    """Anything that can say how sure it is by samples of class probabilities."""

    def sample_proba(self, x: Tensor, samples: int) -> Tensor:
        """``(S, B, K)``, each row a distribution."""
        ...

    def predict_proba(self, x: Tensor, samples: int | None = None) -> Tensor:
        """``(B, K)``, their mean after the softmax."""
        ...


class Posterior(nn.Module):
    r"""A distribution over networks: ``p(y|x) = mean_s softmax(f_s(x))``, the mean **after** the softmax.

    In training mode it is one network, drawn anew in each call where the kind says so. In evaluation mode it gives
    the logarithm of the mean probabilities, whose softmax at temperature 1 is that mean exactly: every metric and
    every method reads it as logits.

    The s-th draw has a random stream of its own, from ``key`` and s: the same ``key`` gives the same networks
    in every batch, and the global random state is left alone.

    Args:
        network: the network.
        samples: how many draws are averaged unless a call says otherwise; 0 is the mean network alone.

    Attributes:
        key: decides the draws; a teacher sets it to the training step.

    Example:
        >>> posterior = Posterior(nn.Linear(4, 3), samples=2)
        >>> posterior.sample_proba(torch.zeros(5, 4), 2).shape
        torch.Size([2, 5, 3])
        >>> round(float(posterior.eval()(torch.zeros(1, 4)).detach().exp().sum()), 4)
        1.0
    """

    draws_fresh = True
    """Whether any number of networks can be drawn."""

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__()
        self.network, self.samples, self.key = network, samples, 0

    def learn(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` in training."""
        return scores(self.network(x))

    def draw(self, x: Tensor, number: int) -> Tensor:
        """Logits ``(B, K)`` of the network with this number, drawn from the current random state."""
        return scores(self.network(x))

    def plain(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the mean network: what is left of the distribution without averaging."""
        return scores(self.network(x))

    def count(self, samples: int) -> int:
        """How many networks answer where so many are wanted."""
        return samples

    def forward(self, x: Tensor) -> Tensor:
        """In training logits, else log-probabilities ``(B, K)`` of the averaged prediction."""
        return self.learn(x) if self.training else self.log_proba(x)

    def sample_log_proba(self, x: Tensor, samples: int, temperature: float = 1.0) -> Tensor:
        """Log-probabilities ``(S, B, K)`` of ``softmax(f_s(x) / temperature)``; of the mean network with 0."""
        if samples == 0:
            return (self.plain(x).float() / temperature).log_softmax(1)[None]
        found = []
        for number in range(self.count(samples)):
            with self._stream(number):
                found.append((self.draw(x, number).float() / temperature).log_softmax(1))
        return torch.stack(found)

    def log_proba(self, x: Tensor, samples: int | None = None, temperature: float = 1.0) -> Tensor:
        """Logarithm ``(B, K)`` of ``mean_s softmax(f_s(x) / temperature)``."""
        return mixture(self.sample_log_proba(x, self.samples if samples is None else samples, temperature))

    def sample_proba(self, x: Tensor, samples: int) -> Tensor:
        """Class probabilities ``(S, B, K)`` of the drawn networks."""
        return self.sample_log_proba(x, samples).exp()

    def predict_proba(self, x: Tensor, samples: int | None = None) -> Tensor:
        """Their mean ``(B, K)``."""
        return self.log_proba(x, samples).exp()

    @contextmanager
    def _stream(self, number: int) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.manual_seed(derive(self.key, "draw", number))
            yield


def mixture(logs: Tensor) -> Tensor:
    """Logarithm of the mean of probabilities given by their logarithms ``(S, ...)``.

    Example:
        >>> mixture(torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()).exp()
        tensor([0.3000, 0.7000])
    """
    return logs.logsumexp(0) - math.log(len(logs))


def scores(output: Any) -> Tensor:
    """Logits ``(B, K)`` of what a network gave.

    Raises:
        ModelError: no such tensor.
    """
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(found, Tensor) or found.dim() != 2:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(output).__name__
        raise ModelError(
            "a Bayesian teacher needs a network that gives class scores", got=got, expected="(N, classes)"
        )
    return found


def weight_layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Linear and convolutional layers by name, in order.

    Raises:
        ModelError: there is none.
    """
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    if not found:
        raise ModelError(
            f"{type(network).__name__} has no linear or convolutional layer",
            fix="take swag, sgld or an ensemble, which know no layers",
        )
    return found
