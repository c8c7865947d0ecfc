"""Data sets, explicit splits, replayable augmentation and the loader."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import DataError, suggest
from .augment import AugmentConfig, Views
from .config import Data, DataConfig
from .digits import digits
from .loader import Loader
from .splits import DatasetSplit, Split, TensorSplit

SOURCES: dict[str, Callable[[DataConfig], Data]] = {
    "digits": digits,
}
"""Every data set that a configuration can name."""


def load(config: DataConfig) -> Data:
    """Read the data set that a configuration names.

    Raises:
        DataError: an unknown name, or anything wrong with the files.

    Example:
        >>> load(DataConfig(name="digits", train_size=100)).classes[:3]
        ('0', '1', '2')
    """
    if config.name not in SOURCES:
        raise DataError(
            f"unknown data set {config.name!r}",
            expected=suggest(config.name, list(SOURCES)),
            fix="correct data.name",
        )
    return SOURCES[config.name](config)


__all__ = [
    "SOURCES",
    "AugmentConfig",
    "Data",
    "DataConfig",
    "DatasetSplit",
    "Loader",
    "Split",
    "TensorSplit",
    "Views",
    "load",
]
