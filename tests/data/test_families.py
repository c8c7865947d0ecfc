from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import DataConfig, load
from limbeck.data.families import hold_out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.integers(1, 30), st.integers(0, 5))
def test_families_are_held_out_whole(families: list[int], count: int, seed: int) -> None:
    known = np.array(families)
    held = hold_out(known, count, np.random.default_rng(seed))
    assert held.any()
    assert not set(known[held]) & set(known[~held])
    smallest = np.unique(known, return_counts=True)[1].min()
    assert held.sum() <= max(count, smallest)
    if smallest <= count < len(known):  # nothing that is left would have fitted
        left = [int((known == family).sum()) for family in set(known[~held])]
        assert all(size > count - held.sum() for size in left)
    assert (held == hold_out(known, count, np.random.default_rng(seed))).all()


def test_a_file_with_families_holds_them_out_whole(tmp_path: Path) -> None:
    n = 60
    x = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2)
    family = np.array(list("abcdefghij")).repeat(6)
    np.savez(tmp_path / "f.npz", x=x, y=np.arange(n) % 2, family=family)
    data = load(DataConfig(name="npz", path=str(tmp_path / "f.npz"), validation=12))
    of = {image.tobytes(): name for image, name in zip(x, family, strict=True)}
    parts = [{of[image.numpy().tobytes()] for image in split.images[:, 0]}  # type: ignore[attr-defined]
             for split in (data.train, data.validation, data.test)]  # fmt: skip
    assert [len(part) for part in parts] == [6, 2, 2]
    assert len(set.union(*parts)) == 10
