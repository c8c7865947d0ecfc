"""From a study to its pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...study.grid import slug
from ...study.statistics import Interval, mean_interval
from ...study.tables import SHARES
from ..picture import Picture
from . import plots
from .axes import Curve, Sweep, axis_name, method_sweeps, setting_sweeps
from .model import Comparison, Spread, Study
from .plots import Bar, Line
from .runs import Folder
from .words import metric_name, scaled, unit

MOST_LINES = 7
"""More lines in one panel cannot be told apart; the baselines stand in every panel."""


def ranking(study: Study) -> list[Picture]:
    """Mean ranks with Nemenyi's distance."""
    found = study.ranking
    if found is None:
        return []
    caption = (
        f"Mean rank over {found.blocks} groups × seeds. Bars reach half of the critical distance "
        f"({found.critical_distance:.2f}, Nemenyi, {100 * study.level:g} %) to each side: two methods differ where "
        "their bars do not meet. Blue: not told apart from the best."
    )
    title = f"Ranking by {metric_name(found.metric, False)}"
    return [plots.ranking(found.mean_rank, found.critical_distance, title, caption)]


def differences(study: Study, group: Comparison, base: str) -> list[Picture]:
    """Paired differences of one group to one baseline, the largest first."""
    theirs = group.of(base)
    if theirs is None:
        return []
    scale = 100 if group.metric in SHARES else 1
    bars = []
    for method in group.methods:
        found = method.against.get(base)
        if found is None or found.mean is None:
            continue
        pairs = [
            scale * (value - other)
            for seed, value in method.values.items()
            if value is not None and (other := theirs.values.get(seed)) is not None
        ]
        bars.append(Bar(method.method, scaled(found.interval, group.metric), found.verdict, tuple(pairs)))
    if not bars:
        return []
    bars.sort(key=lambda bar: bar.interval.mean if group.higher_is_better is False else -bar.interval.mean)
    colours = "Blue higher, orange lower" if group.higher_is_better is None else "Green helped, red hurt"
    caption = (
        f"Paired by seed; small dots are seeds, bars {100 * study.level:g} % intervals. {colours}, "
        "after correction for all methods of the group; grey: no evidence."
    )
    title = f"{group.group}: against {base}"
    name = f"differences-{slug(group.group)}-{slug(base)}"
    return [plots.forest(bars, unit(group.metric), title, caption, name)]


def sweeps(study: Study) -> list[tuple[str, list[tuple[Comparison, Picture]]]]:
    """For every swept quantity the pictures, each with the comparison that its numbers are from."""
    found = []
    for sweep in method_sweeps(study):
        pictures = [
            (group, picture) for group in study.comparisons for picture in _of_methods(study, group, sweep)
        ]
        found.append((axis_name(sweep.key), pictures))
    for sweep in setting_sweeps(study):
        found.append((axis_name(sweep.key), _of_settings(study, sweep)))
    return [(name, pictures) for name, pictures in found if pictures]


def _of_methods(study: Study, group: Comparison, sweep: Sweep) -> list[Picture]:
    lines = []
    for curve in sweep.curves:
        points = tuple((x, i) for x, name in curve.points if (i := _interval(group, name)) is not None)
        if len(points) > 1:
            lines.append(Line(curve.name, points))
    swept = {name for curve in sweep.curves for _, name in curve.points}
    flat = [
        Line(base, ((0.0, i),), flat=True)
        for base in study.baselines
        if base not in swept and (i := _interval(group, base)) is not None
    ]
    x = axis_name(sweep.key)
    name = f"sweep-{slug(x)}-{group.metric}-{slug(group.group)}"
    return _panels(lines, flat, x, group.metric, group.group, name)


