"""Named random streams: one seed, and a stream for every purpose."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for a named purpose, independent of every other name's.

    Args:
        seed: the run's seed.
        names: what the stream is for, such as ``"student"`` or ``"training", rank``.

    Example:
        >>> derive(0, "student") == derive(0, "student")
        True
        >>> derive(0, "student") == derive(0, "data")
        False
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
