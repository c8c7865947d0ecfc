"""How a step runs, for papers whose loop is the idea."""

from .base import Procedure, Update
from .distillation import Distillation

__all__ = ["Distillation", "Procedure", "Update"]