def _of_settings(study: Study, sweep: Sweep) -> list[tuple[Comparison, Picture]]:
    found = []
    x = axis_name(sweep.key)
    for metric in study.metrics:
        for pair in study.axes.pairs:
            for number, curve in enumerate(sweep.curves):
                groups = _groups(study, pair, metric, curve)
                if len(groups) < 2:
                    continue
                lines = []
                for method in study.axes.methods:
                    points = tuple((x, i) for x, g in groups if (i := _interval(g, method)) is not None)
                    if len(points) > 1:
                        lines.append(Line(method, points))
                bases = [line for line in lines if line.name in study.baselines]
                others = [line for line in lines if line.name not in study.baselines]
                title = f"{pair}{', ' + curve.name if len(sweep.curves) > 1 and curve.name else ''}"
                name = f"sweep-{slug(x)}-{metric}-{slug(pair)}" + (f"-{number}" if number else "")
                found += [(groups[0][1], p) for p in _panels(others, bases, x, metric, title, name)]
    return found


def _groups(study: Study, pair: str, metric: str, curve: Curve) -> list[tuple[float, Comparison]]:
    known = {c.setting: c for c in study.comparisons if (c.pair, c.metric) == (pair, metric)}
    return [(x, known[setting]) for x, setting in curve.points if setting in known]


def _panels(
    lines: Sequence[Line], everywhere: Sequence[Line], x: str, metric: str, title: str, name: str
) -> list[Picture]:
    """As many panels as it takes for the lines to be told apart."""
    if not lines and not any(not line.flat for line in everywhere):
        return []
    room = max(1, MOST_LINES - len(everywhere))
    parts = [lines[i : i + room] for i in range(0, len(lines), room)] or [[]]
    found = []
    for number, part in enumerate(parts):
        of = f" ({number + 1} of {len(parts)})" if len(parts) > 1 else ""
        found.append(
            plots.curves(
                [*everywhere, *part], x, metric_name(metric), f"{title}: {metric_name(metric, False)}{of}",
                name + (f"-{number}" if number else ""),
            )
        )  # fmt: skip
    return found


def _interval(group: Comparison, method: str) -> Interval | None:
    found = group.of(method)
    return None if found is None or found.mean is None else scaled(found.interval, group.metric)


def cost(study: Study, group: Comparison) -> list[Picture]:
    """The deciding metric against training time."""
    points = [
        (m.method, m.seconds.mean, scaled(m.interval, group.metric))
        for m in group.methods
        if m.mean is not None and m.seconds.mean
    ]
    if len(points) < 2:
        return []
    title = f"{group.group}: against training time"
    name = f"cost-{slug(group.group)}"
    y = metric_name(group.metric)
    return [plots.front(points, "seconds of training", y, group.higher_is_better is not False, title, name)]


def sizes(study: Study) -> list[Picture]:
    """The deciding metric against the students' size, where pairs have students of different sizes."""
    size = {row.pair: row.parameters for row in study.rows if row.kind == "student" and row.parameters}
    if len(set(size.values())) < 2 or len(size) < 2:
        return []
    order = sorted(size, key=lambda pair: size[pair] or 0)
    found = []
    for setting in study.axes.settings:
        groups = [
            (float(size[pair] or 0), g)
            for pair in order
            for g in study.groups
            if (g.pair, g.setting) == (pair, setting)
        ]
        lines = []
        for method in study.axes.methods:
            points = tuple((x, i) for x, g in groups if (i := _interval(g, method)) is not None)
            if len(points) > 1:
                lines.append(Line(method, points))
        bases = [line for line in lines if line.name in study.baselines]
        others = [line for line in lines if line.name not in study.baselines]
        name = f"size-{slug(setting)}"
        found += _panels(others, bases, "parameters of the student", study.metric, setting, name)
    return found


