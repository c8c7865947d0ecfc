"""Distillation without data: settings, presets, terms, players and memory. The loop is ``procedures.data_free``."""

from .config import DataFreeConfig, GeneratorConfig
from .presets import PRESETS

__all__ = ["PRESETS", "DataFreeConfig", "GeneratorConfig"]
