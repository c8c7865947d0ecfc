"""The ordinary step: ask the teacher, update the student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from ..signals import Batch
from ..teachers import Teacher
from ..training.learner import Learner
from .base import Update


class Distillation:
    """One student under one teacher; without a teacher it is supervised training.

    Args:
        learner: the student with its methods.
        teacher: who teaches, or None when no method needs a teacher.
        autocast: context in which the teacher runs, such as ``accelerator.autocast``.
    """

    def __init__(
        self,
        learner: Learner,
        teacher: Teacher | None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.players: dict[str, nn.Module] = {"student": learner}
        self.teacher, self.autocast = teacher, autocast

    def step(self, batch: Batch) -> Iterator[Update]:
        """Ask the teacher once, then one update of the student."""
        signals = None
        if self.teacher is not None:
            with self.autocast():
                signals = self.teacher.signals(batch)
        yield Update("student", self.players["student"](batch, signals))

    def state_dict(self) -> dict[str, Any]:
        """Nothing beside the learner's own state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""
