"""The parts of a run on image-level labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.splits import Split
from ..errors import ConfigError
from ..evaluation.segmentation import Confusion
from ..files import write_atomic, write_text
from ..methods.asdt import ASDT
from ..models.asdt import Dual
from ..segmentation import scaled_cams, with_background
from ..shapes import IGNORE
from ..tasks import WeakSegmentation
from .gather import rank, world
from .parts import Findings
from .segmentation import SegmentationParts

THRESHOLDS = tuple(round(0.1 + 0.05 * i, 2) for i in range(15))
"""Activations, of an image's largest, above which a pixel is of a class."""

SHOWN = 6
"""Validation images whose masks are pictured through training."""

COLOURS = (
    (0, 0, 0),
    (230, 75, 75),
    (80, 190, 80),
    (75, 120, 230),
    (230, 190, 60),
    (180, 90, 200),
    (80, 200, 200),
)
VOID = (90, 90, 90)
CAPTION = (
    "Validation images, one a column. From the top: image, true mask (never trained on), activation maps, "
    "both teachers' labels (grey: none), first head, student head, fused prediction."
)

Heads = dict[str, Confusion]


class WeakParts(SegmentationParts):
    """Image-level labels for training; masks, in validation and test alone, for every part of the network.

    Numbers beside those of the fused prediction: ``miou_student`` and ``miou_teacher`` of the heads, ``miou_cam``
    of the activation maps at the threshold that is best on validation, told the classes in the image, and, on the
    test split at the end, ``miou_fused_crf``.

    Raises:
        ConfigError: a setting that image-level labels do not have.
    """

    task: WeakSegmentation

    def _possible(self) -> None:
        super()._possible()
        if self.config.teacher is not None:
            raise ConfigError(
                "a run from image-level labels has no teacher beside its own heads", fix="leave teacher out"
            )

    def _task(self) -> WeakSegmentation:
        return WeakSegmentation(len(self.data.classes), self.data.size, self.data.stride)

    def watch(self, model: nn.Module) -> dict[str, float]:
        found = super().watch(model)
        if self.folder is not None and rank() == 0:
            self._picture(model, getattr(self.learner, "step", 0) + 1)
        return found

    def scores(self, model: nn.Module, name: str) -> dict[str, float]:
        seen = self._parts_of(model, getattr(self.data, name))
        sure = seen if name == "validation" else self._parts_of(model, self.data.validation)
        return self._numbers(seen, _best(sure))

    def examine(self, student: nn.Module) -> Findings:
        """Every part of the network on the test split, the fused prediction after a random field among them."""
        chosen = _best(self._parts_of(student, self.data.validation))
        seen = self._parts_of(student, self.data.test, field=self._field())
        found = self._numbers(seen, chosen)
        matrices = {f"confusion_{name}": c.matrix.numpy() for name, c in seen.items() if "@" not in name}
        return Findings(found, None, matrices | {"iou": seen["fused"].iou().numpy()})

    def _numbers(self, seen: Heads, threshold: float) -> dict[str, float]:
        found = seen["fused"].metrics()
        for name in ("student", "teacher", "fused_crf"):
            if name in seen:
                found[f"miou_{name}"] = seen[name].metrics()["miou"]
        found["miou_cam"] = seen[f"cam@{threshold}"].metrics()["miou"]
        return found | {"cam_threshold": threshold}

    def _field(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        methods = [m for m in self.learner._methods() if isinstance(m, ASDT)]
        return methods[0].refined if methods else None

    def _parts_of(self, model: nn.Module, split: Split, field: Any = None) -> Heads:
        """Counts of the heads, their fusion, and the activation maps at every threshold."""
        names = ["fused", "student", "teacher", *(f"cam@{t}" for t in THRESHOLDS)]
        seen = {name: Confusion(self.task.classes) for name in [*names, *(["fused_crf"] if field else [])]}
        for batch, output in self._answers(model, split):
            dual: Dual = output
            masks, full = batch.labels, self.task.fused(dual)
            seen["fused"].add(full.permute(0, 2, 3, 1).flatten(0, 2), masks.flatten())
            seen["student"].count(self.task.full(dual.student).argmax(1), masks)
            seen["teacher"].count(self.task.full(dual.teacher).argmax(1), masks)
            maps = self._maps(dual, masks)
            strongest, kind = maps.max(1)
            for threshold in THRESHOLDS:
                seen[f"cam@{threshold}"].count(torch.where(strongest > threshold, kind + 1, 0), masks)
            if field is not None:
                for i in range(len(masks)):  # all pairs of pixels of one image at a time
                    one = slice(i, i + 1)
                    guess = field(batch.inputs[one], full[one].exp()).argmax(1)
                    seen["fused_crf"].count(guess, masks[one])
        if world() > 1:
            from accelerate.utils import gather_object

            every: list[Any] = gather_object([{n: (c.matrix, c.sums) for n, c in seen.items()}])
            for name, confusion in seen.items():
                confusion.merge([found[name] for found in every])
        return seen

    def _maps(self, dual: Dual, masks: Tensor) -> Tensor:
        """Scaled activation maps of the classes in the image, as is usual when they are measured."""
        flat = masks.flatten(1)
        there = torch.stack([(flat == k).any(1) for k in range(1, self.task.classes)], 1)
        return scaled_cams(self.task.full(dual.cams), there)

    @torch.no_grad()
    def _picture(self, model: nn.Module, step: int) -> None:
        """Some validation images with their masks, and what every part of the network says of them, as a PNG."""
        from PIL import Image

        loader = self._loader(self.data.validation, train=False)
        count = min(SHOWN, len(self.data.validation))
        batch = loader.views.plain(torch.arange(count)).to(self.accelerator.device, self.memory_format)
        model.eval()
        dual: Dual = self.task.call(model, batch)
        maps = self._maps(dual, batch.labels)
        rows: list[Tensor] = [
            batch.labels,
            with_background(maps, 4.0).argmax(1),
            self.task.full(dual.teacher).argmax(1),
            self.task.full(dual.student).argmax(1),
            self.task.fused(dual).argmax(1),
        ]
        methods = [m for m in self.learner._methods() if isinstance(m, ASDT)]
        if methods:
            rows[2:2] = self._labels(methods[0], dual, batch)
        std, mean = (torch.tensor(v).view(-1, 1, 1) for v in (self.data.std, self.data.mean))
        shown = (batch.inputs.cpu() * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
        shown = shown.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        painted = [shown, *(_painted(row.cpu()) for row in rows)]
        sheet = torch.cat([torch.cat(list(images), 1) for images in painted], 0)
        image = Image.fromarray(sheet.numpy())
        assert self.folder is not None
        pictures = self.folder / "pictures"
        path = pictures / f"masks-{step:07d}.png"
        write_text(
            pictures / "caption.txt", CAPTION if methods else CAPTION.replace(", both teachers' labels", "")
        )
        write_atomic(path, lambda file: image.save(file, format="PNG"))

    def _labels(self, method: ASDT, dual: Dual, batch: Any) -> Sequence[Tensor]:
        """The pseudo labels of both teachers, at the masks' size."""
        flat = batch.labels.flatten(1)
        present = torch.stack([(flat == k).any(1) for k in range(self.task.classes)], 1)
        present[:, 0] = True
        images = method.seen(batch.inputs)
        size = images.shape[2:]
        logits = nn.functional.interpolate(dual.teacher.float(), size, mode="bilinear", align_corners=False)
        found = (method.cam_labels(images, dual.cams, present), method.head_labels(images, logits, present))
        return [self._stretched(labels) for labels in found]

    def _stretched(self, labels: Tensor) -> Tensor:
        size = self.task.size
        return nn.functional.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].long()


def _best(seen: Heads) -> float:
    """The threshold with the highest mIoU."""
    return max(THRESHOLDS, key=lambda t: seen[f"cam@{t}"].metrics()["miou"])


def _painted(labels: Tensor) -> Tensor:
    """Colours ``(B, H, W, 3)`` of class numbers."""
    table = torch.tensor([*(COLOURS[k % len(COLOURS)] for k in range(256)), VOID], dtype=torch.uint8)
    return table[torch.where(labels == IGNORE, 256, labels)]
