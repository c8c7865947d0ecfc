"""Replayable views in which an image and its mask move together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..signals import Batch
from .augment import AugmentConfig, Plan, Views
from .masks import VOID, PixelSplit, whole
from .splits import as_float


class MaskViews(Views):
    """Turns ids into batches of images with masks ``(B, H, W)``, or with the classes present ``(B, K)``.

    Crops and flips are those of ``Views``, by the same draws. Masks are moved without mixing labels (nearest
    pixel); what a crop shows beyond the image is black and has no label.

    Args:
        config: what to do; mixup and cutmix are refused.
        split: images with masks.
        seed: of the augmentation.
        mean, std: normalisation per channel.

    Raises:
        ConfigError: mixup or cutmix.

    Example:
        >>> from limbeck.data.masks import MaskSplit
        >>> image = torch.arange(16).reshape(1, 1, 4, 4).to(torch.uint8)
        >>> split = MaskSplit(image, image[:, 0])
        >>> views = MaskViews(AugmentConfig(flip=True, crop_padding=1), split, 0, (0.0,), (1.0,))
        >>> batch = views.batch(torch.tensor([0]), 3)
        >>> seen = batch.labels[0] != -100
        >>> torch.equal((batch.inputs[0, 0] * 255).round().long()[seen], batch.labels[0][seen])
        True
    """

    split: PixelSplit

    def __init__(
        self,
        config: AugmentConfig,
        split: PixelSplit,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        if config.mixup or config.cutmix:
            raise ConfigError("masks are not mixed", fix="leave augment.mixup and augment.cutmix out")
        super().__init__(config, split, seed, mean, std)

    def plain(self, ids: Tensor) -> Batch:
        """The images of these ids, only normalised."""
        images, known = self.split.fetch(ids)
        return Batch(self._normalise(images), known, ids)

    def batch(self, ids: Tensor, epoch: int) -> Batch:
        """The views of these ids in this epoch."""
        plan = self.plan(epoch)
        images, known = self.split.raw(ids)
        masks = known[:, None] if known.dim() == 3 else None
        for move in (self._flipped, self._shifted, self._cropped):
            images, masks = move(images, masks, ids, plan)
        found = known if masks is None else masks[:, 0]
        return Batch(self._normalise(as_float(images)), whole(found), ids, epoch)

    def _flipped(self, images: Tensor, masks: Any, ids: Tensor, plan: Plan) -> tuple[Tensor, Any]:
        if not self.config.flip:
            return images, masks
        turned = plan.mirrored[ids][:, None, None, None]
        both = [None if x is None else torch.where(turned, x.flip(-1), x) for x in (images, masks)]
        assert both[0] is not None
        return both[0], both[1]

    def _shifted(self, images: Tensor, masks: Any, ids: Tensor, plan: Plan) -> tuple[Tensor, Any]:
        if not (pad := self.config.crop_padding):
            return images, masks
        height, width = images.shape[-2:]
        rows, top, left = torch.arange(len(ids)), plan.top[ids], plan.left[ids]

        def cut(x: Tensor, fill: int) -> Tensor:
            padded = F.pad(x, (pad, pad, pad, pad), value=fill)
            return padded.unfold(2, height, 1).unfold(3, width, 1)[rows, :, top, left]

        return cut(images, 0), None if masks is None else cut(masks, VOID)

    def _cropped(self, images: Tensor, masks: Any, ids: Tensor, plan: Plan) -> tuple[Tensor, Any]:
        if plan.crops is None:
            return images, masks
        size = tuple(images.shape[-2:])
        pictures, parts = [], []
        for i, sample in enumerate(ids.tolist()):
            box = plan.crops.box(sample, size[1], size[0])
            window = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
            one = as_float(images[i : i + 1])[(..., *window)]
            pictures.append(F.interpolate(one, size, mode="bilinear", align_corners=False, antialias=True))
            if masks is not None:
                parts.append(F.interpolate(masks[i : i + 1][(..., *window)], size, mode="nearest-exact"))
        return torch.cat(pictures), None if masks is None else torch.cat(parts)
