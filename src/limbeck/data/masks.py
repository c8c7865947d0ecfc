"""Images with a class for every pixel, or, for weak supervision, with the classes that are somewhere in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..shapes import IGNORE
from .assembly import complement, resolve_count, statistics
from .config import Data, DataConfig
from .splits import Split, as_float
from .streams import generator

VOID = 255
"""In stored masks: a pixel without a label."""


@dataclass(frozen=True)
class MaskData(Data):
    """Data for segmentation; class 0 is the background.

    Attributes:
        weak: whether the training split knows only which classes are in an image.
        stride: methods compare every so many-th pixel in both directions.
    """

    weak: bool = False
    stride: int = 1


@runtime_checkable
class PixelSplit(Split, Protocol):
    """Images and what is known of their pixels, by position.

    ``labels`` are all masks ``(n, H, W)`` or classes present ``(n, K)``, uint8, or ``(n, 0)`` for masks that stay
    in their files; ``fetch`` gives them as int64 with -100 for void pixels.
    """

    def raw(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(b, c, H, W)`` uint8, and masks ``(b, H, W)`` or classes present ``(b, K)``, uint8."""

    def subset(self, ids: Tensor) -> PixelSplit:
        """The split of these samples only."""

    def fingerprint(self) -> str:
        """A hash of what is known, for a resumed run."""


class MaskSplit:
    """A split that is held in memory.

    Args:
        images: ``(n, c, H, W)`` uint8.
        known: masks ``(n, H, W)`` uint8 with 255 for void, or classes present ``(n, K)`` of 0 and 1.
        name: what messages call it.

    Raises:
        DataError: a wrong form, or counts that disagree.

    Example:
        >>> split = MaskSplit(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.full((2, 4, 4), 255).byte())
        >>> int(split.fetch(torch.tensor([1]))[1].max())
        -100
    """

    def __init__(self, images: Tensor, known: Tensor, name: str = "split") -> None:
        if images.dim() != 4 or images.dtype != torch.uint8 or not len(images):
            raise DataError(
                f"the images of the {name} split have the wrong form",
                got=f"{tuple(images.shape)} {images.dtype}",
                expected="(n, channels, height, width) uint8, at least one",
            )
        masks = known.dim() == 3
        if len(known) != len(images) or (masks and known.shape[1:] != images.shape[2:]) or known.dim() < 2:
            raise DataError(
                f"the {name} split's masks do not fit its images",
                got=f"masks {tuple(known.shape)}, images {tuple(images.shape)}",
                expected="one mask of the image's height and width for each image",
            )
        self.images, self.known, self.name = images, known.to(torch.uint8), name

    @property
    def labels(self) -> Tensor:
        """Masks or classes present, as they are stored."""
        return self.known

    def __len__(self) -> int:
        return len(self.images)

    def raw(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images and what is known of them, as they are stored."""
        return self.images[ids], self.known[ids]

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32, and what is known of them, int64."""
        images, known = self.raw(ids)
        return as_float(images), whole(known)

    def subset(self, ids: Tensor) -> MaskSplit:
        """The split of these samples only."""
        return MaskSplit(self.images[ids], self.known[ids], self.name)

    def relabelled(self, labels: Tensor) -> MaskSplit:
        """The same images with other masks."""
        return MaskSplit(self.images, labels, self.name)

    def fingerprint(self) -> str:
        """SHA-256 over what is known."""
        return hashlib.sha256(self.known.contiguous().numpy().tobytes()).hexdigest()


def whole(known: Tensor) -> Tensor:
    """Stored masks as class ids, with -100 for void pixels; classes present as they are; int64."""
    found = known.to(torch.int64)
    return torch.where(found == VOID, IGNORE, found) if known.dim() == 3 else found


def present(masks: Tensor, classes: int) -> Tensor:
    """Which classes are in each mask, ``(n, H, W) -> (n, K)`` of 0 and 1, uint8.

    Example:
        >>> present(torch.tensor([[[0, 2], [2, 255]]]), 4).tolist()
        [[1, 0, 1, 0]]
    """
    flat = masks.flatten(1)
    return torch.stack([(flat == k).any(1) for k in range(classes)], 1).to(torch.uint8)


def masked(
    name: str,
    train: PixelSplit,
    test: PixelSplit | None,
    validation: PixelSplit | None,
    *,
    classes: tuple[str, ...],
    config: DataConfig,
) -> MaskData:
    """Splits for segmentation: what the source does not bring is drawn from training, seeded.

    Raises:
        DataError: settings that masks do not have, or a split that becomes empty.
    """
    if config.noise is not None or config.imbalance is not None or config.per_class is not None:
        raise DataError(
            "data.noise, data.imbalance and data.per_class change one label per image, and masks have many",
            fix="leave them out; data.train_size takes a smaller part",
        )
    if test is None:
        train, test = _drawn(train, config.test, "test", 0)
    if validation is None:
        train, validation = _drawn(train, config.validation, "validation", config.split_seed)
    mean, std = statistics(train)
    if config.train_size is not None:
        if config.train_size > len(train):
            raise DataError(
                "data.train_size is more than there is", got=config.train_size, expected=f"up to {len(train)}"
            )
        order = generator("train_size", config.split_seed).random(len(train))
        train = train.subset(torch.from_numpy(np.sort(np.argsort(order, kind="stable")[: config.train_size])))
    train.name, validation.name, test.name = "train", "validation", "test"
    channels, height, width = train.fetch(torch.tensor([0]))[0].shape[1:]
    return MaskData(
        name,
        train,
        validation,
        test,
        classes,
        channels,
        (height, width),
        mean,
        std,
        {"weak": "the training split knows only which classes are in an image"} if config.weak else {},
        config.weak,
        config.stride,
    )


def _drawn(split: PixelSplit, share: int | float, what: str, seed: int) -> tuple[PixelSplit, PixelSplit]:
    count = resolve_count(share, len(split), f"data.{what}")
    order = generator(what, seed).random(len(split))
    held = torch.from_numpy(np.sort(np.argsort(order, kind="stable")[:count]))
    return split.subset(complement(held, len(split))), split.subset(held)
