"""The report's pictures, one small panel each, so that a narrow window can stack them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..study.statistics import Interval
from .curves import Curves
from .records import Array
from .svg import HEAT, INK, LINE, MUTED, PAPER, SERIES, draw

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")


@dataclass(frozen=True)
class Style:
    """How one method looks in every picture: a colour that follows the page's mode, and a marker."""

    colour: str
    marker: str

    @staticmethod
    def of(index: int) -> Style:
        """The style of the index-th series."""
        return Style(SERIES[index % len(SERIES)], MARKERS[(index + index // len(SERIES)) % len(MARKERS)])


def learning(
    lines: Sequence[tuple[str, Style, Curves]], quantity: str, key: str, percent: bool = False
) -> str:
    """One quantity over steps: the mean over seeds bold, the seeds thin."""

    def paint(axes: Any) -> None:
        scale = 100 if percent else 1
        for number, (_, style, found) in enumerate(lines):
            for run in found.runs if len(found.runs) > 1 else ():
                axes.plot(found.steps, scale * run, color=style.colour, linewidth=0.7, alpha=0.35)
            every = max(1, len(found.steps) // 5)
            start = (number * every // max(1, len(lines))) if len(found.steps) > 5 else 0
            axes.plot(
                found.steps,
                scale * found.mean,
                color=style.colour,
                marker=style.marker,
                markersize=4,
                markevery=(start, every),
            )
        values = np.concatenate([found.runs[np.isfinite(found.runs)] for _, _, found in lines])
        if not percent and values.min() > 0 and values.max() > 30 * values.min():
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        axes.set_xlabel("steps")
        axes.margins(x=0.02)

    names = ", ".join(name for name, _, _ in lines)
    return draw(paint, f"{quantity} over training steps for {names}", key)


def differences(
    lines: Sequence[tuple[str, Style, Interval, Sequence[float]]], baseline: str, key: str
) -> str:
    """Gain in accuracy over a baseline: seeds as dots, mean and 95 % interval as a bar."""

    def paint(axes: Any) -> None:
        axes.axvline(0, color=INK, linewidth=1)
        for place, (name, style, interval, seeds) in enumerate(lines):
            y = -place
            left = axes.get_yaxis_transform()
            paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
            short = name if len(name) <= 44 else name[:43] + "…"
            text = axes.text(0.0, y + 0.32, short, transform=left, va="center", fontsize=10, bbox=paper)
            text.set_in_layout(False)
            axes.plot([100 * v for v in seeds], [y - 0.2] * len(seeds), "o", color=MUTED, markersize=3)
            if interval.n > 1:
                ends = [100 * interval.low, 100 * interval.high]
                axes.plot(ends, [y, y], color=style.colour, linewidth=2.4, solid_capstyle="butt", marker="|")
            axes.plot([100 * interval.mean], [y], marker=style.marker, color=style.colour, markersize=7)
        axes.set_ylim(-len(lines) + 0.55, 0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.set_xlabel(f"points of test accuracy over {baseline}")

    names = ", ".join(name for name, _, _, _ in lines)
    return draw(paint, f"Gain over {baseline} of {names}", key, (340, 62 + 44 * len(lines)))


def reliability(count: Array, confidence: Array, accuracy: Array, style: Style, name: str, key: str) -> str:
    """Accuracy against confidence in bins; the strip below shows how many predictions each bin has."""

    def paint(axes: Any) -> None:
        filled = count > 0
        edges = np.linspace(0, 1, len(count) + 1)
        share = 0.14 * count / max(1, count.max())
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(4, 3))
        axes.bar(edges[:-1], share, 1 / len(count), bottom=-0.17, align="edge", color=MUTED, alpha=0.55)
        x, y = confidence[filled], accuracy[filled]
        axes.vlines(x, x, y, color=style.colour, linewidth=1, alpha=0.6)
        sizes = 8 + 60 * count[filled] / max(1, count.max())
        axes.scatter(x, y, s=sizes, color=style.colour, marker=style.marker, zorder=3, linewidths=0)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.18, 1.03), xlabel="confidence", ylabel="accuracy")
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_aspect("equal")

    return draw(paint, f"Reliability diagram of {name}", key, (300, 300))


def heat(
    values: Array,
    top: float,
    classes: Sequence[str],
    name: str,
    axis: tuple[str, str],
    key: str,
    power: float = 1.0,
    show: Callable[[float], str] | None = None,
) -> str:
    """A square of numbers: opacity grows from 0 to ``top``; NaN is left blank, a slash marks it.

    Args:
        values: ``(K, K)``.
        top: the value drawn in full colour, the same for all panels that are compared.
        classes: names of the K classes; written where they fit.
        name: what the panel shows.
        axis: names of the columns' and of the rows' axis.
        key: prefix of every id.
        power: opacity is ``(value / top) ** power``; below 1 small values show more.
        show: writes a number into a cell; None writes none.
    """

    def paint(axes: Any) -> None:
        size = len(values)
        known = np.nan_to_num(values) / (top or 1)
        image = np.empty((size, size, 4))
        image[..., :3] = HEAT
        image[..., 3] = 0.8 * np.clip(known, 0, 1) ** power
        axes.imshow(image, interpolation="none")
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(True)
        few = size <= 12
        for i in range(size) if few else ():
            for j in range(size):
                if math.isnan(values[i, j]):
                    axes.plot([j - 0.3, j + 0.3], [i + 0.3, i - 0.3], color=LINE, linewidth=0.8)
                elif show is not None and (text := show(values[i, j])):
                    axes.text(j, i, text, ha="center", va="center", fontsize=7.5 if size > 8 else 9)
        if size <= 24:
            known_names = classes if len(classes) == size else [str(i) for i in range(size)]
            names = [c if len(c) <= 10 else c[:9] + "…" for c in known_names]
            turned = 0 if max(map(len, names), default=0) <= 2 else 90
            axes.set_xticks(range(size), names, rotation=turned, fontsize=8)
            axes.set_yticks(range(size), names, fontsize=8)
        axes.tick_params(length=0)
        axes.set(xlabel=axis[0], ylabel=axis[1])

    return draw(paint, name, key, (300, 300))


def cost(points: Sequence[tuple[str, str, str, Interval, Interval]], what: str, key: str) -> str:
    """Accuracy with its interval against one cost, logarithmic when costs differ much.

    Args:
        points: (name, colour, marker, cost, accuracy) each.
        what: the cost's name and unit.
        key: prefix of every id.
    """

    def paint(axes: Any) -> None:
        costs = [cost.mean for _, _, _, cost, _ in points]
        log = max(costs) > 5 * min(costs)
        places = _apart([math.log(value) if log else value for value in costs])
        for place, (_, colour, marker, _, accuracy) in zip(places, points):
            x = math.exp(place) if log else place
            if accuracy.n > 1:
                axes.plot([x, x], [100 * accuracy.low, 100 * accuracy.high], color=colour, linewidth=1.4)
            axes.plot([x], [100 * accuracy.mean], marker=marker, color=colour, markersize=7, linestyle="")
        axes.margins(x=0.12, y=0.1)
        if log:
            axes.set_xscale("log")
            plain_log(axes.xaxis)
        axes.set_ylabel("test accuracy, %")

    return draw(paint, f"Test accuracy against {what}", key)


def _apart(places: list[float]) -> list[float]:
    """Move points that would lie on each other a little to the sides."""
    span = max(places) - min(places) or 1.0
    found = []
    for number, place in enumerate(places):
        close = [i for i, other in enumerate(places) if abs(other - place) <= 0.02 * span]
        found.append(place + (close.index(number) - (len(close) - 1) / 2) * 0.024 * span)
    return found


def plain_log(axis: Any) -> None:
    """Few plain numbers on a logarithmic axis, without exponents in superscript."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from .text import count, significant

    def write(value: float, _: object = None) -> str:
        if value >= 1000:
            return count(value).replace(".0 ", " ")
        text = significant(value)
        return text.rstrip("0").rstrip(".") if "." in text else text

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(write))
    axis.set_minor_formatter(NullFormatter())
