"""The pictures of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...study.statistics import Interval
from ..picture import Palette, Picture
from ..plots import MARKERS, plain_log
from ..records import Array
from ..svg import HEAT
from .axes import logarithmic
from .words import signed

WIDTH = 380
FALL = (0.80, 0.36, 0.05)
"""The other end of a scale that has a middle: orange reads on light and on dark paper."""


class Bar(NamedTuple):
    """One line of a forest: a name, its interval, a verdict and the values of seeds."""

    name: str
    interval: Interval
    verdict: str = ""
    seeds: tuple[float, ...] = ()


class Line(NamedTuple):
    """One curve with its intervals; a flat one is a reference that has no place on the axis."""

    name: str
    points: tuple[tuple[float, Interval], ...]
    flat: bool = False


def short(name: str, most: int = 28) -> str:
    """A name that leaves room for the picture."""
    return name if len(name) <= most else name[: most - 1] + "…"


def ranking(ranks: Mapping[str, float], distance: float, axis: str, title: str, caption: str) -> Picture:
    """Mean ranks with half of the critical distance to each side: methods differ where bars do not meet."""

    def paint(axes: Any, p: Palette) -> None:
        best = min(ranks.values())
        axes.axvspan(best, best + distance, color=p.series[1], alpha=0.13, linewidth=0)
        for y, rank in enumerate(ranks.values()):
            near = rank <= best + distance
            colour = p.series[1] if near else p.muted
            axes.plot([rank - distance / 2, rank + distance / 2], [y, y], color=colour, linewidth=2.2)
            axes.plot([rank], [y], "o", color=colour, markersize=6)
        _names(axes, list(ranks))
        axes.set_xlabel(axis)

    return Picture(title, f"{title}: {', '.join(ranks)}", paint, _tall(len(ranks)), caption)


def forest(bars: Sequence[Bar], unit: str, title: str, caption: str) -> Picture:
    """Differences with intervals and seeds, the colour says the verdict."""

    def paint(axes: Any, p: Palette) -> None:
        axes.axvline(0, color=p.ink, linewidth=1)
        for y, bar in enumerate(bars):
            colour = p.of(bar.verdict)
            axes.plot(bar.seeds, [y + 0.28] * len(bar.seeds), "o", color=p.muted, markersize=2.2, alpha=0.8)
            if bar.interval.n > 1 and math.isfinite(bar.interval.low):
                axes.plot([bar.interval.low, bar.interval.high], [y, y], color=colour, linewidth=2.2)
            axes.plot([bar.interval.mean], [y], "o", color=colour, markersize=6)
        _names(axes, [bar.name for bar in bars])
        axes.set_xlabel(unit)

    label = f"{title}: {', '.join(bar.name for bar in bars)}"
    return Picture(title, label, paint, _tall(len(bars)), caption)


def curves(lines: Sequence[Line], x: str, y: str, title: str) -> Picture:
    """Means over seeds along an axis, one line per method, with bands of the intervals."""
    values = [point[0] for line in lines for point in line.points if not line.flat]

    def paint(axes: Any, p: Palette) -> None:
        log = logarithmic(values)
        for place, line in enumerate(lines):
            colour, marker = p.series[place % len(p.series)], MARKERS[place % len(MARKERS)]
            at = [min(values), max(values)] if line.flat else [v for v, _ in line.points]
            found = [i for _, i in line.points] * (2 if line.flat else 1)
            mean = [i.mean for i in found]
            if all(math.isfinite(i.low) for i in found):
                axes.fill_between(
                    at, [i.low for i in found], [i.high for i in found], color=colour, alpha=0.12, linewidth=0
                )
            if line.flat:
                axes.plot(at, mean, color=colour, linewidth=1.2, dashes=(4, 3), label=short(line.name))
            else:
                axes.plot(at, mean, color=colour, marker=marker, markersize=5, label=short(line.name))
        if log:
            axes.set_xscale("log")
        if len(set(values)) <= 8:
            ticks = sorted(set(values))
            axes.set_xticks(ticks, [f"{v:g}" for v in ticks])
            axes.minorticks_off()
        elif log:
            plain_log(axes.xaxis)
        axes.set(xlabel=x, ylabel=y)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8)

    label = f"{title}: {y} against {x} for {', '.join(line.name for line in lines)}"
    return Picture(title, label, paint, (WIDTH, 240 + 14 * math.ceil(len(lines) / 2)))


def front(points: Sequence[tuple[str, float, Interval]], x: str, y: str, higher: bool, title: str) -> Picture:
    """A metric against a cost; methods that no cheaper one beats are joined and numbered."""
    best: list[str] = []
    ordered = sorted(points, key=lambda p: (p[1], -p[2].mean if higher else p[2].mean))
    reached = -math.inf
    for method, _, value in ordered:
        worth = value.mean if higher else -value.mean
        if worth > reached:
            reached = worth
            best.append(method)

    def paint(axes: Any, p: Palette) -> None:
        for method, cost, value in ordered:
            colour = p.series[1] if method in best else p.muted
            if math.isfinite(value.low):
                axes.plot([cost, cost], [value.low, value.high], color=colour, linewidth=1.2, alpha=0.8)
            axes.plot([cost], [value.mean], "o", color=colour, markersize=6 if method in best else 4)
        line = [(cost, value.mean) for method, cost, value in ordered if method in best]
        axes.plot(*zip(*line, strict=True), color=p.series[1], linewidth=1, dashes=(3, 2))
        for place, (cost, mean) in enumerate(line, 1):
            axes.annotate(f"{place}", (cost, mean), (5, 5), textcoords="offset points", fontsize=9)
        costs = [cost for _, cost, _ in ordered]
        axes.margins(x=0.16, y=0.12)
        if min(costs) > 0 and max(costs) > 5 * min(costs):
            axes.set_xscale("log")
            plain_log(axes.xaxis)
        axes.set(xlabel=x, ylabel=y)

    named = ", ".join(f"{place} {method}" for place, method in enumerate(best, 1))
    caption = f"Blue: no method that costs less does better, by the means: {named}."
    return Picture(title, f"{title}: {y} against {x}. {caption}", paint, (WIDTH, 260), caption)


def changes(
    values: Array,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    unit: str,
    caption: str = "",
) -> Picture:
    """Differences as a table of colours: blue is more, orange is less, the opacity how much.

    Args:
        values: ``(rows, columns)`` in points; NaN is left blank.
    """
    top = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    few = len(columns) <= 12

    def paint(axes: Any, p: Palette) -> None:
        known = np.nan_to_num(values)
        image = np.empty((*values.shape, 4))
        image[..., :3] = np.where(known[..., None] >= 0, HEAT, FALL)
        image[..., 3] = 0.85 * (np.abs(known) / top) ** 0.7
        axes.imshow(image, interpolation="none", aspect="auto")
        axes.grid(False)
        for i, j in np.ndindex(values.shape) if few else ():
            if math.isfinite(values[i, j]):
                axes.text(j, i, signed(float(values[i, j]), 0), ha="center", va="center", fontsize=7)
        axes.set_yticks(range(len(rows)), [short(r) for r in rows], fontsize=8)
        if len(columns) <= 40:
            axes.set_xticks(range(len(columns)), [short(c, 14) for c in columns], fontsize=7 if few else 6)
            axes.tick_params(axis="x", rotation=0 if max(map(len, columns)) <= 2 else 90)
        axes.tick_params(length=0)
        axes.set_xlabel(f"{unit}; the strongest colour is {top:.3g}")

    label = f"{title}: {', '.join(rows)}"
    return Picture(title, label, paint, (WIDTH, 90 + 17 * len(rows)), caption)


def _tall(lines: int) -> tuple[int, int]:
    return WIDTH, 52 + 19 * lines


def _names(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=8.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=axes.xaxis.label.get_color())
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
