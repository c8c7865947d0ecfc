"""Random crops that are resized to the image size, replayable by (seed, epoch, sample id)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .splits import DatasetSplit, Split, as_float, as_image
from .streams import generator

TRIES = 10
"""Boxes that are drawn before a central one is taken."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


class Crops:
    """The crops of one epoch: area and shape of each are drawn, then its place.

    The area is uniform between ``smallest`` and 1 of the image's, the logarithm of width over height uniform
    between those of 3/4 and 4/3. After ten boxes that do not fit into the image, the largest central one of
    an allowed shape is taken. Each sample has a counter range of its own, so its crop depends on nothing else.

    Args:
        smallest: share of the area.
        seed, epoch: of the draw.

    Source: the usual augmentation of ImageNet (Szegedy et al., arXiv:1409.4842), as torchvision's
    ``RandomResizedCrop`` defines it.

    Example:
        >>> crops = Crops(0.08, seed=0, epoch=3)
        >>> crops.box(7, 100, 80) == crops.box(7, 100, 80), crops.box(7, 100, 80) == crops.box(8, 100, 80)
        (True, False)
    """

    def __init__(self, smallest: float, seed: int, epoch: int) -> None:
        self.smallest, self.seed, self.epoch = smallest, seed, epoch

    def box(self, sample: int, width: int, height: int) -> Box:
        """The part of this sample's image, of the given size, that is seen."""
        random = generator("crops", self.seed, self.epoch)
        assert isinstance(random.bit_generator, np.random.Philox)
        random.bit_generator.advance(sample * TRIES)  # one step is four numbers
        for area, shape, across, down in random.random((TRIES, 4)):
            pixels = (self.smallest + (1 - self.smallest) * area) * width * height
            ratio = math.exp((2 * shape - 1) * math.log(4 / 3))
            w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(across * (width - w + 1)), int(down * (height - h + 1)), w, h)
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        return Box((width - w) // 2, (height - h) // 2, w, h)

    def fetch(self, split: Split, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Crops of these samples' images ``(b, c, h, w)`` float32 in the split's image size, and labels.

        Image files are cropped before they are resized, so no pixel is lost.
        """
        if isinstance(split, DatasetSplit) and hasattr(split.dataset, "cropped"):
            places = split.ids[ids].tolist()
            images = [
                as_image(
                    split.dataset.cropped(place, self, sample), f"item {sample} of the {split.name} split"
                )
                for place, sample in zip(places, ids.tolist(), strict=True)
            ]
            return torch.stack(images), split.labels[ids]
        images_of, labels = split.fetch(ids)
        cut = [self._cut(image, sample) for image, sample in zip(images_of, ids.tolist(), strict=True)]
        return torch.stack(cut) if cut else images_of, labels

    def _cut(self, image: Tensor, sample: int) -> Tensor:
        height, width = image.shape[-2:]
        box = self.box(sample, width, height)
        part = as_float(image)[None, :, box.top : box.top + box.height, box.left : box.left + box.width]
        return F.interpolate(part, (height, width), mode="bilinear", antialias=True)[0]
