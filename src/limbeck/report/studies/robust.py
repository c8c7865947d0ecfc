"""What methods are worth beside clean accuracy: under corruptions and attacks, and on other data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...study.statistics import mean_interval
from ..picture import Picture
from . import plots
from .model import Comparison, Spread, Study
from .runs import Folder


class Robust(NamedTuple):
    """The picture of a group, if there is a baseline, and a table of accuracies."""

    picture: Picture | None
    columns: list[str]
    rows: list[tuple[str, list[Spread]]]


def robust(study: Study, group: Comparison, folders: Mapping[str, Folder]) -> Robust | None:
    """Accuracy under corruptions against the first baseline, and all accuracies; None where none were measured."""
    found: dict[str, list[dict[str, float]]] = {}
    kinds: dict[str, None] = {}
    for row in study.of(group):
        folder = folders[row.key]
        if measured := _measured(folder):
            found.setdefault(row.method, []).append(measured)
            kinds |= dict.fromkeys(folder.robustness.corruptions if folder.robustness else ())
    if not found:
        return None
    columns = list(dict.fromkeys(key for runs in found.values() for run in runs for key in run))
    means = {method: {key: _mean(study, runs, key) for key in columns} for method, runs in found.items()}
    return Robust(
        _picture(study, group, means, list(kinds)),
        [name.replace("_", " ") for name in columns],
        [(method, list(row.values())) for method, row in means.items()],
    )


def _picture(
    study: Study, group: Comparison, means: Mapping[str, Mapping[str, Spread]], kinds: Sequence[str]
) -> Picture | None:
    base = next((name for name in study.baselines if name in means), None)
    others = [method for method in means if method != base]
    if base is None or not kinds or not others:
        return None
    values = np.array([[_minus(means[m][kind], means[base][kind]) for kind in kinds] for m in others])
    title = f"{group.group}: accuracy under corruptions against {base}"
    note = "Points, mean over five severities and over seeds. The corruptions are Limbeck's own, in the style of “-C”."
    names = [kind.replace("_", " ") for kind in kinds]
    return plots.changes(values, others, names, title, "corruptions", note)


def _minus(a: Spread, b: Spread) -> float:
    return math.nan if a.mean is None or b.mean is None else 100 * (a.mean - b.mean)


def _measured(folder: Folder) -> dict[str, float]:
    """Accuracies of one run: clean, corrupted, attacked, transferred, and by corruption."""
    found: dict[str, float] = {}
    if (robust := folder.robustness) is not None:
        found["clean"] = robust.clean
        if robust.corrupted is not None:
            found["corrupted"] = robust.corrupted
        found |= {f"PGD {255 * attack.epsilon:.3g}/255": attack.accuracy for attack in robust.pgd}
    found |= {f"probe on {data}": accuracy for data, accuracy in folder.probes.items()}
    if robust is not None:
        found |= {kind: math.fsum(values) / len(values) for kind, values in robust.corruptions.items()}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _mean(study: Study, runs: Sequence[Mapping[str, float]], key: str) -> Spread:
    known = [run[key] for run in runs if key in run]
    return Spread.of(mean_interval(known, study.level)) if known else Spread()
