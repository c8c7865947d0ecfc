"""The ordinary step: ask the teacher, update the student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..shapes import IGNORE
from ..signals import Batch, Signals
from ..teachers import Calls, LiveTeacher, Teacher
from ..training.gather import world
from ..training.learner import Learner
from .base import Update


class Distillation:
    """One student under one teacher; without a teacher it is supervised training.

    Args:
        learner: the student with its methods.
        teacher: who teaches, or None when no method needs a teacher.
        autocast: context in which the teacher runs, such as ``accelerator.autocast``.
        calls: where samples that a live teacher is asked about are counted, over all processes.
    """

    def __init__(
        self,
        learner: Learner,
        teacher: Teacher | None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        calls: Calls | None = None,
    ) -> None:
        self.players: dict[str, nn.Module] = {"student": learner}
        self.learner = learner
        self.teacher, self.autocast = teacher, autocast
        self.calls = Calls() if calls is None else calls
        self.tokens = 0

    def step(self, batch: Batch) -> Iterator[Update]:
        """Ask the teacher once, then one update of the student."""
        if batch.items is not None:
            self.tokens += int((batch.labels != IGNORE).sum())
        signals: Signals | None = None
        others: dict[int, tuple[Batch, Signals]] = {}
        if self.teacher is not None:
            turns = (
                self.teacher.on(self.learner.step) if isinstance(self.teacher, LiveTeacher) else nullcontext()
            )
            with self.autocast(), turns:
                self._count(batch.samples)
                signals = self.teacher.signals(batch)
                others = self.seconds(batch)
        yield Update("student", self.players["student"](batch, signals, others))

    def seconds(self, batch: Batch) -> dict[int, tuple[Batch, Signals]]:
        """The second batches that methods want, with what the teacher says of them.

        They are made with both networks in evaluation mode.
        """
        live = self.teacher
        if not self.learner.wants_second or not isinstance(live, LiveTeacher):
            return {}
        learner, student = self.learner, self.learner.student

        def ask_student(inputs: Tensor) -> Tensor:
            return learner.task.signals(learner.task.call(student, replace(batch, inputs=inputs))).logits

        def ask_teacher(inputs: Tensor) -> Tensor:
            self._count(len(inputs))
            return live.differentiable(replace(batch, inputs=inputs)).logits

        modes = {module: module.training for module in student.modules()}
        student.eval()
        try:
            wanted = learner.second(ask_student, ask_teacher, batch)
        finally:
            for module, mode in modes.items():
                module.training = mode
        self._count(sum(len(other) for other in wanted.values()))
        return {i: (other, live.signals(other)) for i, other in wanted.items()}

    def _count(self, samples: int) -> None:
        """A remembered teacher is not asked in a step, and every process has an equal share of a batch."""
        if isinstance(self.teacher, LiveTeacher):
            self.calls.spend(samples * world())

    def figures(self) -> dict[str, float]:
        """Numbers for the next row of the record: what methods tell of the last step."""
        methods = self.learner._methods()
        return {f"{m.name}.{key}": float(value) for m in methods for key, value in m.told.items()}

    def learned(self) -> dict[str, float]:
        """What this process has learned from so far: supervised tokens, where there are tokens."""
        return {"tokens": float(self.tokens)} if self.tokens else {}

    def state_dict(self) -> dict[str, Any]:
        """How often the teacher was asked, and what was learned from; the learner has its own state."""
        return {"calls": self.calls.state(), "tokens": self.tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.calls.restore(state.get("calls", {}))
        self.tokens = state.get("tokens", 0)
