"""Evaluation: what a trained network is worth and what it costs."""

from __future__ import annotations

from .cost import cost
from .metrics import classification_arrays, classification_metrics

__all__ = ["classification_arrays", "classification_metrics", "cost"]
