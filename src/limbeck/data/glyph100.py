"""Glyph-100: letters in typefaces never seen, drawn from the fonts of free packages."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import write_atomic
from .config import Data, DataConfig
from .download import cache_folder
from .npz import from_file

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

CHARACTERS = "".join(map(chr, range(33, 127))) + "ßæøÆØ¿"
"""The classes, position = label: printable ASCII and six Latin letters."""
ASCII, ENOUGH = 94, 80
"""A face is used if it draws so many of the ASCII characters."""
SIZE, PIXELS, ORIGIN = 24, 32, (16, 22)
INK, LEAST_INK = 64, 6
"""A picture needs so many pixels above this level."""
PLACEHOLDER = 3
"""A picture that a face uses for so many characters is a placeholder."""
MISSING = "\uffff"
"""No character, so that a font draws what it draws for those that it lacks."""


class Glyphs(NamedTuple):
    """The data set in memory.

    Attributes:
        x: pictures ``(n, 32, 32)`` uint8, white on black.
        y: positions in ``CHARACTERS`` ``(n,)``.
        test: which pictures are of test families ``(n,)``.
        family: positions in ``families`` ``(n,)``.
        families: first words of family names, sorted.
        faces: how many faces were drawn.
        unreadable: files that could not be opened or drawn.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    test: NDArray[np.bool_]
    family: NDArray[np.int64]
    families: tuple[str, ...]
    faces: int
    unreadable: tuple[str, ...]

    @property
    def content(self) -> str:
        """SHA-256 of pictures, labels, split and families."""
        found = hashlib.sha256("\n".join(self.families).encode())
        for array in (self.x, self.y, self.test, self.family):
            found.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
        return found.hexdigest()


def glyph100(config: DataConfig) -> Data:
    """Grey 32×32 pictures of 100 characters; the test split holds typeface families that training never shows.

    The file is made by ``build`` (``limbeck data glyph100``). ``data.path`` names it; without it, it is looked
    for as ``glyph100.npz`` in the cache folder. Validation holds out whole families where the file names them
    (every file that ``build`` wrote), else single pictures. Mean and std are computed on the training split.

    Raises:
        DataError: not found, or anything wrong with the file.
    """
    path = Path(config.path).expanduser() if config.path else cache_folder() / "glyph100.npz"
    if not path.is_file():
        raise DataError(
            f"there is no file {path}",
            fix="make it with: limbeck data glyph100 --fonts /usr/share/fonts --out FILE, and set data.path to FILE",
        )
    return from_file(path, config, name="glyph100", classes=tuple(CHARACTERS))


def build(fonts: Path) -> Glyphs:
    """Draw the data set from every font file under a folder.

    Faces are the distinct (family, style) pairs of the ``.ttf`` and ``.otf`` files, in that order. A character is
    drawn at size 24, centred, its baseline at row 22. Left out are pictures with fewer than 6 pixels above 64, pictures
    equal to what the face draws for a character that it lacks, and pictures that one face uses for three characters or
    more. A family is the first word of a family name; it is in the test split where ``md5(word) mod 5 = 0``.

    The result depends on the fonts and on the drawing libraries (FreeType, HarfBuzz) that Pillow brings, not on the
    order or the place of the files.

    Raises:
        DataError: Pillow cannot lay out text with Raqm, there is no such folder, or it holds no usable font.
    """
    from PIL import features

    if not features.check("raqm"):
        raise DataError(
            "Pillow cannot lay out text with Raqm here",
            fix="install the FriBidi library (Debian: libfribidi0) beside Pillow from PyPI",
        )
    faces, unreadable = _faces(fonts)
    images, labels, words = [], [], []
    for (family, _), font in faces:
        try:
            pictures = np.stack([_draw(font, character) for character in CHARACTERS])
            good = _usable(pictures, _draw(font, MISSING))
        except (OSError, ValueError):
            unreadable.append(font.path if isinstance(font.path, str) else family)
            continue
        images.append(pictures[good])
        labels.append(good)
        words += [family.split()[0]] * len(good)
    if not words:
        raise DataError(
            f"{fonts} holds no usable font", expected="files that end in .ttf or .otf", fix="correct --fonts"
        )
    families, member = np.unique(words, return_inverse=True)
    tested = np.array([int(hashlib.md5(word.encode()).hexdigest(), 16) % 5 == 0 for word in families])
    return Glyphs(
        np.concatenate(images),
        np.concatenate(labels),
        tested[member],
        member.astype(np.int64),
        tuple(map(str, families)),
        sum(len(part) > 0 for part in labels),
        tuple(unreadable),
    )


def save(glyphs: Glyphs, path: Path) -> None:
    """Write the data set as a ``.npz`` that the source ``glyph100`` reads, with its content hash and its makers."""
    from PIL import __version__, features

    arrays: dict[str, Any] = {
        "x": glyphs.x,
        "y": glyphs.y,
        "test": glyphs.test,
        "family": glyphs.family,
        "families": np.array(glyphs.families),
        "classes": np.array(list(CHARACTERS)),
        "sha256": np.array(glyphs.content),
        "made_with": np.array(
            f"Pillow {__version__}, FreeType {features.version('freetype2')}, "
            f"HarfBuzz {features.version('harfbuzz')}"
        ),
    }
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def _faces(place: Path) -> tuple[list[tuple[tuple[str, str], FreeTypeFont]], list[str]]:
    """Distinct faces by (family, style), sorted, and files that are no font."""
    from PIL import ImageFont

    if not place.is_dir():
        raise DataError(f"there is no folder {place}", fix="correct --fonts")
    found: dict[tuple[str, str], tuple[str, str, FreeTypeFont]] = {}
    unreadable = []
    for path in place.rglob("*"):
        if path.suffix.lower() not in (".ttf", ".otf") or not path.is_file():
            continue
        try:
            font = ImageFont.truetype(str(path), SIZE, layout_engine=ImageFont.Layout.RAQM)
        except OSError:
            unreadable.append(str(path))
            continue
        family, style = (str(word or "") for word in font.getname())
        if family.split():
            entry = (path.name, hashlib.sha256(path.read_bytes()).hexdigest(), font)
            found[family, style] = min(found.get((family, style), entry), entry, key=lambda item: item[:2])
    return [(name, found[name][2]) for name in sorted(found)], sorted(unreadable)


def _draw(font: FreeTypeFont, character: str) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    image = Image.new("L", (PIXELS, PIXELS))
    ImageDraw.Draw(image).text(ORIGIN, character, font=font, fill=255, anchor="ms")
    return np.asarray(image)


def _usable(pictures: NDArray[np.uint8], missing: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Labels of the pictures to keep; none of a face that draws too few characters."""
    inked = (pictures > INK).sum((1, 2)) >= LEAST_INK
    if inked[:ASCII].sum() < ENOUGH:
        return np.zeros(0, dtype=np.int64)
    uses = Counter(picture.tobytes() for picture in pictures)
    return np.array(
        [
            label
            for label, picture in enumerate(pictures)
            if inked[label] and uses[picture.tobytes()] < PLACEHOLDER and not np.array_equal(picture, missing)
        ],
        dtype=np.int64,
    )
