"""Holding out whole families of images, so that no family is on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def hold_out(families: NDArray[Any], count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of about ``count`` samples that makes up whole families.

    Families are visited in random order; each is taken if it still fits. The smallest is taken where none fits.

    Args:
        families: which family each sample is of, ``(n,)`` numbers or text.
        count: how many samples to hold out at most.
        random: the generator.

    Example:
        >>> hold_out(np.array(["a", "a", "b", "b", "b"]), 2, np.random.default_rng(0)).tolist()
        [True, True, False, False, False]
    """
    _, member, sizes = np.unique(families, return_inverse=True, return_counts=True)
    taken = np.zeros(len(sizes), dtype=np.bool_)
    left = count
    for family in np.argsort(random.random(len(sizes)), kind="stable"):
        if sizes[family] <= left:
            taken[family] = True
            left -= sizes[family]
    taken[sizes.argmin()] |= not taken.any()
    return taken[member]
