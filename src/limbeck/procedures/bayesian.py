"""The ordinary step, after which a posterior looks at the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from ..bayes import SGLD, SWAG, LastLayerLaplace
from ..bayes.snapshots import Batches
from ..bayesian import BayesConfig
from ..signals import Batch
from .base import Update
from .distillation import Distillation


class BayesianTraining(Distillation):
    """Training of a posterior: SWAG collects, SGLD shakes and keeps, and at the last step Laplace is fitted.

    Args:
        given: as for ``Distillation``.
        bayes: the posterior's settings.
        steps: optimiser steps of the run.
        samples: training samples.
        rate: learning rate of an optimiser step.
        batches: the training inputs.
    """

    def __init__(
        self,
        *given: object,
        bayes: BayesConfig,
        steps: int,
        samples: int,
        rate: Callable[[int], float],
        batches: Batches,
    ) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.bayes, self.steps, self.samples = bayes, steps, samples
        self.rate, self.batches, self.done = rate, batches, -1
        count = bayes.snapshots if bayes.name == "swag" else max(bayes.samples, 1)
        self.points = spread(int(bayes.start * steps), steps, count)

    def step(self, batch: Batch) -> Iterator[Update]:
        """The ordinary update, then what the posterior does once for all pieces of a batch."""
        yield from super().step(batch)
        if self.learner.step != self.done:
            self.done = self.learner.step
            self._after(self.learner.student, self.done)

    def _after(self, posterior: nn.Module, step: int) -> None:
        last = step + 1 == self.steps
        if isinstance(posterior, SGLD):
            posterior.perturb(self.rate(step), self.samples)
            if step + 1 in self.points:
                posterior.keep()
        elif isinstance(posterior, SWAG):
            if step + 1 in self.points:
                posterior.collect()
            if last:
                posterior.finish(self.batches)
        elif isinstance(posterior, LastLayerLaplace) and last:
            posterior.fit(self.batches)


def spread(first: int, last: int, count: int) -> frozenset[int]:
    """Equally spaced steps after ``first`` up to ``last``, which is one of them.

    Example:
        >>> sorted(spread(10, 20, 4))
        [12, 15, 17, 20]
    """
    return frozenset(first + (last - first) * (i + 1) // count for i in range(count))
