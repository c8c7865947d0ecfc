"""``limbeck data``."""

from __future__ import annotations

from pathlib import Path


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
