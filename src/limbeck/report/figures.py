"""From the runs of one group to captioned figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import plots
from .curves import Curves, curves, terms
from .groups import Group, title
from .plots import Style
from .records import Array, Record, number
from .rows import Row
from .svg import INK
from .synthetic import picture, read_synthetic, told
from .text import counted


class Figure(NamedTuple):
    """A picture with its heading and caption."""

    svg: str
    title: str
    caption: str = ""


def generated(group: Group, key: str) -> list[Figure]:
    """Images that data-free runs made, of the first seed of each method."""
    found = []
    for place, label in enumerate(group.labels):
        record = group.of(label)[0]
        images = read_synthetic(record.path)
        if images and record.results is not None:
            caption = told(number(record.results.last.test.get("hit_rate")))
            drawn = picture(images, record.run.classes, title(label, [record]), caption)
            found.append(Figure(drawn.svg(f"{key}-generated{place}"), drawn.title, caption))
    return found


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """One look per method, the same in all pictures of a group; grey is kept for scratch."""
    others = [label for label in labels if label != "scratch"]
    return {"scratch": Style.of(0)} | {label: Style.of(i) for i, label in enumerate(others, 1)}


def gains(rows: Sequence[Row], baseline: str, looks: dict[str, Style], key: str) -> list[Figure]:
    """Gains in accuracy over one baseline, with the seeds behind them."""
    base = next((row for row in rows if row.label == baseline), None)
    lines = []
    for row in rows:
        found = row.verdicts.get(baseline)
        if base is None or found is None or found.n == 0 or row.label == "scratch":
            continue
        ours, theirs = _accuracies(row), _accuracies(base)
        pairs = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        lines.append((row.title, looks[row.label], found.interval, pairs))
    if not lines:
        return []
    name = {"scratch": "training from scratch", "kd": "KD"}[baseline]
    svg = plots.differences(lines, name, f"{key}-over-{baseline}")
    return [
        Figure(svg, f"Gain over {name}", "Small dots are seeds; the bar is the 95 % interval of their mean.")
    ]


def learning(group: Group, runs: Sequence[Record], looks: dict[str, Style], key: str) -> list[Figure]:
    """Training loss, validation accuracy and every raw term over steps."""
    found = [
        _learning(runs, looks, "Training loss", f"{key}-loss", lambda r: r.train,
                  lambda line: line.get("loss")),
        _learning(runs, looks, "Validation accuracy, %", f"{key}-validation", lambda r: r.validation,
                  lambda line: line.get("accuracy"), percent=True),
        _learning(runs, looks, "Validation mIoU, %", f"{key}-miou", lambda r: r.validation,
                  lambda line: line.get("miou"), percent=True),
        _learning(runs, looks, "Validation CCC", f"{key}-ccc", lambda r: r.validation,
                  lambda line: line.get("ccc")),
        _learning(runs, looks, "Requested class met, %", f"{key}-hits", lambda r: r.train,
                  lambda line: line.get("hit_rate"), percent=True),
    ]  # fmt: skip
    for place, term in enumerate(terms([run.train for run in runs])):
        name = f"Term {term}"
        found.append(_learning(runs, looks, name, f"{key}-term{place}", lambda r: r.train, _raw(term)))
    return [figure for figure in found if figure is not None]


def _raw(term: str) -> Callable[[dict[str, Any]], Any]:
    def get(line: dict[str, Any]) -> Any:
        value = (line.get("terms") or {}).get(term)
        return value.get("raw") if isinstance(value, dict) else None

    return get


def _learning(
    runs: Sequence[Record],
    looks: dict[str, Style],
    name: str,
    key: str,
    lines: Callable[[Record], Sequence[dict[str, Any]]],
    get: Callable[[dict[str, Any]], Any],
    percent: bool = False,
) -> Figure | None:
    drawn: list[tuple[str, Style, Curves]] = []
    for label in dict.fromkeys(run.run.label for run in runs):
        mine = [run for run in runs if run.run.label == label]
        result = curves([lines(run) for run in mine], get)
        if result is not None:
            drawn.append((title(label, mine), looks[label], result))
    if not drawn:
        return None
    window = max(result.window for _, _, result in drawn)
    bad = sum(get(line) is not None and number(get(line)) is None for run in runs for line in lines(run))
    caption = [f"Each point averages {window} logged steps."] if window > 1 else []
    caption += [f"Left out: {counted(bad, 'value')} not finite."] if bad else []
    return Figure(plots.learning(drawn, name, key, percent), name, " ".join(caption))


def calibration(group: Group, rows: Sequence[Row], looks: dict[str, Style], key: str) -> list[Figure]:
    """Reliability diagrams of the teacher and of every method, predictions of all seeds pooled."""
    panels = [("teacher_reliability", list(_taught(group)), _teacher_name(rows), Style(INK, "o"), "")]
    panels += [
        ("reliability", list(group.of(r.label)), r.title, looks[r.label], r.label) for r in rows if r.label
    ]
    found = []
    for place, (prefix, runs, name, look, label) in enumerate(panels):
        bins = _pool(runs, prefix)
        if bins is None:
            continue
        row = next((r for r in rows if r.label == label), None)
        ece = row.values.get("ece") if row else None
        caption = (
            f"ECE {100 * ece.mean:.1f} %" + (f", mean of {ece.n} seeds." if ece.n > 1 else ".") if ece else ""
        )
        svg = plots.reliability(*bins, look, name, f"{key}-reliability{place}")
        found.append(Figure(svg, name, caption))
    return found


def _pool(runs: Sequence[Record], prefix: str) -> tuple[Array, Array, Array] | None:
    names = [f"{prefix}_{part}" for part in ("count", "confidence", "accuracy")]
    parts = [
        [run.arrays[name] for name in names] for run in runs if all(name in run.arrays for name in names)
    ]
    parts = [part for part in parts if all(a.ndim == 1 and a.shape == parts[0][0].shape for a in part)]
    if not parts:
        return None
    count = np.sum([part[0] for part in parts], axis=0).astype(float)
    sums = [np.sum([np.nan_to_num(part[i]) * part[0] for part in parts], axis=0) for i in (1, 2)]
    confidence, accuracy = (total / np.maximum(count, 1) for total in sums)
    return count, confidence, accuracy


def fidelity(group: Group, rows: Sequence[Row], key: str) -> tuple[list[Figure], float]:
    """Which classes the student predicts where the teacher predicts another one; and the scale's top."""
    counts = {row.label: _sum(group.of(row.label), "teacher_student") for row in rows if row.label}
    panels = []
    for row in rows:
        matrix = counts.get(row.label)
        if matrix is not None:
            panels.append(
                (row.title, matrix, _blank(100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)))
            )
    top = _top([share for _, _, share in panels])
    found = []
    for place, (name, matrix, share) in enumerate(panels):
        label = f"Student against teacher predictions of {name}"
        axis = ("student predicts", "teacher predicts")
        svg = plots.heat(share, top, _classes(group), label, axis, f"{key}-fidelity{place}", 0.5, _whole)
        total, same = int(matrix.sum()), int(np.trace(matrix))
        caption = f"Same class in {same} of {total} predictions ({100 * same / max(1, total):.1f} %)."
        found.append(Figure(svg, name, caption))
    return found, top


