"""A split: images and labels by id, in memory or behind any map-style data set."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError


@runtime_checkable
class Split(Protocol):
    """Images and labels by position. Ids are ``0..len-1``; they name a sample for good."""

    name: str

    @property
    def labels(self) -> Tensor:
        """All labels ``(n,)`` int64."""

    def __len__(self) -> int: ...

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(b, c, h, w)`` float32 (8-bit ones scaled to [0, 1]) and labels ``(b,)`` int64."""

    def subset(self, ids: Tensor) -> Split:
        """The split of these samples only, with new ids ``0..len(ids)-1`` in the order given."""

    def relabelled(self, labels: Tensor) -> Split:
        """The same images under other labels ``(n,)``."""


class TensorSplit:
    """A split that is held in memory.

    Args:
        images: ``(n, c, h, w)`` uint8, or float32 in the range the network shall see before normalisation.
        labels: ``(n,)`` class ids.
        name: what messages call it.

    Raises:
        DataError: empty, counts that disagree, a wrong type or dimension, NaN or infinite pixels.

    Example:
        >>> split = TensorSplit(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> split.fetch(torch.tensor([3]))[1]
        tensor([1])
    """

    def __init__(self, images: Tensor, labels: Tensor, name: str = "split") -> None:
        if images.dim() != 4 or images.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"the images of the {name} split have the wrong form",
                got=f"{tuple(images.shape)} {images.dtype}",
                expected="(n, channels, height, width) uint8 or float32",
            )
        if len(images) != len(labels):
            raise DataError(
                f"the {name} split has {len(images)} images but {len(labels)} labels",
                fix="check that both come from the same file version",
            )
        if len(images) == 0:
            raise DataError(f"the {name} split is empty", expected="at least one image")
        if images.is_floating_point():
            bad = (~torch.isfinite(images)).flatten(1).any(1)
            if bool(bad.any()):
                raise DataError(
                    f"the images of the {name} split hold NaN or infinite values",
                    got=f"{int(bad.sum())} such images, the first has id {int(bad.nonzero()[0])}",
                    fix="clean the file",
                )
        self.name = name
        self.images = images
        self.labels = labels.to(torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def raw(self, ids: Tensor) -> Tensor:
        """Images as stored (uint8 stays uint8)."""
        return self.images.index_select(0, ids)

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32 and labels of the given ids."""
        return as_float(self.raw(ids)), self.labels[ids]

    def subset(self, ids: Tensor) -> TensorSplit:
        """The split of these samples only."""
        return TensorSplit(self.images[ids], self.labels[ids], self.name)

    def relabelled(self, labels: Tensor) -> TensorSplit:
        """The same images under other labels."""
        return TensorSplit(self.images, labels, self.name)


class DatasetSplit:
    """A split behind any map-style ``torch.utils.data.Dataset`` that gives ``(image, label)``.

    Images may be tensors ``(c, h, w)`` or ``(h, w)``, NumPy arrays ``(h, w)``, ``(h, w, c)`` or
    ``(c, h, w)``, or Pillow images, all of one size; 8-bit ones are scaled to [0, 1]. They are fetched when
    asked for, in the loader's worker processes if there are any. A random transform inside the data set is
    not replayable: leave augmentation to ``Views``.

    Args:
        dataset: has ``__len__`` and ``__getitem__``.
        labels: all labels ``(n,)``, if known; otherwise one pass over the data set finds them.
        ids: positions in the data set that make the split (default all).
        name: what messages call it.

    Raises:
        DataError: not map-style, empty, or (when fetched) an item that is not an image and a label.

    Example:
        >>> data = torch.utils.data.TensorDataset(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 1]))
        >>> DatasetSplit(data).labels
        tensor([0, 1, 1])
    """

    def __init__(
        self, dataset: Any, labels: Tensor | None = None, ids: Tensor | None = None, name: str = "split"
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(
                f"the {name} data set is not map-style",
                got=type(dataset).__name__,
                expected="an object with __len__ and __getitem__ that gives (image, label)",
            )
        self.name = name
        self.dataset = dataset
        self.ids = torch.arange(len(dataset)) if ids is None else ids
        if len(self.ids) == 0:
            raise DataError(f"the {name} split is empty", expected="at least one image")
        if labels is not None:
            if len(labels) != len(self.ids):
                raise DataError(f"the {name} split has {len(self.ids)} images but {len(labels)} labels")
            self.__dict__["labels"] = labels.to(torch.int64)

    @cached_property
    def labels(self) -> Tensor:
        """All labels ``(n,)``."""
        return torch.tensor([self._item(i)[1] for i in range(len(self))], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def _item(self, i: int) -> tuple[Any, int]:
        try:
            image, label = self.dataset[int(self.ids[i])]
            return image, int(label)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"item {i} of the {self.name} split is not a pair of image and class id",
                got=error,
                expected="(image, integer label)",
            ) from error

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32 and labels of the given ids."""
        if len(ids) == 0:
            one, label = self.fetch(torch.tensor([0]))
            return one[:0], label[:0]
        items = [self._item(i) for i in ids.tolist()]
        images = [as_image(x, f"item {i} of the {self.name} split") for i, (x, _) in zip(ids.tolist(), items)]
        odd = next((k for k, image in enumerate(images) if image.shape != images[0].shape), None)
        if odd is not None:
            raise DataError(
                f"the images of the {self.name} split differ in size",
                got=f"{tuple(images[odd].shape)} for id {int(ids[odd])}",
                expected=f"{tuple(images[0].shape)} as for id {int(ids[0])}",
                fix="resize them (data.size for an image folder)",
            )
        return torch.stack(images), self.labels[ids]

    def subset(self, ids: Tensor) -> DatasetSplit:
        """The split of these samples only."""
        return DatasetSplit(self.dataset, self.labels[ids], self.ids[ids], self.name)

    def relabelled(self, labels: Tensor) -> DatasetSplit:
        """The same images under other labels."""
        return DatasetSplit(self.dataset, labels, self.ids, self.name)


def as_float(images: Tensor) -> Tensor:
    """Float32 pixels; 8-bit ones are divided by 255."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images.to(torch.float32)


def as_image(value: Any, what: str) -> Tensor:
    """One image as float32 ``(c, h, w)``, from a tensor, an array or a Pillow image.

    Example:
        >>> as_image(np.zeros((4, 5, 3), np.uint8), "item 0").shape
        torch.Size([3, 4, 5])
    """
    if isinstance(value, Tensor):
        image = value
    else:
        array = np.array(value)
        if array.dtype == object or array.dtype.kind not in "uif":
            raise DataError(f"{what} is not an image", got=type(value).__name__)
        image = torch.from_numpy(array)
        if image.dim() == 3 and image.shape[-1] in (1, 3, 4) and image.shape[0] not in (1, 3):
            image = image.permute(2, 0, 1)
    if image.dim() == 2:
        image = image[None]
    if image.dim() != 3:
        raise DataError(
            f"{what} is not an image", got=tuple(image.shape), expected="(channels, height, width)"
        )
    image = as_float(image)
    if not bool(torch.isfinite(image).all()):
        raise DataError(f"{what} holds NaN or infinite values", fix="clean the file")
    return image
