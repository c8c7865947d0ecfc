"""A Bayesian teacher: the mean of class probabilities over drawn networks, as one source of signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..bayes.base import Posterior, mixture
from ..signals import Batch, Signals
from ..tasks import Classification
from .live import LiveTeacher


class PosteriorTeacher(LiveTeacher):
    """Says the logarithm of the averaged probabilities, and in ``extra["samples"]`` each network's ``(S, N, K)``.

    In every training step the networks are drawn anew, from the step's number alone, so that a resumed run sees
    the same ones. Outside of steps, in guards, evaluations and a memory, they are always the same. Only logits
    are given: layers of different networks have nothing to do with each other.

    Args:
        model: the distribution over networks.
        task, expects, feeds, renormalise, name: as for ``LiveTeacher``.
        samples: networks that are averaged; None: as the distribution says.

    Example:
        >>> import torch
        >>> from limbeck.bayes import Ensemble
        >>> teacher = PosteriorTeacher(Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)]), Classification(3))
        >>> signals = teacher.signals(Batch(torch.ones(2, 4), torch.zeros(2).long(), torch.arange(2)))
        >>> torch.allclose(signals.logits.softmax(1), signals.extra["samples"].exp().mean(0))
        True
    """

    model: Posterior

    def __init__(
        self, model: Posterior, task: Classification, *, samples: int | None = None, **given: Any
    ) -> None:
        super().__init__(model, task, **given)
        self.capabilities = frozenset({"logits", "exact_views"}) | task.gives
        if samples is not None:
            model.samples = samples
        self.samples = samples

    @property
    def gives_samples(self) -> bool:
        """Whether several networks are heard one by one; not where their mean has a closed form."""
        closed = getattr(self.model, "link", "mc") == "probit" and self.samples is None
        return self.model.samples > 1 and not closed

    def _asked(self, batch: Batch) -> Signals:
        if not self.gives_samples:
            return super()._asked(batch)
        network = _Sampled(self.model)
        found = self.task.call(network, batch)
        signals = self.task.signals(mixture(found))
        if self.temperature == 1:
            signals.extra["samples"] = found
        return signals

    @contextmanager
    def on(self, step: int) -> Iterator[None]:
        """The training step after so many others."""
        self.model.key = step + 1
        try:
            yield
        finally:
            self.model.key = 0


class _Sampled(nn.Module):
    """Calls a posterior for all its samples."""

    def __init__(self, model: Posterior) -> None:
        super().__init__()
        self.model = [model]

    def forward(self, x: Tensor) -> Tensor:
        model = self.model[0]
        return model.sample_log_proba(x, model.samples)


__all__ = ["PosteriorTeacher"]
