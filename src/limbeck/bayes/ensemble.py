"""Deep ensembles: networks of other initial weights, trained side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..methods.base import Method, Term, Terms
from ..signals import Batch, Signals
from ..tasks import Classification
from .base import Posterior, mixture, scores


class Ensemble(Posterior):
    """Several networks with equal votes. They share the batches, and nothing else.

    Args:
        networks: of one input and the same classes; a posterior among them speaks with its own mean.
        samples: how many of them answer, the first ones; 0 is the first alone, without averaging.

    Source:
        Lakshminarayanan et al., NeurIPS 2017, arXiv:1612.01474.

    Example:
        >>> ensemble = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)]).eval()
        >>> ensemble.sample_proba(torch.zeros(1, 4), 2).shape
        torch.Size([2, 1, 3])
    """

    draws_fresh = False

    def __init__(self, networks: Sequence[nn.Module], samples: int | None = None) -> None:
        if len(networks) < 2:
            raise ConfigError("an ensemble has at least two networks", got=len(networks))
        super().__init__(networks[0], len(networks) if samples is None else samples)
        self.others = nn.ModuleList(networks[1:])
        self.said: Tensor | None = None

    @property
    def networks(self) -> list[nn.Module]:
        """All members."""
        return [self.network, *self.others]

    def count(self, samples: int) -> int:
        return min(samples, len(self.networks))

    def learn(self, x: Tensor) -> Tensor:
        self.said = torch.stack([scores(network(x)) for network in self.networks])
        return mixture(self.said.float().log_softmax(2))

    def draw(self, x: Tensor, number: int) -> Tensor:
        return scores(self.networks[number](x))


class Each(Method):
    """Cross-entropy of every member, summed: each learns as it would alone.

    Args:
        task: gives the loss.
    """

    name = "members"
    paper = "Lakshminarayanan et al. 2017, arXiv:1612.01474"
    status = "transcribed"
    needs = frozenset()
    label_weight = 0.0

    def __init__(self, task: Classification, **options: Any) -> None:
        super().__init__(**options)
        self.task = task

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        assert isinstance(student, Ensemble)
        signals.extra["members"], student.said = student.said, None

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        members = student.extra["members"]
        losses = [self.task.loss(Signals(member), batch) for member in members]
        return {self.name: Term(torch.stack(losses).mean(), float(len(losses)))}