def classes(
    study: Study, group: Comparison, folders: Mapping[str, Folder]
) -> tuple[list[Picture], list[tuple[str, str, str]]]:
    """How recall by class differs from the first baseline, and the classes that gained and lost most."""
    base = next((name for name in study.baselines if group.of(name) is not None), None)
    if base is None:
        return [], []
    recalls: dict[str, dict[int, np.ndarray]] = {}
    names: tuple[str, ...] = ()
    for (pair, setting, method, seed), row in study.students.items():
        folder = folders.get(row.key)
        if (pair, setting) == (group.pair, group.setting) and folder and folder.recall is not None:
            recalls.setdefault(method, {})[seed] = folder.recall
            names = folder.info.classes if folder.info else names
    theirs = recalls.pop(base, {})
    rows, table, lines = [], [], []
    for method, mine in recalls.items():
        pairs = [100 * (r - theirs[s]) for s, r in mine.items() if s in theirs and r.shape == theirs[s].shape]
        if not pairs or len(pairs[0]) != len(pairs[-1]):
            continue
        mean = np.mean(pairs, axis=0)
        rows.append(method)
        table.append(mean)
    if not rows or len({len(row) for row in table}) > 1:
        return [], []
    size = len(table[0])
    names = names if len(names) == size else tuple(map(str, range(size)))
    values = np.array(table)
    for method, row in zip(rows, values, strict=True):
        known = [int(i) for i in np.argsort(-np.nan_to_num(row)) if math.isfinite(row[i])]
        up = [f"{names[i]} {row[i]:+.1f}" for i in known[:3] if row[i] > 0.05]
        down = [f"{names[i]} {row[i]:+.1f}" for i in reversed(known[-3:]) if row[i] < -0.05]
        lines.append((method, ", ".join(up) or "–", ", ".join(down).replace("-", "−") or "–"))
    title = f"Recall by class against {base}"
    note = "Points, mean over seeds. A class has few test images, so single cells are mostly chance."
    picture = plots.changes(values, rows, names, title, f"classes-{slug(group.group)}", "class", note)
    return [picture], lines


def corruptions(
    study: Study, group: Comparison, folders: Mapping[str, Folder]
) -> tuple[list[Picture], list[tuple[str, list[Spread]]], list[str]]:
    """Accuracy under corruptions against the first baseline; a table of clean, corrupted and attacked accuracy."""
    found: dict[str, list[dict[str, float]]] = {}
    for (pair, setting, method, _), row in study.students.items():
        folder = folders.get(row.key)
        if (pair, setting) == (group.pair, group.setting) and folder and (folder.robustness or folder.probes):
            found.setdefault(method, []).append(_measured(folder))
    columns = list(dict.fromkeys(key for runs in found.values() for run in runs for key in run))
    table = [(method, [_mean(study, runs, key) for key in columns]) for method, runs in found.items()]
    kinds = [
        key for key in columns if key not in ("clean", "corrupted") and not key.startswith(("PGD", "probe"))
    ]
    base = next((name for name in study.baselines if name in found), None)
    if base is None or not kinds or len(found) < 2:
        return [], table, columns
    means = {method: [_mean(study, runs, key).mean for key in kinds] for method, runs in found.items()}
    rows = [method for method in found if method != base]
    values = np.array(
        [[_minus(a, b) for a, b in zip(means[method], means[base], strict=True)] for method in rows]
    )
    title = f"Accuracy under corruptions against {base}"
    note = "Points, mean over five severities and over seeds. The corruptions are Limbeck's own, in the style of “-C”."
    names = [kind.replace("_", " ") for kind in kinds]
    picture = plots.changes(
        values, rows, names, title, f"corruptions-{slug(group.group)}", "corruption", note
    )
    return [picture], table, columns


def _minus(a: float | None, b: float | None) -> float:
    return math.nan if a is None or b is None else 100 * (a - b)


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
    return found


def _mean(study: Study, runs: Sequence[Mapping[str, float]], key: str) -> Spread:
    known = [run[key] for run in runs if key in run and math.isfinite(run[key])]
    if not known:
        return Spread()
    mean, low, high, n = mean_interval(known, study.level)
    return Spread(
        mean=mean, low=None if math.isnan(low) else low, high=None if math.isnan(high) else high, n=n
    )
