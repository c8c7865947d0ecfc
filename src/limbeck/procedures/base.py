"""A procedure owns a step: a short sequence of updates, each naming the optimiser that it drives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from ..methods.base import Terms
from ..signals import Batch


@dataclass(slots=True)
class Update:
    """Terms to add up, differentiate, and hand to one player's optimiser.

    Attributes:
        player: key of ``Procedure.players``.
        terms: the named weighted terms of this update.
        fresh: whether the optimiser forgets its moments before it steps, because the player began anew.
    """

    player: str
    terms: Terms
    fresh: bool = False


@runtime_checkable
class Procedure(Protocol):
    """How one step runs.

    ``step`` is a generator. At every ``yield`` the trainer differentiates the update, steps the named
    player's optimiser, and resumes the generator, which then sees the changed weights: a generator phase
    followed by a student phase is two ``yield``s. The trainer does scaling, accumulation, clipping, schedule,
    checkpoint and wrapping for every player.

    Attributes:
        players: modules by name, each with an optimiser of its own; the trainer replaces each by its wrapped
            form, so ``step`` must call them through this dictionary. ``"student"`` is a ``Learner``.

    A procedure may also have ``optimizers``, a dictionary of ``PlayerOptimizer`` by player: the optimisers of
    players that do not learn by ``train.optimizer``, unless ``train.optimizers`` says otherwise; and a method
    ``validated(scores)``, which hears of every validation.
    """

    players: dict[str, nn.Module]

    def step(self, batch: Batch) -> Iterator[Update]:
        """The updates of one (micro-)batch."""
        ...

    def figures(self) -> dict[str, float]:
        """Numbers for the next row of the record, beside the terms; by name."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """State beside the players' own: tensors, numbers and strings only."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        ...
