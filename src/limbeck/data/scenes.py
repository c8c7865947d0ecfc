"""Scenes of free art on real textures, with exact masks: real objects, synthetic compositions."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..files import write_atomic
from .config import Data, DataConfig
from .masks import MaskSplit, masked, present

DEFAULT = {"animal": ("animals/mammals",), "fruit": ("food/fruit",), "flower": ("plants/flowers",)}
"""Classes and their folders in Tux Paint's stamps."""

PARTS = {"train": (600, 0.6), "validation": (150, 0.15), "test": (200, 0.25)}
"""Scenes of each split, and its share of the objects of every class."""

OPAQUE = 127
"""An object is where its alpha is above this."""

FEWEST = 8
"""Objects that a class must have."""

ART = (".png",)
PHOTOS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Scenes:
    """What ``build`` made.

    Attributes:
        images, masks: by split, uint8.
        objects: file of every object, by split and class.
        classes: the background first.
    """

    images: dict[str, NDArray[np.uint8]]
    masks: dict[str, NDArray[np.uint8]]
    objects: dict[str, dict[str, tuple[str, ...]]]
    classes: tuple[str, ...]

    @property
    def content(self) -> str:
        """SHA-256 over pixels and masks."""
        digest = hashlib.sha256()
        for part in PARTS:
            for array in (self.images[part], self.masks[part]):
                digest.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def scenes(config: DataConfig) -> Data:
    """Scenes from the file that ``build`` made (``limbeck data scenes``), named by ``data.path``.

    With ``data.weak`` the training masks are not read from the file at all.

    Raises:
        DataError: no such file, a damaged one, or one of another kind.
    """
    if config.path is None or not Path(config.path).expanduser().is_file():
        raise DataError(
            "data set 'scenes' needs its file" if config.path is None else f"there is no file {config.path}",
            fix="make it with: limbeck data scenes --stamps /usr/share/tuxpaint/stamps --out FILE, and set data.path",
        )
    path = Path(config.path).expanduser()
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            classes = tuple(str(name) for name in file["classes"])
            splits = {}
            for part in PARTS:
                images = torch.from_numpy(file[f"{part}_x"]).permute(0, 3, 1, 2).contiguous()
                weak = config.weak and part == "train"
                known = torch.from_numpy(file["train_y" if weak else f"{part}_masks"])
                splits[part] = MaskSplit(images, known, part)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot read {path}", got=error, expected="a file that limbeck data scenes wrote"
        ) from error
    return masked(
        "scenes", splits["train"], splits["test"], splits["validation"], classes=classes, config=config
    )


def build(
    stamps: Path,
    classes: Mapping[str, Sequence[str]] = DEFAULT,
    backgrounds: Path | None = None,
    size: int = 48,
    seed: int = 0,
) -> Scenes:
    """Paste free art with an alpha channel on crops of photographs.

    The label is the class whose folder an object is in, the mask is where its alpha is above 127. The objects of
    every class are shared out first (60 % training, 15 % validation, 25 % test), so no object is in two splits.
    A scene holds one or two objects of unlike classes, their longer side 45 to 80 % of the scene's, mirrored at
    random, one over the other where they meet. The objects are real art; the scenes are synthetic.

    Args:
        stamps: folder with one folder of PNG files with alpha for each class.
        classes: name of each class and its folders inside ``stamps``.
        backgrounds: folder of photographs; None is what scikit-learn ships: trees, water and roofs of
            ``china.jpg``, the leaves of ``flower.jpg``.
        size: side of a scene in pixels.
        seed: of all draws.

    Raises:
        DataError: a missing folder, or too few objects.
    """
    found = {name: _objects(stamps, name, folders) for name, folders in classes.items()}
    photos = _photos(backgrounds, size)
    random = np.random.Generator(np.random.Philox(key=[seed, 7]))
    shares = np.cumsum([share for _, share in PARTS.values()])
    images, masks = {}, {}
    objects: dict[str, dict[str, tuple[str, ...]]] = {part: {} for part in PARTS}
    pools: dict[str, list[list[Any]]] = {part: [] for part in PARTS}
    for name, files in found.items():
        order = random.permutation(len(files))
        edges = [0, *(round(share * len(files)) for share in shares)]
        for i, part in enumerate(PARTS):
            chosen = [files[k] for k in sorted(order[edges[i] : edges[i + 1]])]
            objects[part][name] = tuple(path.relative_to(stamps).as_posix() for path in chosen)
            pools[part].append([_opened(path) for path in chosen])
    for part, (count, _) in PARTS.items():
        drawn = [_compose(random, pools[part], photos, size) for _ in range(count)]
        images[part], masks[part] = (np.stack(parts) for parts in zip(*drawn))
    return Scenes(images, masks, objects, ("background", *classes))


