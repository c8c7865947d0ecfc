"""What is swept, as curves: options of methods, data settings, sizes of students and teachers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...study.statistics import Interval
from ..picture import Picture
from . import plots
from .axes import Sweep, axis_name, method_sweeps, setting_sweeps
from .model import Comparison, Study
from .plots import Line
from .words import metric_name, scaled

MOST_LINES = 8
"""More lines in one panel cannot be told apart; the baselines stand in every panel."""


class Panel(NamedTuple):
    """A picture, its metric, and the comparison that (the first of) its numbers are from."""

    metric: str
    group: Comparison
    picture: Picture


def sweeps(study: Study) -> dict[str, list[Panel]]:
    """The panels of every swept quantity, those of the deciding metric first."""
    found: dict[str, list[Panel]] = {}
    for sweep in method_sweeps(study):
        found.setdefault(axis_name(sweep.key), []).extend(_of_methods(study, sweep))
    for sweep in setting_sweeps(study):
        found.setdefault(axis_name(sweep.key), []).extend(_of_settings(study, sweep))
    for who in ("student", "teacher"):
        found[f"parameters of the {who}"] = list(_of_sizes(study, who))
    order = list(study.metrics)
    return {x: sorted(panels, key=lambda p: order.index(p.metric)) for x, panels in found.items() if panels}


def _of_methods(study: Study, sweep: Sweep) -> Iterator[Panel]:
    x = axis_name(sweep.key)
    swept = {name for curve in sweep.curves for _, name in curve.points}
    for group in study.comparisons:
        lines = []
        for curve in sweep.curves:
            points = tuple((x, i) for x, name in curve.points if (i := _interval(group, name)) is not None)
            lines += [Line(curve.name, points)] if len(points) > 1 else []
        flat = [
            Line(base, ((0.0, i),), flat=True)
            for base in study.baselines
            if base not in swept and (i := _interval(group, base)) is not None
        ]
        if lines:
            yield from _panels(lines, flat, x, group, group.group)


def _of_settings(study: Study, sweep: Sweep) -> Iterator[Panel]:
    x = axis_name(sweep.key)
    for metric in study.metrics:
        for pair in study.axes.pairs:
            known = {c.setting: c for c in study.comparisons if (c.pair, c.metric) == (pair, metric)}
            for curve in sweep.curves:
                groups = [(value, known[setting]) for value, setting in curve.points if setting in known]
                several = len(sweep.curves) > 1
                title = f"{pair}, {curve.name}" if several and curve.name else pair
                yield from _along(study, groups, x, title)


def _of_sizes(study: Study, who: str) -> Iterator[Panel]:
    """Along pairs, where these differ in the size of the student, or of the teacher alone."""
    students = _sizes(study, "student")
    size = students if who == "student" else _sizes(study, "teacher")
    if len(set(size.values())) < 2 or (who == "teacher" and len(set(students.values())) > 1):
        return
    for metric in study.metrics:
        for setting in study.axes.settings:
            known = {c.pair: c for c in study.comparisons if (c.setting, c.metric) == (setting, metric)}
            groups = sorted(
                ((float(size[pair]), known[pair]) for pair in size if pair in known), key=lambda item: item[0]
            )
            yield from _along(study, groups, f"parameters of the {who}", setting)


def _sizes(study: Study, who: str) -> dict[str, int]:
    """Parameters of the student, or of the teacher that most methods have, by pair."""
    parameters = {row.key: row.parameters for row in study.rows}
    found: dict[str, Counter[int]] = {}
    for row in study.students.values():
        size = row.parameters if who == "student" else parameters.get(row.teacher or "")
        if size:
            found.setdefault(row.pair, Counter())[size] += 1
    return {pair: sizes.most_common(1)[0][0] for pair, sizes in found.items()}


def _along(study: Study, groups: Sequence[tuple[float, Comparison]], x: str, title: str) -> Iterator[Panel]:
    """Every method as a line through groups."""
    if len({value for value, _ in groups}) < 2:
        return
    lines = []
    for method in study.axes.methods:
        points = tuple((value, i) for value, g in groups if (i := _interval(g, method)) is not None)
        lines += [Line(method, points)] if len(points) > 1 else []
    bases = [line for line in lines if line.name in study.baselines]
    others = [line for line in lines if line.name not in study.baselines]
    if lines:
        yield from _panels(others, bases, x, groups[0][1], title)


def _panels(
    lines: Sequence[Line], everywhere: Sequence[Line], x: str, group: Comparison, title: str
) -> Iterator[Panel]:
    """As many panels as it takes for the lines to be told apart."""
    room = max(1, MOST_LINES - len(everywhere))
    each = math.ceil(len(lines) / max(1, math.ceil(len(lines) / room)))
    parts = [lines[i : i + each] for i in range(0, len(lines), each)] if lines else [lines]
    metric = group.metric
    for number, part in enumerate(parts):
        of = f" ({number + 1} of {len(parts)})" if len(parts) > 1 else ""
        heading = f"{title}: {metric_name(metric, False)}{of}"
        picture = plots.curves([*everywhere, *part], x, metric_name(metric), heading)
        yield Panel(metric, group, picture)


def _interval(group: Comparison, method: str) -> Interval | None:
    found = group.of(method)
    return None if found is None or found.mean is None else scaled(found.interval, group.metric)