def _whole(value: float) -> str:
    return f"{value:.0f}" if value >= 0.5 else ""


def columns(group: Group, rows: Sequence[Row], key: str) -> tuple[list[Figure], float]:
    """Cosines between the columns of the predicted probabilities: how alike two classes look; and the top."""
    panels = [(_teacher_name(rows), _mean(list(_taught(group)), "teacher_class_cosine"))]
    panels += [(row.title, _mean(group.of(row.label), "class_cosine")) for row in rows if row.label]
    known = [(name, _blank(matrix)) for name, matrix in panels if matrix is not None]
    known = [(name, matrix) for name, matrix in known if np.isfinite(matrix).any()]
    top = _top([matrix for _, matrix in known])
    found = []
    for place, (name, matrix) in enumerate(known):
        label = f"Class-column cosines of {name}"
        svg = plots.heat(matrix, top, _classes(group), label, ("class", "class"), f"{key}-cosine{place}")
        found.append(Figure(svg, name, f"Off-diagonal mean {np.nanmean(matrix):.3f}."))
    return found, top


def cost(rows: Sequence[Row], looks: dict[str, Style], key: str) -> list[Figure]:
    """Accuracy against parameters, latency and training time."""
    kinds = {
        "parameters": "Parameters",
        "latency_ms_1": "Latency of one image, ms",
        "seconds": "Training time, s",
    }
    found = []
    for name, what in kinds.items():
        points = [
            (row.title, looks[row.label].colour if row.label else INK, looks[row.label].marker if row.label else "*",
             row.values[name], row.values["accuracy"])
            for row in rows
            if name in row.values and "accuracy" in row.values and row.values[name].mean > 0
        ]  # fmt: skip
        if len(points) > 1:
            found.append(Figure(plots.cost(points, what, f"{key}-cost-{name}"), what))
    return found


def _accuracies(row: Row) -> dict[int, float]:
    found = {}
    for record in row.records:
        figures = None if record.results is None else getattr(record.results, row.moment)
        value = None if figures is None else number(figures.test.get(record.metric))
        if value is not None:
            found[record.run.seed] = value
    return found


def _taught(group: Group) -> tuple[Record, ...]:
    return tuple(student for _, student, _ in group.teachers)


def _teacher_name(rows: Sequence[Row]) -> str:
    return next((row.title for row in rows if row.role == "teacher"), "Teacher")


def _classes(group: Group) -> tuple[str, ...]:
    return group.counted[0].run.classes


def _square(runs: Sequence[Record], name: str) -> list[Array]:
    found = [run.arrays[name].astype(float) for run in runs if name in run.arrays]
    return [a for a in found if a.ndim == 2 and a.shape[0] == a.shape[1] and a.shape == found[0].shape]


def _sum(runs: Sequence[Record], name: str) -> Array | None:
    found = _square(runs, name)
    return np.sum(found, axis=0) if found else None


def _mean(runs: Sequence[Record], name: str) -> Array | None:
    found = _square(runs, name)
    return np.mean(found, axis=0) if found else None


def _blank(matrix: Array) -> Array:
    """The matrix with NaN on its diagonal."""
    return np.where(np.eye(len(matrix), dtype=bool), math.nan, matrix)


def _top(matrices: Sequence[Array]) -> float:
    return max((float(np.nanmax(m)) for m in matrices if np.isfinite(m).any()), default=0.0)
