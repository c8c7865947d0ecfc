"""What a study's students are worth beside clean accuracy: corruptions, PGD, and a linear probe on other data.

    python benchmarks/studies/beyond_accuracy.py runs/beyond-compression --setting clean [--probe fashion-mnist]

Writes ``robustness.json`` and ``probe-<data>.json`` into each run folder, where they are found again after a stop,
and ``beyond_accuracy.json`` with means, 95 % intervals and Holm-corrected verdicts against ``scratch`` into the
study's.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from limbeck.config import load_yaml
from limbeck.data import DataConfig, load
from limbeck.evaluation import linear_probe, robustness
from limbeck.files import write_json
from limbeck.runs import Run
from limbeck.study.statistics import holm, summarise

EPSILONS = (2 / 255, 4 / 255, 8 / 255)
IMAGES = 300


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What lies there, or what is made now and left there."""
    if not path.is_file():
        write_json(path, {"checkpoint": "last", **make()})
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--setting", required=True)
    parser.add_argument("--probe", default="fashion-mnist")
    options = parser.parse_args()
    study = json.loads((options.study / "study.json").read_text())
    other = load(DataConfig(**load_yaml(f"{{name: {options.probe}, validation: 1000, train_size: 2000}}")))
    figures: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    rows = [r for r in study["rows"] if r["kind"] == "student" and r["setting"] == options.setting]
    for row in rows:
        run = Run(options.study / row["path"])
        robust = kept(
            run.path / "robustness.json",
            partial(robustness, run, images=IMAGES, epsilons=EPSILONS),
        )
        probe = kept(
            run.path / f"probe-{options.probe}.json",
            partial(linear_probe, run, other),
        )
        values = {"clean": robust["clean"], "corrupted": robust["corrupted"], "probe": probe["accuracy"]}
        values |= {f"PGD {255 * r['epsilon']:.0f}/255": r["accuracy"] for r in robust["pgd"]}
        values["ECE"] = row["last"]["test"]["ece"]
        for figure, value in values.items():
            figures[figure][row["method"]][row["seed"]] = value
        print(row["method"], row["seed"], {k: round(v, 3) for k, v in values.items()}, flush=True)
    result = {figure: _compared(groups, figure != "ECE") for figure, groups in figures.items()}
    write_json(options.study / "beyond_accuracy.json", {"setting": options.setting, "figures": result})
    for figure, methods in result.items():
        print(f"\n{figure}")
        for method, row in methods.items():
            print(
                f"  {method:<16} {row['mean']:.4f} ({row['low']:.4f} to {row['high']:.4f}) {row['verdict']}"
            )


def _compared(groups: dict[str, dict[int, float]], higher: bool) -> dict[str, Any]:
    """Mean, interval and corrected verdict of each method."""
    rows = summarise(groups, baselines=("scratch",), higher_is_better=higher)
    corrected = holm({r.label: r.verdicts["scratch"].p for r in rows if "scratch" in r.verdicts})
    return {
        r.label: {
            "mean": r.interval.mean,
            "low": r.interval.low,
            "high": r.interval.high,
            "p_holm": corrected.get(r.label),
            "verdict": (r.verdicts["scratch"].text if corrected.get(r.label, 1.0) < 0.05 else "no evidence")
            if r.label in corrected
            else "baseline",
        }
        for r in rows
    }


if __name__ == "__main__":
    main()
