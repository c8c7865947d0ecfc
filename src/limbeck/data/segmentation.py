"""Folders of images with masks."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .config import Data, DataConfig
from .folder import MODES, SUFFIXES, check_header
from .masks import VOID, masked, whole
from .splits import as_float

PARTS = ("train", "validation", "test")
LAYOUT = "root/classes.txt and root/train/images/NAME.png with root/train/masks/NAME.png"


def segmentation(config: DataConfig) -> Data:
    """Images and masks under ``data.path``, decoded when they are needed.

    ``classes.txt`` names the classes, one a line, the background first. Each of ``train``, ``validation`` and
    ``test`` (of which only ``train`` must be there) holds ``images/`` and ``masks/`` with files of equal names;
    a mask is a PNG whose pixels are class numbers (grey or palette), 255 for none. With ``data.size`` images are
    squeezed into a square of that side (bilinear) and masks with them (nearest pixel).

    With ``data.weak`` the training folder needs ``labels.csv`` (an image's name, then the names of the classes
    in it) and its ``masks/`` are never opened.

    Raises:
        DataError: a missing folder or file, an image without a mask, a mask with an unknown class.
    """
    if config.path is None:
        raise DataError("data set 'segmentation' needs a folder", fix="set data.path to it")
    if config.channels not in MODES:
        raise DataError("data.channels of a folder must be 1 or 3", got=config.channels)
    root = Path(config.path).expanduser()
    if not (root / "train" / "images").is_dir():
        raise DataError(
            f"there is no folder {root / 'train' / 'images'}", expected=LAYOUT, fix="correct data.path"
        )
    classes = _classes(root / "classes.txt")
    splits = {
        part: _split(root / part, classes, config, weak=config.weak and part == "train")
        for part in PARTS
        if (root / part / "images").is_dir()
    }
    if config.weak and "test" not in splits:
        raise DataError(
            f"{root} has no test folder, and image-level labels cannot be a test",
            expected="root/test/images and root/test/masks",
        )
    if config.weak and "validation" not in splits:
        raise DataError(
            f"{root} has no validation folder, and image-level labels cannot be one",
            expected="root/validation/images and root/validation/masks",
        )
    return masked(
        root.name,
        splits["train"],
        splits.get("test"),
        splits.get("validation"),
        classes=classes,
        config=config,
    )


class MaskFiles:
    """Image files with mask files, or with the classes present.

    Args:
        images: paths of the images.
        known: paths of their masks, or classes present ``(n, K)``.
        classes: number of classes.
        mode: Pillow's name of the images' form.
        size: side of the square that both become, or None for as they are.
        name: what messages call it.
    """

    def __init__(
        self,
        images: Sequence[Path],
        known: Sequence[Path] | Tensor,
        classes: int,
        mode: str,
        size: int | None,
        name: str,
    ) -> None:
        self.paths, self.known, self.classes = list(images), known, classes
        self.mode, self.size, self.name = mode, size, name

    @property
    def labels(self) -> Tensor:
        """Classes present; ``(n, 0)`` where there are masks, which stay in their files."""
        return self.known if isinstance(self.known, Tensor) else torch.zeros(len(self), 0, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def raw(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images and what is known of them, uint8."""
        images = _stacked([self._image(self.paths[i]) for i in ids.tolist()], self.name)
        if isinstance(self.known, Tensor):
            return images, self.known[ids]
        masks = torch.stack([self._mask(self.known[i]) for i in ids.tolist()])
        if masks.shape[1:] != images.shape[2:]:
            raise DataError(
                f"masks of the {self.name} split differ from their images in size",
                got=tuple(masks.shape[1:]),
                expected=tuple(images.shape[2:]),
            )
        return images, masks

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32, and what is known of them, int64."""
        images, known = self.raw(ids)
        return as_float(images), whole(known)

    def subset(self, ids: Tensor) -> MaskFiles:
        """The split of these samples only."""
        known = self.known[ids] if isinstance(self.known, Tensor) else [self.known[i] for i in ids.tolist()]
        chosen = [self.paths[i] for i in ids.tolist()]
        return MaskFiles(chosen, known, self.classes, self.mode, self.size, self.name)

    def relabelled(self, labels: Tensor) -> MaskFiles:
        """The same images under other classes present ``(n, K)``."""
        return MaskFiles(self.paths, labels, self.classes, self.mode, self.size, self.name)

    def fingerprint(self) -> str:
        """SHA-256 over names and sizes of the files, or over the classes present."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(f"{path.name} {path.stat().st_size}".encode())
        if isinstance(self.known, Tensor):
            digest.update(self.known.contiguous().numpy().tobytes())
        else:
            for path in self.known:
                digest.update(f"{path.name} {path.stat().st_size}".encode())
        return digest.hexdigest()

    def _image(self, path: Path) -> Tensor:
        from PIL import Image, ImageOps

        with _opened(path) as file:
            image = ImageOps.exif_transpose(file).convert(self.mode)
        if self.size is not None:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.array(image)
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())

    def _mask(self, path: Path) -> Tensor:
        from PIL import Image

        with _opened(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise DataError(
                    f"the mask {path} has no class numbers",
                    got=f"mode {image.mode}",
                    expected="a grey or palette PNG",
                )
            small = image if self.size is None else image.resize((self.size,) * 2, Image.Resampling.NEAREST)
            mask = torch.from_numpy(np.array(small, dtype=np.uint8))
        wrong = (mask >= self.classes) & (mask != VOID)
        if bool(wrong.any()):
            raise DataError(
                f"the mask {path} has a class that classes.txt does not name",
                got=int(mask[wrong][0]),
                expected=f"0 to {self.classes - 1}, or {VOID} for no label",
            )
        return mask


def _classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise DataError(
            f"there is no {path}", expected="the classes' names, one a line, the background first"
        )
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not 2 <= len(names) < VOID or len(set(names)) != len(names):
        raise DataError(
            f"{path} names no classes", got=f"{len(names)} names", expected="2 to 254, all unlike"
        )
    return names


def _split(place: Path, classes: tuple[str, ...], config: DataConfig, weak: bool) -> MaskFiles:
    images = sorted(file for file in (place / "images").iterdir() if file.suffix.lower() in SUFFIXES)
    if not images:
        raise DataError(
            f"{place / 'images'} holds no image", expected="files that end in .png, .jpg or .jpeg"
        )
    for path in images:
        check_header(path)
    known: Any
    if weak:
        known = _image_labels(place, images, classes)
    else:
        known = [place / "masks" / f"{path.stem}.png" for path in images]
        if missing := [path for path in known if not path.is_file()]:
            raise DataError(
                f"{len(missing)} images of {place} have no mask",
                got=f"no {missing[0]}",
                fix="give each image a mask of its name; without masks: data.weak=true and labels.csv",
            )
    return MaskFiles(images, known, len(classes), MODES[config.channels], config.size, place.name)


def _image_labels(place: Path, images: Sequence[Path], classes: tuple[str, ...]) -> Tensor:
    """Classes present ``(n, K)`` from ``labels.csv``; the background always is."""
    path = place / "labels.csv"
    if not path.is_file():
        masks = (place / "masks").is_dir()
        raise DataError(
            f"data.weak needs image-level labels, and there is no {path}",
            got="masks, which a run from image-level labels does not open" if masks else None,
            expected="lines such as: photo.png,cat,dog",
        )
    with path.open(encoding="utf-8", newline="") as file:
        rows = {
            row[0].strip(): [name.strip() for name in row[1:] if name.strip()]
            for row in csv.reader(file)
            if row
        }
    found = torch.zeros(len(images), len(classes), dtype=torch.uint8)
    found[:, 0] = 1
    for i, image in enumerate(images):
        if image.name not in rows:
            raise DataError(f"{path} does not name the image {image.name}")
        for name in rows[image.name]:
            if name not in classes:
                raise DataError(f"{path} names an unknown class", got=name, expected=", ".join(classes))
            found[i, classes.index(name)] = 1
    return found


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        image = Image.open(path)
        image.load()
    except Exception as error:
        raise DataError(
            f"cannot read the image {path}", got=error, fix="repair or remove the file"
        ) from error
    return image


def _stacked(images: list[Tensor], name: str) -> Tensor:
    if odd := [image for image in images if image.shape != images[0].shape]:
        raise DataError(
            f"the images of the {name} split differ in size",
            got=tuple(odd[0].shape),
            expected=tuple(images[0].shape),
            fix="set data.size",
        )
    return torch.stack(images)
