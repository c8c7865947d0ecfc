"""A picture that is drawn twice: into the page, whose colours it takes, and as PNG for documents."""

from __future__ import annotations

import warnings
from collections.abc import Callable
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


@dataclass(frozen=True)
class Picture:
    """One pair of axes.

    Attributes:
        title: a heading for the page, and above the PNG.
        label: what it shows, for people who do not see it.
        paint: called with the axes and the colours.
        size: width and height in CSS pixels before scaling.
        caption: how to read it.
        name: file name of the PNG, without its ending.
    """

    title: str
    label: str
    paint: Callable[[Any, Palette], object]
    size: tuple[int, int] = (340, 240)
    caption: str = ""
    name: str = ""

    def svg(self, key: str) -> str:
        """Markup for the page; ``key`` is the prefix of every id."""
        return svg.draw(lambda axes: self.paint(axes, PAGE), self.label, key, self.size)

    def png(self, path: Path) -> Path:
        """Write it on white, at twice the size."""
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        real = {getattr(PAGE, name): getattr(PRINT, name) for name in ("ink", "muted", "line", "paper")}
        style: Any = {
            key: real.get(value, value) if isinstance(value, str) else value
            for key, value in svg.STYLE.items()
        }
        with matplotlib.rc_context(style), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"(?s).*Glyph .* missing")
            size = (self.size[0] / 72, (self.size[1] + 24) / 72)
            figure = Figure(figsize=size, layout="constrained", facecolor=PRINT.paper)
            axes = figure.add_subplot(facecolor="none")
            self.paint(axes, PRINT)
            figure.suptitle(self.title, fontsize=10, fontweight="bold", wrap=True)
            canvas: Any = FigureCanvasAgg(figure)
            write_atomic(
                path,
                lambda file: canvas.print_png(
                    file, pil_kwargs={"optimize": True}, metadata={"Software": None}
                ),
            )
        return path
