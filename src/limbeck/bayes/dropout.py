"""MC-dropout: dropout stays on while the network is asked, and the answers are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..bayesian import BayesConfig
from ..errors import ModelError
from .base import Posterior, scores, weight_layers

KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class MCDropout(Posterior):
    """Networks that differ by what is dropped. Normalisation is never in training mode while it is asked.

    Args:
        network: the network.
        config: ``rate``: dropped share of what every linear and convolutional layer but the first reads; null:
            the network's own dropout layers. ``samples``.

    Raises:
        ModelError: no rate, and the network drops nothing: every draw would be alike.

    Source:
        Gal, Ghahramani, ICML 2016, arXiv:1506.02142.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> dropping = MCDropout(net, BayesConfig(name="dropout", rate=0.3)).eval()
        >>> dropping.sample_proba(torch.ones(2, 4), 3).std(0).min() > 0
        tensor(True)
    """

    def __init__(self, network: nn.Module, config: BayesConfig) -> None:
        super().__init__(network, config.samples)
        self.rate = config.rate
        self.own = [m for m in network.modules() if isinstance(m, KINDS) and m.p > 0]
        if self.rate is None and not self.own:
            raise ModelError(
                f"{type(network).__name__} has no dropout layer, so all draws would be alike",
                fix="set bayes.rate, such as 0.2",
            )
        if self.rate is not None and len(weight_layers(network)) < 2:
            raise ModelError(
                f"{type(network).__name__} has one layer, and the first one's inputs are never dropped",
                fix="take another network, or give it dropout layers of its own",
            )

    def learn(self, x: Tensor) -> Tensor:
        with self._dropping():
            return scores(self.network(x))

    def draw(self, x: Tensor, number: int) -> Tensor:
        with self._dropping():
            return scores(self.network(x))

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        modes = [module.training for module in self.own]
        handles = []
        if self.rate is None:
            for module in self.own:
                module.training = True
        else:
            for _, layer in weight_layers(self.network)[1:]:
                handles.append(layer.register_forward_pre_hook(self._drop))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in zip(self.own, modes, strict=True):
                module.training = mode

    def _drop(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        assert self.rate is not None
        return (F.dropout(given[0], self.rate), *given[1:])
