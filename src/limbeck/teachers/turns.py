"""Several teachers that take turns, or speak with one voice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, ModelError
from ..pulse import PulseWidthSchedule
from .live import LiveTeacher


class Several(nn.Module):
    """Networks that answer one at a time, or together by the logarithm of their mean probabilities.

    Args:
        networks: of one task and one input.

    Attributes:
        turn: whose turn it is; None is all of them.

    Example:
        >>> both = Several([nn.Linear(2, 2), nn.Linear(2, 2)])
        >>> both(torch.zeros(1, 2)).exp().sum().round(decimals=4)
        tensor(1., grad_fn=<RoundBackward1>)
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.turn: int | None = None

    def forward(self, x: Tensor) -> Any:
        """What the network on turn says; all together a tensor of log-probabilities, classes in dimension 1."""
        if self.turn is not None:
            return self.networks[self.turn](x)
        logs = [_tensor(network(x)).float().log_softmax(1) for network in self.networks]
        return torch.stack(logs).logsumexp(0) - torch.log(torch.tensor(float(len(logs))))


class AlternatingTeacher(LiveTeacher):
    """Several frozen networks of which a schedule chooses one in every training step.

    Outside of training steps, in guards and evaluations, all answer together: the mean of their probabilities.
    Without a schedule they do so in training too. Only logits are given, for layers of different networks have
    nothing to do with each other.

    Args:
        teachers: at least two, fed alike.
        schedule: who has a step, a function of the optimiser step; None is the mean of all.

    Raises:
        ConfigError: one teacher, or teachers of unlike inputs.

    Example:
        >>> from limbeck.tasks import Classification
        >>> pair = [LiveTeacher(nn.Linear(2, 3), Classification(3)) for _ in range(2)]
        >>> teacher = AlternatingTeacher(pair, PulseWidthSchedule(period=4, slots=2))
        >>> with teacher.on(step=3):
        ...     teacher.model.turn
        1
        >>> teacher.model.turn is None
        True
    """

    model: Several

    def __init__(self, teachers: Sequence[LiveTeacher], schedule: PulseWidthSchedule | None = None) -> None:
        if len(teachers) < 2:
            raise ConfigError("teachers that take turns are at least two", got=len(teachers))
        first = teachers[0]
        for other in teachers[1:]:
            if (other.expects, other.renormalise) != (first.expects, first.renormalise):
                raise ConfigError(
                    f"the teachers {first.name} and {other.name} were trained on other inputs",
                    expected="one size and one normalisation",
                )
        super().__init__(
            Several([teacher.model for teacher in teachers]),
            first.task,
            expects=first.expects,
            feeds=first.feeds,
            renormalise=first.renormalise,
            name=" + ".join(teacher.name for teacher in teachers),
        )
        self.capabilities = frozenset({"logits", "exact_views"}) | first.task.gives
        self.schedule = schedule

    @contextmanager
    def on(self, step: int) -> Iterator[None]:
        """The training step after so many others."""
        if self.schedule is not None:
            self.model.turn = self.schedule.turn(step + 1, len(self.model.networks))
        try:
            yield
        finally:
            self.model.turn = None


def _tensor(output: Any) -> Tensor:
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise ModelError("several teachers together need logits", got=type(output).__name__)
    return found
