"""Views: augmentation whose every choice is a function of (seed, epoch, sample id)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ..signals import Batch
from .crops import Crops
from .splits import Split, TensorSplit, as_float
from .streams import generator


class AugmentConfig(BaseModel):
    """What happens to a training image; validation and test images are never changed.

    Attributes:
        crop_padding: pixels of zero (black) padding on each side before a random crop to the old size;
            0 = off.
        resized_crop: smallest share of the area of a random crop that is resized to the image size (ImageNet:
            0.08); 0 = off. Not beside ``crop_padding``.
        flip: mirror left-right with probability one half.
        mixup: alpha of the Beta(alpha, alpha) weight of mixup; 0 = off.
        cutmix: alpha of the Beta(alpha, alpha) area of cutmix; 0 = off. With both on, each sample tosses a
            fair coin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_padding: int = Field(default=0, ge=0)
    resized_crop: float = Field(default=0.0, ge=0, le=1)
    flip: bool = False
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _one_crop(self) -> AugmentConfig:
        if self.crop_padding and self.resized_crop:
            raise ValueError("give either augment.crop_padding or augment.resized_crop, not both")
        return self


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices of one epoch, one row per sample id; crops are drawn when they are needed."""

    crops: Crops | None
    top: Tensor
    left: Tensor
    mirrored: Tensor
    partner: Tensor
    cut: Tensor
    weight: Tensor
    centre: Tensor


class Views:
    """Turns ids into augmented, normalised batches.

    All choices of an epoch are drawn at once from Philox keyed by (seed, epoch), one row per sample id, and
    taken by id: the same pixels whatever the batch, the order, the worker, the rank or the restart.

    Mixup [1] gives ``w x + (1 - w) x'`` and cutmix [2] pastes a box of area share ``1 - w`` of ``x'``, where
    ``x'`` is the cropped and flipped view of another sample of the split. Deviation from both papers: weight
    and partner are drawn per sample, not per batch, since a batch is no part of the key.

    Args:
        config: what to do.
        split: where images come from.
        seed: of the augmentation.
        mean, std: normalisation per channel, ``(pixel - mean) / std``, after augmentation (padding is black).

    Source: [1] Zhang et al., arXiv:1710.09412. [2] Yun et al., arXiv:1905.04899.

    Example:
        >>> split = TensorSplit(torch.arange(32.).reshape(2, 1, 4, 4), torch.tensor([0, 1]))
        >>> views = Views(AugmentConfig(crop_padding=1, flip=True), split, 0, (0.5,), (0.5,))
        >>> one, both = views.batch(torch.tensor([1]), 5), views.batch(torch.tensor([0, 1]), 5)
        >>> torch.equal(one.inputs[0], both.inputs[1])
        True
    """

    def __init__(
        self,
        config: AugmentConfig,
        split: Split,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        self.config, self.split, self.seed = config, split, seed
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None, None]
        self.std = torch.tensor(std, dtype=torch.float32)[:, None, None]
        self._plan: tuple[int, Plan] | None = None

    def plain(self, ids: Tensor) -> Batch:
        """The images of these ids, only normalised."""
        images, labels = self._raw(ids)
        return Batch(self._normalise(as_float(images)), labels, ids)

    def batch(self, ids: Tensor, epoch: int) -> Batch:
        """The views of these ids in this epoch.

        Args:
            ids: ``(b,)`` positions in the split.
            epoch: counted from 0.

        Returns:
            The batch; with mixup or cutmix its ``mixed_labels`` and ``mixing`` are set.
        """
        plan = self.plan(epoch)
        images, labels = self._moved(ids, plan)
        if not (self.config.mixup or self.config.cutmix):
            return Batch(self._normalise(images), labels, ids, epoch)
        others, other_labels = self._moved(plan.partner[ids], plan)
        share, weight = _shares(plan, ids, images.shape[-2], images.shape[-1])
        mixed = images.mul_(share).add_(others.mul_(1 - share))
        return Batch(self._normalise(mixed), labels, ids, epoch, other_labels, weight)

    def plan(self, epoch: int) -> Plan:
        """The choices of an epoch (kept until another epoch is asked for)."""
        if self._plan is None or self._plan[0] != epoch:
            self._plan = (epoch, self._draw(epoch))
        return self._plan[1]

    def _draw(self, epoch: int) -> Plan:
        n, config = len(self.split), self.config
        u = torch.from_numpy(generator("views", self.seed, epoch).random((n, 7)))
        shifts = (u[:, :2] * (2 * config.crop_padding + 1)).long()
        partner = (torch.arange(n) + 1 + (u[:, 3] * (n - 1)).long()) % n
        mixing = generator("mixing", self.seed, epoch)
        cut = u[:, 4] < (0.5 if config.mixup else 1.0) if config.cutmix else torch.zeros(n, dtype=torch.bool)
        weight = torch.ones(n, dtype=torch.float64)
        for alpha, chosen in ((config.mixup, ~cut), (config.cutmix, cut)):
            if alpha:
                weight = torch.where(chosen, torch.from_numpy(mixing.beta(alpha, alpha, n)), weight)
        crops = Crops(config.resized_crop, self.seed, epoch) if config.resized_crop else None
        return Plan(
            crops,
            shifts[:, 0],
            shifts[:, 1],
            u[:, 2] < 0.5,
            partner,
            cut,
            weight.to(torch.float32),
            u[:, 5:7],
        )

    def _raw(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """A copy of the images, 8-bit ones as they are."""
        if isinstance(self.split, TensorSplit):
            return self.split.raw(ids), self.split.labels[ids]
        return self.split.fetch(ids)

    def _moved(self, ids: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        """Cropped and flipped, float32, not normalised."""
        images, labels = self._raw(ids) if plan.crops is None else plan.crops.fetch(self.split, ids)
        height, width = images.shape[-2:]
        rows = torch.arange(len(ids))
        if self.config.flip:
            images = torch.cat([images, images.flip(-1)])
            rows = rows + len(ids) * plan.mirrored[ids]
        if pad := self.config.crop_padding:
            windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
            images = windows[rows, :, plan.top[ids], plan.left[ids]]
        elif self.config.flip:
            images = images.index_select(0, rows)
        return as_float(images), labels

    def _normalise(self, images: Tensor) -> Tensor:
        return images.sub_(self.mean).div_(self.std)


def _shares(plan: Plan, ids: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Share of the own image, per pixel ``(b, 1, h, w)`` and over the whole image ``(b,)``."""
    cut, weight = plan.cut[ids][:, None, None], plan.weight[ids]
    side = (1 - weight.double()).clamp(min=0).sqrt()
    inside = []
    for length, centre in zip((height, width), plan.centre[ids].T):
        low = ((centre - side / 2) * length).round()[:, None]
        high = ((centre + side / 2) * length).round()[:, None]
        at = torch.arange(length)
        inside.append((at >= low) & (at < high))
    outside = ~(inside[0][:, :, None] & inside[1][:, None, :])
    pixels = torch.where(cut, outside.to(torch.float32), weight[:, None, None])
    counted = outside.flatten(1).sum(1) / (height * width)
    return pixels[:, None], torch.where(cut[:, 0, 0], counted, weight)
