"""What each loss costs as batches and classes grow: time and memory of forward and backward, as figures.

    python benchmarks/loss_cost.py [--threads N] [--only NAME ...] [--draw]

Beside Limbeck's loss (solid) stands the direct transcription of its formula (dashed), as in ``losses.py``. A line ends
where the next point would take about ``SECONDS`` or ``BYTES``. Writes ``docs/results/loss-cost.json`` and
``docs/images/loss-cost-*.png``; ``--draw`` only draws what is in the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from _pairs import parse, parser, peak_memory, seconds
from _transcribed import Pair, Size, step

from losses import PAIRS

DOCS = Path(__file__).parent.parent / "docs"
FILE = DOCS / "results" / "loss-cost.json"
SECONDS, BYTES, REPEATS = 4.0, 3 * 2**30, 3
LEFT_OUT = ("learned_temperature", "ofd_margin", "crd/memory", "crd/candidates", "low_confidence")
"""Not functions of a batch and a width."""
BATCHES, WIDTHS = (16, 64, 256, 1024), (10, 100, 1000, 10_000)
AXES: dict[str, Callable[[Pair], list[Size]]] = {
    "batch": lambda pair: [(n, *_widths(pair)[1]) for n in BATCHES],
    "width": lambda pair: [(64, *width) for width in _widths(pair)],
}
"""Axis -> the sizes along it."""


def _widths(pair: Pair) -> list[Size]:
    """Classes of logits, channels of maps, width of embeddings; the second one is used along batches."""
    if len(pair.sizes[-1]) == 4:
        return [(channels, 8, 8) for channels in (16, 64, 256, 512)]
    if pair.inputs.__module__ == "_logit_pairs" or pair.sizes[0] == (64, 100):
        return [(classes,) for classes in WIDTHS]
    return [(width,) for width in (32, 128, 512, 2048)]


def points(side: Callable[..., Any], pair: Pair, sizes: list[Size]) -> Iterator[dict[str, Any]]:
    """Time and peak memory at each size, as long as they are bearable."""
    found: list[dict[str, Any]] = []
    for size in sizes:
        if len(found) > 1 and any(
            found[-1][key] ** 2 / max(found[-2][key], 1e-9) > limit
            for key, limit in (("seconds", SECONDS), ("bytes", BYTES))
        ):
            return
        call = step(side, pair.inputs(size))
        call()
        once = seconds(call, 1)
        repeats = max(1, round(2e-3 / max(once, 1e-7)))
        times = [seconds(call, repeats) for _ in range(REPEATS)] if once < 0.5 else [once]
        found.append({"size": list(size), "seconds": median(times), "bytes": peak_memory(call)})
        yield found[-1]


def draw(costs: dict[str, Any]) -> None:
    """One picture for each axis and quantity, one panel for each loss."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in AXES:
        for key, unit, scale in (("seconds", "ms", 1e3), ("bytes", "MiB", 2**-20)):
            names = sorted(costs)
            rows = -(-len(names) // 6)
            figure = Figure(figsize=(15, 2.1 * rows), layout="constrained")
            for place, name in zip(figure.subplots(rows, 6).flat, names, strict=False):
                for side, style, label in (("ours", "-", "Limbeck"), ("reference", "--", "transcription")):
                    line = costs[name][axis][side]
                    x = [point["size"][0 if axis == "batch" else 1] for point in line]
                    place.loglog(x, [scale * point[key] for point in line], style, marker=".", label=label)
                for line in (place.xaxis, place.yaxis):
                    low, high = line.get_view_interval()
                    line.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
                    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                    line.set_minor_formatter(NullFormatter())
                place.set_title(name, fontsize=9)
                place.tick_params(labelsize=7)
                place.grid(alpha=0.3)
            for place in list(figure.axes)[len(names) :]:
                place.remove()
            figure.axes[0].legend(fontsize=7)
            along = "batch size" if axis == "batch" else "classes, channels or width"
            figure.supxlabel(along)
            figure.supylabel(unit)
            what = "time" if key == "seconds" else "memory"
            figure.savefig(DOCS / "images" / f"loss-cost-{what}-{axis}.png", dpi=70)


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--only", nargs="+", metavar="NAME", help="these losses")
    words.add_argument("--draw", action="store_true", help="measure nothing")
    given = parse(words)
    costs = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in () if given.draw else given.only or [name for name in PAIRS if name not in LEFT_OUT]:
        pair, costs[name] = PAIRS[name], {}
        for axis, sizes in AXES.items():
            costs[name][axis] = {
                side: list(points(getattr(pair, side), pair, sizes(pair))) for side in ("ours", "reference")
            }
        print(name, file=sys.stderr, flush=True)
        FILE.write_text(json.dumps(costs) + "\n")
    draw(costs)


if __name__ == "__main__":
    main()
