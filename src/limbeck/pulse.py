"""A periodic switch between teachers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PulseWidthSchedule(BaseModel):
    """Which of several teachers has a step: a pulse-width-modulated signal over optimiser steps.

    A period of ``period`` steps is cut into ``slots`` equal slots of ``floor(period / slots)`` steps. One slot of
    every ``slots`` belongs to the second teacher (one more to a third, and so on), the rest to the first:

        s(i) = 1  iff  i > start  and  floor(i / floor(period / slots)) mod slots = phase

    The signal is a function of the optimiser step and of nothing else, so it is equal on every process and goes
    on unchanged when a run is resumed (the step is in the checkpoint). With one slot the second teacher has all
    steps after ``start``, with two they alternate. A period that the slots do not divide is cut short.

    Attributes:
        period: steps.
        slots: parts of a period; the duty cycle is 1 / slots.
        start: steps of the first teacher before.
        phase: which slot is the second teacher's.

    Source: the schedule of ASDT's released code (arXiv:2112.09459): period 150, 6 slots, start 1000.

    Example:
        >>> signal = PulseWidthSchedule(period=6, slots=3, start=3)
        >>> [signal.turn(step) for step in range(1, 15)]
        [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0]
        >>> [PulseWidthSchedule(period=3, slots=3).turn(step, teachers=3) for step in range(1, 8)]
        [2, 0, 1, 2, 0, 1, 2]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    period: int = Field(150, ge=1, description="steps")
    slots: int = Field(6, ge=1, description="parts of a period; one is the second teacher's")
    start: int = Field(0, ge=0, description="steps of the first teacher before")
    phase: int = Field(0, ge=0, description="which part is the second teacher's")

    @model_validator(mode="after")
    def _fits(self) -> PulseWidthSchedule:
        if self.slots > self.period:
            raise ValueError("more slots than steps in a period")
        if self.phase >= self.slots:
            raise ValueError("phase is the number of a slot, below slots")
        return self

    def turn(self, step: int, teachers: int = 2) -> int:
        """The number of the teacher of an optimiser step, counted from 1 as the published code does.

        Args:
            step: of the run.
            teachers: how many there are, at least 2; with more than ``slots + 1`` the last ones never have a turn.
        """
        if step <= self.start:
            return 0
        slot = (step // (self.period // self.slots) - self.phase) % self.slots
        if self.slots == 1:
            return 1
        return slot + 1 if slot < min(teachers - 1, self.slots) else 0
