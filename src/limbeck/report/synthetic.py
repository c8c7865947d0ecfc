"""Images that a data-free run made, per class, through training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from .picture import Palette, Picture
from .records import Array, read_arrays

FILE = "synthetic.npz"
MOST = 10
"""Classes that are drawn."""


def read_synthetic(folder: Path) -> dict[str, Array]:
    """``steps (S,)`` and ``images (S, K, n, C, H, W)`` uint8 of a run folder; empty where there are none.

    Raises:
        RunError: the file is damaged.
    """
    if not (folder / FILE).is_file():
        return {}
    found = read_arrays(folder / FILE)
    steps, images = found.get("steps"), found.get("images")
    if (
        steps is None
        or images is None
        or images.ndim != 6
        or images.dtype != np.uint8
        or images.shape[0] != len(steps)
        or images.shape[3] not in (1, 3)
        or 0 in images.shape
    ):
        raise RunError(
            f"damaged run record: {folder / FILE}: it holds no images by class",
            fix="restore the file from a copy, or leave the run out",
        )
    return {"steps": steps, "images": images}


def picture(found: dict[str, Array], classes: Sequence[str], title: str, caption: str = "") -> Picture:
    """One row of images per class; blocks of columns for the first snapshot, one half way, and the last.

    Args:
        found: from ``read_synthetic``.
        classes: names of the K classes.
        title: of the picture.
        caption: what to say below it.
    """
    steps, images = found["steps"], found["images"][:, :MOST]
    middle = int(np.abs(steps - steps[-1] / 2).argmin())
    chosen = sorted({0, middle, len(steps) - 1})
    blocks = [mosaic(images[i]) for i in chosen]
    rows, block = images.shape[1], blocks[0].shape[1]
    gap = np.full((len(blocks[0]), max(2, images.shape[-1] // 2), 3), 255, np.uint8)
    whole = np.concatenate([part for b in blocks for part in (b, gap)][:-1], axis=1)
    pitch, names = whole.shape[0] / rows, [c if len(c) <= 12 else c[:11] + "…" for c in classes[:rows]]

    def paint(axes: Any, palette: Palette) -> None:
        axes.imshow(whole, interpolation="none")
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if len(names) == rows:
            axes.set_yticks([pitch * (i + 0.5) - 0.5 for i in range(rows)], names, fontsize=8)
        else:
            axes.set_yticks([])
        width = block + gap.shape[1]
        places = [width * i + block / 2 - 0.5 for i in range(len(blocks))]
        axes.set_xticks(places, [f"step {int(steps[i])}" for i in chosen], fontsize=8)
        axes.tick_params(length=0)

    size = (340, max(90, round(290 * whole.shape[0] / whole.shape[1]) + 34))
    return Picture(title, f"Generated images by class: {title}", paint, size, caption)


def mosaic(images: Array) -> Array:
    """Images ``(K, n, C, H, W)`` side by side as one ``(K (H + 1), n (W + 1), 3)``, a white line between them.

    Example:
        >>> mosaic(np.zeros((2, 3, 1, 4, 4), np.uint8)).shape
        (10, 15, 3)
    """
    padded = np.pad(images, ((0, 0), (0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
    k, n, c, h, w = padded.shape
    whole = padded.transpose(0, 3, 1, 4, 2).reshape(k * h, n * w, c)
    return whole if c == 3 else whole.repeat(3, axis=2)


def told(rate: float | None) -> str:
    """A caption with the share of images that the teacher takes for the requested class."""
    if rate is None:
        return "Sorted by the teacher's answer; an empty place is a class with too few images."
    return (
        f"Sorted by the requested class; the teacher agrees on {100 * rate:.0f} % of new images at the end."
    )
