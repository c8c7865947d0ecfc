"""How a batch becomes inputs, predictions and targets, and what good is measured by."""

from .classification import Classification

__all__ = ["Classification"]
