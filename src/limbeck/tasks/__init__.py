"""How a batch becomes inputs, predictions and targets, and what good is measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .classification import Classification
from .language import LanguageModelling, Tokens
from .multimodal import MultimodalClassification, MultimodalRegression
from .regression import Regression
from .segmentation import Segmentation
from .weak import WeakSegmentation

if TYPE_CHECKING:
    from ..data import Data


def task_of(data: Data) -> Classification:
    """The task that this data is for."""
    from ..data import MaskData, ModalData, TextData

    if isinstance(data, MaskData):
        return (WeakSegmentation if data.weak else Segmentation)(len(data.classes), data.size, data.stride)
    if isinstance(data, ModalData):
        if data.continuous:
            return MultimodalRegression(len(data.classes), data.classes)
        return MultimodalClassification(len(data.classes))
    return (LanguageModelling if isinstance(data, TextData) else Classification)(len(data.classes))


__all__ = [
    "Classification",
    "LanguageModelling",
    "MultimodalClassification",
    "MultimodalRegression",
    "Regression",
    "Segmentation",
    "Tokens",
    "WeakSegmentation",
    "task_of",
]
