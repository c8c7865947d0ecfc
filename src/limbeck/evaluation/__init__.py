"""Evaluation: what a trained network is worth and what it costs."""

from __future__ import annotations

from .attacks import pgd
from .corruptions import CORRUPTIONS, corrupt
from .cost import cost
from .metrics import classification_arrays, classification_metrics
from .robustness import robustness
from .transfer import linear_probe

__all__ = [
    "CORRUPTIONS",
    "classification_arrays",
    "classification_metrics",
    "corrupt",
    "cost",
    "linear_probe",
    "pgd",
    "robustness",
]
