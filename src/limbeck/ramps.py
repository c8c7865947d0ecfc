"""Numbers that move while a run trains: weights and options of a method."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Ramp(BaseModel):
    """A number that goes from ``start`` to ``end`` over some epochs of the main stage.

    With ``t`` the share of the way from epoch ``since`` to epoch ``until``, held in [0, 1]:

    =============== =====================================================
    ``linear``      ``start + t (end - start)``
    ``cosine``      ``end + (start - end) (1 + cos(pi t)) / 2``
    ``exponential`` ``start (end / start)^t``, both above 0
    ``sigmoid``     ``start + exp(-5 (1 - t)^2) (end - start)``, the ramp-up of consistency training
    ``step``        ``start`` before ``until``, then ``end``
    =============== =====================================================

    Example:
        >>> ramp = Ramp(start=8, end=2, until=10)
        >>> [ramp.at(epoch, epochs=30) for epoch in (0.0, 5.0, 29.0)]
        [8.0, 5.0, 2.0]
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start: float
    end: float
    shape: Literal["linear", "cosine", "exponential", "sigmoid", "step"] = "linear"
    since: float = Field(0.0, ge=0, description="epoch at which it begins to move")
    until: float | None = Field(None, gt=0, description="epoch at which it arrives; null: the last one")

    @model_validator(mode="after")
    def _possible(self) -> Ramp:
        if self.until is not None and self.until <= self.since:
            raise ValueError("until must be later than since")
        if self.shape == "exponential" and min(self.start, self.end) <= 0:
            raise ValueError("an exponential ramp needs start and end above 0")
        return self

    def at(self, epoch: float, epochs: int) -> float:
        """The number at an epoch of a run of that many epochs."""
        until = float(epochs) if self.until is None else self.until
        t = min(max((epoch - self.since) / max(until - self.since, 1e-9), 0.0), 1.0)
        if self.shape == "cosine":
            return self.end + (self.start - self.end) * (1 + math.cos(math.pi * t)) / 2
        if self.shape == "exponential":
            return float(self.start * (self.end / self.start) ** t)
        if self.shape == "step":
            t = float(t >= 1)
        elif self.shape == "sigmoid":
            t = math.exp(-5 * (1 - t) ** 2)
        return self.start + t * (self.end - self.start)
