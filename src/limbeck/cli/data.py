"""``limbeck data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.corpora import Corpus


def glyph100(fonts: Path, out: Path) -> None:
    """Draw the data set, write it, and print what it holds."""
    import numpy as np

    from ..data.glyph100 import build, save

    made = build(fonts)
    save(made, out)
    test = int(made.test.sum())
    held = len(np.unique(made.family[made.test]))
    print(f"faces: {made.faces} in {len(made.families)} families, {held} of them for test")
    if made.unreadable:
        print(f"left out: {len(made.unreadable)} files that are no scalable font")
    print(
        f"images: {len(made.y)} = {len(made.y) - test} train + {test} test, {len(np.unique(made.y))} classes"
    )
    print(f"content: sha256 {made.content}")
    print(f"written: {out}")


def scenes(
    stamps: Path, out: Path, classes: list[str], backgrounds: Path | None, size: int, seed: int
) -> None:
    """Compose the scenes, write them, and print what they hold."""
    from ..data.scenes import DEFAULT, build, save
    from ..errors import ConfigError

    chosen = {}
    for word in classes:
        name, equals, folders = word.partition("=")
        if not (name and equals and folders):
            raise ConfigError("a class without folders", got=word, expected="NAME=FOLDER[,FOLDER]")
        chosen[name] = tuple(folders.split(","))
    made = build(stamps, chosen or DEFAULT, backgrounds, size, seed)
    save(made, out)
    for part, objects in made.objects.items():
        counts = ", ".join(f"{len(files)} {name}" for name, files in objects.items())
        covered = 100 * float((made.masks[part] > 0).mean())
        print(f"{part}: {len(made.images[part])} scenes of {counts}; objects cover {covered:.0f} %")
    print("real objects that no two splits share; synthetic scenes")
    print(f"content: sha256 {made.content}")
    print(f"written: {out}")


def cmudict(source: Path | None, out: Path, held_out: int) -> None:
    """Make letters to phonemes, and print what it holds."""
    from ..data import cmudict

    made = cmudict.build(source or cmudict.find(), out, held_out=held_out)
    _told("words", made, out)


def debian(index: Path, out: Path, held_out: int, characters: int) -> None:
    """Make descriptions and synopses, and print what they hold."""
    from ..data import debian

    pairs, texts = debian.build(index, out, held_out=held_out, characters=characters)
    _told("pairs", pairs, out / "synopsis")
    _told("texts", texts, out / "text")


def _told(what: str, corpus: Corpus, out: Path) -> None:
    parts = " + ".join(f"{len(rows)} {name}" for name, rows in corpus._asdict().items())
    print(f"{what}: {sum(map(len, corpus))} = {parts}")
    print(f"content: sha256 {corpus.content}")
    print(f"written: {out}")
