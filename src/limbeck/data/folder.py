"""Images in folders: ``root/{train,validation,test}/class/*.png`` or ``.jpg``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .assembly import assemble, complement, resolve_count, stratified
from .config import Data, DataConfig
from .crops import Crops
from .splits import DatasetSplit, Split
from .streams import generator

SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}


def folder(config: DataConfig) -> Data:
    """Images under ``data.path``, decoded when they are needed.

    ``train`` must be there; ``validation`` and ``test`` may be. Class names are the sorted sub-folders of
    ``train``. Without ``test``, ``data.test`` of the training images are drawn, stratified, always with seed 0.
    Images are turned to grey or colour (``data.channels``), and, with ``data.size``, resized to a square of
    that side (bilinear, without keeping the aspect ratio; with ``data.crop`` the central square that has this
    share of the shorter side); without it all must be of one size. Every header is
    checked at the start, so that a file that is no image is found before the run. Mean and std are computed on
    the training split (at most 4,096 images).

    Raises:
        DataError: missing folder, class folders that differ, an empty class, a file that is no image.
    """
    if config.path is None:
        raise DataError("data set 'folder' needs a folder", fix="set data.path to it")
    if config.channels not in MODES:
        raise DataError("data.channels of a folder must be 1 or 3", got=config.channels)
    root = Path(config.path).expanduser()
    if not (root / "train").is_dir():
        raise DataError(
            f"there is no folder {root / 'train'}",
            expected="root/train/class/image.png, and optionally root/validation and root/test",
            fix="correct data.path",
        )
    classes = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir())
    if not classes:
        raise DataError(f"{root / 'train'} has no class folders", expected=f"{root}/train/class/image.png")
    splits: dict[str, Split] = {
        part: _split(root / part, classes, config)
        for part in ("train", "validation", "test")
        if part == "train" or (root / part).is_dir()
    }
    if "test" not in splits:
        every = splits["train"]
        count = resolve_count(config.test, len(every), "data.test")
        test = stratified(every.labels, count, generator("test", 0))
        splits |= {"train": every.subset(complement(test, len(every))), "test": every.subset(test)}
    return assemble(
        root.name,
        splits["train"],
        splits["test"],
        splits.get("validation"),
        classes=classes,
        share=config.validation,
        train_size=config.train_size,
        split_seed=config.split_seed,
        changes=config,
    )


def _split(place: Path, classes: list[str], config: DataConfig) -> DatasetSplit:
    found = sorted(entry.name for entry in place.iterdir() if entry.is_dir())
    if found != classes:
        odd = sorted(set(found) ^ set(classes))
        raise DataError(
            f"the class folders of {place} are not those of train",
            got=f"{len(found)} classes",
            expected=f"{len(classes)}; these differ: {', '.join(odd[:5])}",
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(file for file in (place / name).iterdir() if file.suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(
                f"{place / name} holds no image", expected="files that end in .png, .jpg or .jpeg"
            )
        paths += images
        labels += [label] * len(images)
    for path in paths:
        check_header(path)
    dataset = ImageFiles(paths, labels, MODES[config.channels], config.size, config.crop)
    return DatasetSplit(dataset, torch.tensor(labels), name=place.name)


class ImageFiles(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Image files, decoded one by one: gives uint8 ``(c, h, w)`` and the label.

    Args:
        paths, labels: of the files.
        mode: Pillow's name of the pixels' form.
        size: side of the square that images become, or None for as they are.
        crop: share of the shorter side that a central square keeps, or None for the whole image, squeezed.
    """

    def __init__(
        self, paths: list[Path], labels: list[int], mode: str, size: int | None, crop: float | None = None
    ) -> None:
        self.paths, self.labels, self.mode, self.size, self.crop = paths, labels, mode, size, crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._pixels(self.paths[index], self._middle), self.labels[index]

    def cropped(self, index: int, crops: Crops, sample: int) -> Tensor:
        """The part of an image that this sample shows, in the size of all."""

        def part(width: int, height: int) -> tuple[float, float, float, float]:
            box = crops.box(sample, width, height)
            left, top = float(box.left), float(box.top)
            return left, top, left + box.width, top + box.height

        return self._pixels(self.paths[index], part)

    def _middle(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The central square, or all of the image."""
        if self.crop is None:
            return 0.0, 0.0, float(width), float(height)
        side = self.crop * min(width, height)
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2

    def _pixels(self, path: Path, choose: Callable[[int, int], tuple[float, float, float, float]]) -> Tensor:
        try:
            pixels = self._decode(path, choose)
        except Exception as error:
            raise _unreadable(path, error) from error
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _decode(self, path: Path, choose: Callable[[int, int], tuple[float, float, float, float]]) -> Any:
        from PIL import Image, ImageOps

        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert(self.mode)
        size = image.size if self.size is None else (self.size, self.size)
        box = choose(*image.size)
        if image.size != size or box != (0, 0, *size):
            image = image.resize(size, Image.Resampling.BILINEAR, box=box)
        return np.array(image)


def check_header(path: Path) -> None:
    """Refuse a file that does not begin like an image."""
    from PIL import Image

    try:
        Image.open(path).close()
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read the image {path}", got=error, fix="repair or remove the file")
