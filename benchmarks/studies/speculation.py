"""What K and gamma of speculative KD do, from the finished study language-speculative, as one picture.

python benchmarks/studies/speculation.py runs/language-speculative docs/images/language-speculative.png
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PANELS = {
    "acceptance_rate": ("drafted tokens accepted, %", 100),
    "replaced_fraction": ("tokens replaced, %", 100),
    "tokens_per_pass": ("tokens per pass of the teacher", 1),
    "processor_seconds": ("processor seconds of training", 1),
}
AXES = {"top_k": "K of the teacher's likeliest (gamma 5)", "gamma": "gamma (K 25)"}


def points(study: dict[str, Any], metric: str, axis: str) -> list[tuple[float, float, float]]:
    """Value of K or gamma, mean, and half of the 95 % interval; the point that both sweeps share is in both."""
    (group,) = (c for c in study["comparisons"] if c["metric"] == metric)
    found = {}
    for row in group["methods"]:
        name, number = row["method"].split("=")[0], row["method"].rpartition("=")[2]
        if row["mean"] is None or (metric == "tokens_per_pass" and row["mean"] > 100):
            continue  # K is the whole vocabulary: the teacher never looks
        value = float(number)
        if axis in name or (axis == "gamma" and "top_k" in name and value == 25):
            found[5.0 if axis not in name else value] = (row["mean"], (row["high"] - row["low"]) / 2)
    return [(x, *found[x]) for x in sorted(found)]


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    study = json.loads((given.study / "study.json").read_text())
    figure, grid = plt.subplots(2, 4, figsize=(13, 5.4), sharey="col", layout="constrained")
    for row, (axis, label) in zip(grid, AXES.items()):
        for place, (metric, (title, scale)) in zip(row, PANELS.items()):
            x, mean, half = zip(*points(study, metric, axis))
            place.errorbar(
                range(len(x)), [scale * m for m in mean], [scale * h for h in half], fmt="o-", capsize=3
            )
            place.set_xticks(range(len(x)), [f"{value:g}" for value in x])
            place.set(xlabel=label, ylabel=title)
            place.grid(alpha=0.3)
    figure.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
