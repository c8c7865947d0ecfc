"""Data sets, explicit splits, replayable augmentation and the loader."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import DataError, suggest
from .arrays import from_arrays, from_datasets
from .augment import AugmentConfig, Views
from .changes import Changes
from .cifar import cifar
from .config import Data, DataConfig
from .digits import digits
from .ellipses import ellipses
from .fashion import fashion_mnist
from .folder import folder
from .glyph100 import glyph100
from .imbalance import Imbalance
from .loader import Loader
from .masks import MaskData, MaskSplit
from .mfeat import mfeat
from .modal import ModalData, ModalSplit
from .modal_files import multimodal
from .modal_keys import ModalKeys
from .noise import LabelNoise
from .npz import npz
from .scenes import scenes
from .segmentation import segmentation
from .splits import DatasetSplit, Split, TensorSplit
from .text import TextData, text, text_from
from .watch import watch

MODAL: dict[str, Callable[[DataConfig], ModalData]] = {
    "multimodal": multimodal,
    "mfeat-privileged": mfeat,
    "mfeat-shape": mfeat,
    "watch": watch,
}
"""Those of several modalities per sample."""

SOURCES: dict[str, Callable[[DataConfig], Data]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar,
    "cifar100": cifar,
    "glyph100": glyph100,
    "folder": folder,
    "npz": npz,
    "text": text,
    "segmentation": segmentation,
    "ellipses": ellipses,
    **MODAL,
    "scenes": scenes,
}
"""Every data set that a configuration can name."""

MASKED = frozenset({"segmentation", "ellipses", "scenes"})
"""Those that have a class for every pixel."""


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
    if config.name not in MODAL and (keys := [k for k in ModalKeys.model_fields if getattr(config, k)]):
        raise DataError(
            f"{', '.join(f'data.{key}' for key in keys)} is for data of several modalities",
            got=f"data.name={config.name}",
            fix=f"leave it out, or take one of {', '.join(MODAL)}",
        )
    return SOURCES[config.name](config)


__all__ = [
    "MASKED",
    "MODAL",
    "SOURCES",
    "AugmentConfig",
    "Changes",
    "Data",
    "DataConfig",
    "DatasetSplit",
    "Imbalance",
    "LabelNoise",
    "Loader",
    "MaskData",
    "MaskSplit",
    "ModalData",
    "ModalSplit",
    "Split",
    "TensorSplit",
    "TextData",
    "Views",
    "from_arrays",
    "from_datasets",
    "load",
    "text_from",
]
