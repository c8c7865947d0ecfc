"""The tables of a study as the template shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..text import NONE, count, probability
from .anchors import Anchors
from .model import Against, Comparison, Method, Row, Spread, Study
from .runs import compact
from .words import duration, gain, metric_name, pace, spread

Shown = dict[str, Any]


def overviews(study: Study, anchors: Anchors) -> list[Shown]:
    """Methods down and groups across, once for each metric and baseline; the deciding metric first."""
    return [
        _overview(study, anchors, metric, base)
        for metric in study.metrics
        for base in study.baselines or (None,)
        if any(c.metric == metric and c.methods for c in study.comparisons)
    ]


def _overview(study: Study, anchors: Anchors, metric: str, base: str | None) -> Shown:
    groups = [c for c in study.comparisons if c.metric == metric]
    ranks = study.ranking.mean_rank if study.ranking and metric == study.metric else {}
    rows = []
    for name in sorted(study.axes.methods, key=lambda name: ranks.get(name, 0.0)):
        cells = []
        for group in groups:
            found = group.of(name)
            against = found.against.get(base) if found and base else None
            cells.append(
                {
                    "link": anchors.method(group, name) if found else "",
                    "mean": spread(found, metric),
                    "gain": gain(against, metric)[0] if against else "",
                    "verdict": against.verdict if against else "",
                    "value": sortable(found.mean if found else None),
                }
            )
        rows.append({"name": name, "rank": ranks.get(name), "cells": cells})
    return {
        "title": metric_name(metric) + (f", against {base}" if base else ""),
        "ranked": bool(ranks),
        "higher": not groups or groups[0].higher_is_better is not False,
        "heads": [g.group for g in groups],
        "rows": rows,
    }


def lines(study: Study, anchors: Anchors, group: Comparison, bases: Sequence[str]) -> list[Shown]:
    """A group's table on one metric: a line for each method."""
    rows = {(row.method, row.seed): row for row in study.of(group)}
    return [
        {
            "id": anchors.method(group, method.method),
            "name": method.method,
            "mean": spread(method, group.metric),
            "value": sortable(method.mean),
            "seeds": [
                (seed, anchors.run(rows[method.method, seed].key))
                for seed in method.values
                if (method.method, seed) in rows
            ],
            "judged": [_judged(method.against.get(base), group.metric) for base in bases],
            "seconds": duration(method.seconds.mean),
            "seconds_value": sortable(method.seconds.mean),
            **_pace(method, bases, group.metric),
        }
        for method in group.methods
    ]


def _judged(found: Against | None, metric: str) -> Shown | None:
    if found is None:
        return None
    size, ends = gain(found, metric)
    return {
        "verdict": found.verdict,
        "gain": size,
        "ends": ends,
        "p": probability(found.p_holm),
        "reason": found.reason,
        "value": sortable(found.mean),
        "unpaired": found.unpaired,
    }


def _pace(method: Method, bases: Sequence[str], metric: str) -> Shown:
    first = method.against.get(bases[0]) if bases else None
    value = first.per_extra_second if first else None
    return {"pace": pace(value, metric), "pace_value": sortable(value)}


def teachers(study: Study, anchors: Anchors, group: Comparison) -> list[Shown]:
    """Who taught a group: each network with its size, mean test figures, and its runs by seed."""
    known = {row.key: row for row in study.rows if row.kind == "teacher"}
    networks: dict[str, list[Row]] = {}
    for key in dict.fromkeys(row.teacher for row in study.of(group)):
        if key in known:
            row = known[key]
            size = f", {count(row.parameters)} parameters" if row.parameters else ""
            networks.setdefault(row.method + size, []).append(row)
    return [
        {
            "name": name,
            "figures": ", ".join(_teacher_figures(study, rows)) or rows[0].status,
            "seeds": [(row.seed, anchors.run(row.key)) for row in rows],
        }
        for name, rows in networks.items()
    ]


def _teacher_figures(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    for metric in dict.fromkeys((study.metric, "accuracy")):
        known = [v for row in rows if row.last and (v := row.last.test.get(metric)) is not None]
        if known:
            mean = Spread(mean=math.fsum(known) / len(known), n=len(known))
            yield f"{metric_name(metric)} {spread(mean, metric)}"


def tuning(study: Study, anchors: Anchors) -> list[Shown]:
    """Every search: what was chosen, whether it lies at an end, and all trials."""
    found = []
    for t in study.tuning:
        if not t.trials:
            continue
        best = next((trial for trial in t.trials if trial.number == t.chosen_trial), None)
        found.append(
            {
                "method": t.method,
                "searched": " · ".join((t.pair, t.setting)),
                "applies": len(t.applies_to),
                "chosen": values(t.chosen) or NONE,
                "best": figure(best.mean if best else None),
                "metric": metric_name(t.metric, False),
                "edges": t.edges,
                "seconds": duration(t.seconds),
                "trials": [
                    {
                        "settings": values(trial.values),
                        "mean": figure(trial.mean),
                        "chosen": trial is best,
                        "links": [anchors.run(path) for path in trial.paths],
                    }
                    for trial in t.trials
                ],
            }
        )
    return found


def values(found: dict[str, Any]) -> str:
    """Overrides in a cell.

    Example:
        >>> values({"temperature": 2.123456, "methods": ["kd"]})
        'temperature = 2.123, methods = [kd]'
    """
    shown = {key: f"{v:.4g}" if isinstance(v, float) else compact(v) for key, v in found.items()}
    return ", ".join(f"{key} = {value}" for key, value in shown.items())


def figure(value: float | None) -> str:
    """A raw value of a record."""
    return NONE if value is None else f"{value:.4f}"


def sortable(value: float | None) -> float:
    """What a column sorts by."""
    return float("nan") if value is None else value
