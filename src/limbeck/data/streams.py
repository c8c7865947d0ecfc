"""Named, counter-based random streams: what a seed and an epoch decide, whatever the worker or rank."""

from __future__ import annotations

import numpy as np

STREAMS = {
    "shuffle": 1,
    "views": 2,
    "mixing": 3,
    "validation": 4,
    "test": 5,
    "train_size": 6,
    "noise": 7,
    "keep": 8,
    "tuples": 9,
    "tuple_order": 10,
    "budget": 11,
    "strong": 12,
    "crops": 13,
    "labelled": 14,
    "absent": 15,
}
"""The streams; each has its own counter range, so that none overlaps another."""


def generator(stream: str, seed: int, epoch: int = 0) -> np.random.Generator:
    """A fresh generator for one purpose: Philox keyed by (seed, epoch), counter offset by the stream.

    Args:
        stream: a name in ``STREAMS``.
        seed: any integer (taken modulo 2**64).
        epoch: counted from 0.

    Example:
        >>> bool(generator("shuffle", 0, 3).random() == generator("shuffle", 0, 3).random())
        True
    """
    key = np.array([seed % 2**64, epoch % 2**64], dtype=np.uint64)
    counter = np.array([0, 0, 0, STREAMS[stream]], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def permutation(stream: str, seed: int, epoch: int, n: int) -> np.ndarray:
    """Order of ``0..n-1``, by sorting uniform draws (the same under every NumPy version).

    Example:
        >>> sorted(permutation("shuffle", 0, 0, 4).tolist())
        [0, 1, 2, 3]
    """
    return np.argsort(generator(stream, seed, epoch).random(n), kind="stable")
