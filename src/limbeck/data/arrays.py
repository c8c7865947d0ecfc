"""Data of one's own from Python: arrays and tensors, or any map-style data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .assembly import UNCHANGED, assemble
from .changes import Changes
from .config import Data, Share
from .splits import DatasetSplit, TensorSplit


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    x_validation: Any = None,
    y_validation: Any = None,
    *,
    classes: Sequence[str] | None = None,
    validation: Share = 0.1,
    train_size: int | None = None,
    split_seed: int = 0,
    changes: Changes = UNCHANGED,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    name: str = "arrays",
) -> Data:
    """Data from NumPy arrays or tensors in memory.

    Args:
        x_train, x_test, x_validation: images ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``; whole
            numbers 0..255 are 8-bit pixels, floats are taken as they are.
        y_train, y_test, y_validation: whole class ids ``(n,)``.
        classes: class names (default "0", "1", … up to the largest label).
        validation: share or number of training images to hold out when no validation arrays are given.
        train_size: keep only so many training images, stratified.
        split_seed: seed of both draws.
        changes: label noise, imbalance and few-shot selection of the training split.
        mean, std: normalisation per channel (default: computed on the training split).
        name: of the data set.

    Raises:
        DataError: wrong form or type, NaN, labels outside the classes, counts that disagree, an empty split.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.integers(0, 256, (40, 8, 8, 3)), np.arange(40) % 4
        >>> data = from_arrays(x[:30], y[:30], x[30:], y[30:])
        >>> len(data.train), len(data.validation), data.channels, data.classes
        (27, 3, 3, ('0', '1', '2', '3'))
    """
    parts = {"train": (x_train, y_train), "test": (x_test, y_test)}
    if x_validation is not None:
        parts["validation"] = (x_validation, y_validation)
    splits = {
        part: TensorSplit(as_images(x, f"x of {part}"), as_labels(y, f"y of {part}"), f"{part} of {name}")
        for part, (x, y) in parts.items()
    }
    return assemble(
        name,
        splits["train"],
        splits["test"],
        splits.get("validation"),
        classes=classes or default_classes(*(split.labels for split in splits.values())),
        share=validation,
        train_size=train_size,
        split_seed=split_seed,
        changes=changes,
        mean=mean,
        std=std,
    )


def from_datasets(
    train: Any,
    test: Any,
    validation: Any = 0.1,
    *,
    classes: Sequence[str] | None = None,
    train_size: int | None = None,
    split_seed: int = 0,
    changes: Changes = UNCHANGED,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    name: str = "datasets",
) -> Data:
    """Data from any map-style ``torch.utils.data.Dataset`` objects that give ``(image, label)``.

    Labels are found by one pass over each data set. Images must be of one size; random transforms inside the
    data sets are not replayable, so leave augmentation to ``AugmentConfig``.

    Args:
        train, test: the data sets.
        validation: a data set, or the share or number of training images to hold out.
        classes: class names (default "0", "1", … up to the largest label).
        train_size: keep only so many training images, stratified.
        split_seed: seed of both draws.
        changes: label noise, imbalance and few-shot selection of the training split.
        mean, std: normalisation per channel (default: computed on the training split).
        name: of the data set.

    Raises:
        DataError: not map-style, not images, NaN, labels outside the classes, an empty split.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> make = lambda n: TensorDataset(torch.rand(n, 1, 4, 4), torch.arange(n) % 2)
        >>> data = from_datasets(make(20), make(10), validation=4)
        >>> len(data.train), len(data.validation), len(data.test)
        (16, 4, 10)
    """
    splits = [DatasetSplit(train, name=f"train of {name}"), DatasetSplit(test, name=f"test of {name}")]
    share: Share = 0.1
    if isinstance(validation, (int, float)):
        share = validation
    else:
        splits.append(DatasetSplit(validation, name=f"validation of {name}"))
    return assemble(
        name,
        *splits,
        classes=classes or default_classes(*(split.labels for split in splits)),
        share=share,
        train_size=train_size,
        split_seed=split_seed,
        changes=changes,
        mean=mean,
        std=std,
    )


def default_classes(*labels: Tensor) -> list[str]:
    """Numbers as names, up to the largest label."""
    return [str(k) for k in range(1 + max(int(part.max()) if len(part) else 0 for part in labels))]


def as_images(value: Any, what: str) -> Tensor:
    """Images as ``(n, c, h, w)`` uint8 or float32, contiguous."""
    array = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind in "iu" and array.dtype != np.uint8:
        if array.size and (array.min() < 0 or array.max() > 255):
            raise DataError(
                f"{what} holds whole numbers that are not 8-bit pixels",
                got=f"{array.min()} to {array.max()}",
                expected="0 to 255, or floats",
            )
        array = array.astype(np.uint8)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype != np.uint8:
        raise DataError(f"{what} does not hold numbers", got=f"type {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4:
        raise DataError(
            f"{what} is not a stack of images",
            got=f"shape {array.shape}",
            expected="(n, h, w), (n, h, w, c) or (n, c, h, w)",
        )
    return torch.from_numpy(np.array(array, order="C"))


def as_labels(value: Any, what: str) -> Tensor:
    """Labels as ``(n,)`` int64."""
    array = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{what} is not a list of class ids",
            got=f"shape {array.shape} of type {array.dtype}",
            expected="whole numbers of shape (n,)",
        )
    return torch.from_numpy(array.astype(np.int64))
