"""Limbeck: knowledge distillation for PyTorch, with evidence that it helped.

Names are loaded when they are first used, so that ``import limbeck`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import distill, resume, train
    from .errors import LimbeckError
    from .generations import born_again
    from .methods import METHODS, Method
    from .runs import Run

_HOME = {
    "distill": "api",
    "train": "api",
    "resume": "api",
    "born_again": "generations",
    "LimbeckError": "errors",
    "METHODS": "methods",
    "Method": "methods",
    "Run": "runs",
}
_ROOMS = (
    "bayes",
    "data",
    "errors",
    "evaluation",
    "losses",
    "methods",
    "models",
    "report",
    "study",
    "tasks",
    "teachers",
)

__all__ = ["METHODS", "LimbeckError", "Method", "Run", "born_again", "distill", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("limbeck")
        except PackageNotFoundError:
            return "0+source"  # a checkout that was not installed
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS, "__version__"]
