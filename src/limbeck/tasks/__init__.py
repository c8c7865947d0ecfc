"""How a batch becomes inputs, predictions and targets, and what good is measured by."""

from .classification import Classification
from .language import LanguageModelling, Tokens

__all__ = ["Classification", "LanguageModelling", "Tokens"]
