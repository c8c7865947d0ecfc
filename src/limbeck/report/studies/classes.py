"""Which classes a method is better or worse at than the first baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..picture import Picture
from ..records import Array
from ..text import NONE
from . import plots
from .model import Comparison, Study
from .runs import Folder
from .words import signed

MOST = 3
"""So many classes are named as those that gained, and as those that lost most."""


class Classes(NamedTuple):
    """The picture of a group, and for each method the classes that gained and that lost most."""

    picture: Picture
    rows: list[tuple[str, str, str]]


def classes(study: Study, group: Comparison, folders: Mapping[str, Folder]) -> Classes | None:
    """Differences of recall by class, paired by seed; None where no run or no baseline recorded it."""
    base = next((name for name in study.baselines if group.of(name) is not None), None)
    recalls: dict[str, dict[int, Array]] = {}
    names: tuple[str, ...] = ()
    for row in study.of(group):
        folder = folders[row.key]
        if folder.recall is not None and folder.info is not None:
            recalls.setdefault(row.method, {})[row.seed] = folder.recall
            names = folder.info.classes
    if base is None or base not in recalls:
        return None
    theirs = recalls.pop(base)
    found = {}
    for method, mine in recalls.items():
        same = [
            seed
            for seed in mine
            if seed in theirs and mine[seed].shape == theirs[seed].shape == (len(names),)
        ]
        if same:
            found[method] = np.mean([100 * (mine[seed] - theirs[seed]) for seed in same], axis=0)
    if not found:
        return None
    values = np.array(list(found.values()))
    note = "Points, mean over seeds. A class has few test images, so that a single cell is mostly chance."
    title = f"{group.group}: recall by class against {base}"
    picture = plots.changes(values, list(found), names, title, "classes", note)
    return Classes(picture, [(method, *_most(row, names)) for method, row in found.items()])


def _most(row: Array, names: tuple[str, ...]) -> tuple[str, str]:
    order = [int(i) for i in np.argsort(-np.nan_to_num(row)) if math.isfinite(row[i])]
    up = [f"{names[i]} {signed(row[i], 1)}" for i in order[:MOST] if row[i] >= 0.05]
    down = [f"{names[i]} {signed(row[i], 1)}" for i in order[: -MOST - 1 : -1] if row[i] <= -0.05]
    return ", ".join(up) or NONE, ", ".join(down) or NONE
