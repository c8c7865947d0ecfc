"""A picture that is drawn twice: into the page, whose colours it takes, and as PNG for documents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_atomic
from . import svg


@dataclass(frozen=True)
class Palette:
    """Colours by their use."""

    ink: str = svg.INK
    muted: str = svg.MUTED
    line: str = svg.LINE
    paper: str = svg.PAPER
    good: str = svg.GOOD
    bad: str = svg.BAD
    series: tuple[str, ...] = svg.SERIES

    def of(self, verdict: str) -> str:
        """The colour of a verdict."""
        known = {"helped": self.good, "hurt": self.bad, "higher": self.series[1], "lower": self.series[2]}
        return known.get(verdict, self.muted)


PAGE = Palette()
PRINT = Palette(
    "#16191d",
    "#565d66",
    "#d5d9de",
    "#ffffff",
    "#0b6b46",
    "#b3261e",
    ("#5f6873", "#1f6fb4", "#c24a06", "#0a7d5c", "#8a4aa6", "#8f6400", "#c12f5d", "#007f8f"),
)
"""The page's colours on white."""


TITLE = 26
"""Height of a heading in a PNG, in CSS pixels."""


@dataclass(frozen=True)
class Picture:
    """One pair of axes.

    Attributes:
        title: a heading for the page, and in the PNG.
        label: what it shows, for people who do not see it.
        paint: called with the axes and the colours.
        size: width and height in CSS pixels before scaling.
        caption: how to read it.
    """

    title: str
    label: str
    paint: Callable[[Any, Palette], object]
    size: tuple[int, int] = (340, 240)
    caption: str = ""

    def svg(self, key: str) -> str:
        """Markup for the page; ``key`` is the prefix of every id."""
        return svg.draw(lambda axes: self.paint(axes, PAGE), self.label, key, self.size)


def png(pictures: Sequence[Picture], path: Path, columns: int = 2) -> Path:
    """Write pictures side by side on white, at twice the size."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    real = {getattr(PAGE, name): getattr(PRINT, name) for name in ("ink", "muted", "line", "paper")}
    style: Any = {k: real.get(v, v) if isinstance(v, str) else v for k, v in svg.STYLE.items()}
    columns = min(columns, len(pictures))
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(picture.size[1] for picture in row) + TITLE for row in rows]
    width = columns * max(picture.size[0] for picture in pictures)
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*Glyph .* missing")
        size = (width / 72, sum(heights) / 72)
        figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor=PRINT.paper)
        grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
        for i, row in enumerate(rows):
            for j, picture in enumerate(row):
                axes = figure.add_subplot(grid[i, j], facecolor="none")
                picture.paint(axes, PRINT)
                axes.set_title(picture.title, fontsize=9.5, fontweight="bold", color=PRINT.ink)
        canvas: Any = FigureCanvasAgg(figure)
        write_atomic(path, lambda file: canvas.print_png(file, metadata={"Software": None}))
    return path
