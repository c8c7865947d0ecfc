"""Sources of signals: evaluation mode, no gradients, never in a student's checkpoint."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..signals import Batch, Signals
from .calls import Calls
from .live import Inputs, LiveTeacher
from .memory import MemoryTeacher
from .posterior import PosteriorTeacher
from .turns import AlternatingTeacher


@runtime_checkable
class Teacher(Protocol):
    """Anything that can say something about a batch.

    Attributes:
        capabilities: what it can give (``logits``, ``features``, ...), checked against a method's ``needs``.
    """

    capabilities: frozenset[str]

    def signals(self, batch: Batch) -> Signals:
        """What the teacher says about a batch; tensors without gradients."""
        ...


__all__ = [
    "AlternatingTeacher",
    "Calls",
    "Inputs",
    "LiveTeacher",
    "MemoryTeacher",
    "PosteriorTeacher",
    "Teacher",
]
