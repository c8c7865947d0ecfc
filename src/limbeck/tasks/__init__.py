"""How a batch becomes inputs, predictions and targets, and what good is measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .classification import Classification
from .language import LanguageModelling, Tokens
from .segmentation import Segmentation

if TYPE_CHECKING:
    from ..data import Data


def task_of(data: Data) -> Classification:
    """The task that this data is for."""
    from ..data import MaskData, TextData

    if isinstance(data, MaskData):
        return Segmentation(len(data.classes), data.size, data.stride)
    return (LanguageModelling if isinstance(data, TextData) else Classification)(len(data.classes))


__all__ = ["Classification", "LanguageModelling", "Segmentation", "Tokens", "task_of"]
