"""The parts of a run on masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Loader, MaskData
from ..data.mask_views import MaskViews
from ..data.splits import Split
from ..errors import ConfigError
from ..evaluation.segmentation import Confusion
from ..seeds import derive
from ..signals import Batch
from ..tasks import Segmentation
from .gather import rank, world
from .parts import Findings, Parts

AT_ONCE = 64
"""Images that are evaluated together, at most; training batches may be larger."""


class SegmentationParts(Parts):
    """Pixels instead of images: views that move masks too, and numbers summed up batch by batch.

    Raises:
        ConfigError: a setting that masks do not have.
    """

    data: MaskData
    task: Segmentation
    looked_at = 16

    def _possible(self) -> None:
        super()._possible()
        config = self.config
        if config.teacher is not None and config.teacher.cache != "none":
            raise ConfigError("masks have no teacher.cache yet", fix="leave teacher.cache out")
        if config.augment.mixup or config.augment.cutmix:
            raise ConfigError("masks are not mixed", fix="leave augment.mixup and augment.cutmix out")

    def _task(self) -> Segmentation:
        return Segmentation(len(self.data.classes), self.data.size, self.data.stride)

    def _loader(self, split: Any, *, train: bool) -> Loader:
        config = self.config
        if train and (wanted := [m.name for m in self.learner._methods() if m.tuples]):
            raise ConfigError(f"{', '.join(wanted)} makes batches of tuples, which masks do not have")
        views = MaskViews(config.augment, split, derive(config.seed, "views"), self.data.mean, self.data.std)
        return Loader(
            views,
            config.train.batch_size if train else min(max(config.train.batch_size, 16), AT_ONCE),
            seed=derive(config.seed, "order"),
            shuffle=train,
            train=train,
            rank=rank(),
            world=world(),
            drop_last=train and config.train.drop_last,
            workers=config.train.workers,
        )

    def identity(self) -> dict[str, str]:
        split: Any = self.data.train
        return {**super().identity(), "training data": split.fingerprint()}

    def _answers(self, model: nn.Module, split: Split) -> Iterator[tuple[Batch, Any]]:
        """Batches of a split with a network's output."""
        model.eval()
        for batch in self._loader(split, train=False).epoch(0):
            if not len(batch):
                continue
            moved = batch.to(self.accelerator.device, self.memory_format)
            with torch.no_grad(), self.accelerator.autocast():
                output = self.task.call(model, moved)
            yield moved, output

    def _counted(self, model: nn.Module, split: Split) -> Confusion:
        """A network on a split, beside the teacher where there is one; every pixel counts."""
        seen, live = Confusion(self.task.classes), self.live
        for batch, output in self._answers(model, split):
            theirs: Tensor | None = None
            if live is not None and live.model is not model:
                with self.accelerator.autocast():
                    theirs = _rows(live.signals(batch).extra["full"])
            seen.add(_rows(self.task.signals(output).extra["full"]), batch.labels.flatten(), theirs)
        if live is not None:
            self.calls.saw(split.name, len(split))
        if world() > 1:
            from accelerate.utils import gather_object

            seen.merge(gather_object([(seen.matrix, seen.sums)]))
        return seen

    def scores(self, model: nn.Module, name: str) -> dict[str, float]:
        return self._counted(model, getattr(self.data, name)).metrics()

    def examine(self, student: nn.Module) -> Findings:
        """Both networks on the test split, with the counts of pixels by class and guess."""
        mine, live = self._counted(student, self.data.test), self.live
        theirs = None if live is None else self._counted(live.model, self.data.test)
        arrays = {"confusion": mine.matrix.numpy(), "iou": mine.iou().numpy()}
        if theirs is not None:
            arrays["teacher_confusion"] = theirs.matrix.numpy()
        return Findings(mine.metrics(), None if theirs is None else theirs.metrics(), arrays)


def _rows(full: Tensor) -> Tensor:
    """All pixels ``(N, K)`` of maps ``(B, K, H, W)``."""
    return full.permute(0, 2, 3, 1).flatten(0, 2)