def save(made: Scenes, path: Path) -> None:
    """Write the scenes as a ``.npz`` that the source ``scenes`` reads, with their content hash."""
    from PIL import __version__

    arrays: dict[str, Any] = {"classes": np.array(made.classes), "sha256": np.array(made.content)}
    for part in PARTS:
        arrays[f"{part}_x"], arrays[f"{part}_masks"] = made.images[part], made.masks[part]
        names = [f"{name}: {file}" for name, files in made.objects[part].items() for file in files]
        arrays[f"{part}_objects"] = np.array(names)
    arrays["train_y"] = present(torch.from_numpy(made.masks["train"]), len(made.classes)).numpy()
    arrays["made_with"] = np.array(f"Pillow {__version__}")
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def _objects(stamps: Path, name: str, folders: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for folder in folders:
        if not (stamps / folder).is_dir():
            raise DataError(
                f"there is no folder {stamps / folder}",
                fix="give the folder of the stamps (Debian: tuxpaint-stamps-default) as --stamps",
            )
        files += sorted(file for file in (stamps / folder).rglob("*") if file.suffix.lower() in ART)
    usable = [file for file in files if _has_shape(file)]
    if len(usable) < FEWEST:
        raise DataError(
            f"the class {name!r} has too few objects",
            got=f"{len(usable)} PNG files with an alpha channel",
            expected=f"{FEWEST} or more",
        )
    return usable


def _has_shape(path: Path) -> bool:
    """Whether a picture is neither empty nor a full rectangle."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("RGBA", "LA", "PA", "P"):
                return False
            alpha = np.asarray(image.convert("RGBA"))[..., 3] > OPAQUE
    except OSError:
        return False
    return 0.05 < float(alpha.mean()) < 0.97


def _opened(path: Path) -> Any:
    """A picture cut to what is opaque, not needlessly large."""
    from PIL import Image

    with Image.open(path) as image:
        art = image.convert("RGBA")
    box = art.getchannel("A").point(lambda value: 255 * (value > OPAQUE)).getbbox()
    art = art.crop(box)
    art.thumbnail((256, 256), Image.Resampling.LANCZOS)
    return art


def _photos(folder: Path | None, size: int) -> list[NDArray[np.uint8]]:
    from PIL import Image

    if folder is None:
        from sklearn.datasets import load_sample_image

        china, flower = (np.asarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
        return [china, china, flower[:, :160], flower[:300, 480:]]
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", fix="correct --backgrounds")
    photos = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PHOTOS:
            with Image.open(path) as image:
                photos.append(np.asarray(image.convert("RGB")))
    photos = [photo for photo in photos if min(photo.shape[:2]) >= size]
    if not photos:
        raise DataError(f"{folder} holds no photograph", expected=f"images of {size} pixels or more")
    return photos


def _compose(
    random: np.random.Generator, pools: list[list[Any]], photos: list[NDArray[np.uint8]], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from PIL import Image

    photo = photos[int(random.integers(len(photos)))]
    height, width = photo.shape[:2]
    side = int(random.integers(size, min(height, width, 3 * size) + 1))
    top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
    scene = Image.fromarray(photo[top : top + side, left : left + side]).resize((size, size))
    mask = np.zeros((size, size), np.uint8)
    kinds = random.permutation(len(pools))[: int(random.integers(1, 3))]
    for kind in kinds.tolist():
        art = pools[kind][int(random.integers(len(pools[kind])))]
        scale = float(random.uniform(0.45, 0.8)) * size / max(art.size)
        shape = tuple(max(2, round(scale * edge)) for edge in art.size)
        pasted = art.resize(shape, Image.Resampling.LANCZOS)
        if random.random() < 0.5:
            pasted = pasted.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x, y = (int(random.integers(0, size - edge + 1)) for edge in shape)
        scene.paste(pasted, (x, y), pasted)
        window = mask[y : y + shape[1], x : x + shape[0]]
        window[np.asarray(pasted)[..., 3] > OPAQUE] = kind + 1
    return np.asarray(scene), mask
