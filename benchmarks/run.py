"""Run every benchmark, one after another, and write ``docs/results/benchmarks.md``.

python benchmarks/run.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("import_time", "losses", "step_overhead", "precision")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--quick", action="store_true", help="each in about a minute")
    words.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default 1)")
    given = words.parse_args()
    options = (["--quick"] if given.quick else []) + ["--threads", str(given.threads)]
    figures = []
    for name in NAMES:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *options], text=True, capture_output=True, check=False
        )
        print(done.stdout, flush=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        figures += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    path = HERE.parent / "docs" / "results" / "benchmarks.md"
    path.write_text(page(figures, " ".join(options)))
    missed = [f["name"] for f in figures if not met(f)]
    print(f"written: {path}; {len(figures) - len(missed)} of {len(figures)} goals met. {', '.join(missed)}")


def met(figure: dict[str, object]) -> bool:
    """Whether a figure reaches its goal."""
    ratio, goal = float(str(figure["ratio"])), float(str(figure["goal"]))
    return ratio <= goal if figure["better"] == "lower" else ratio >= goal


def page(figures: list[dict[str, object]], options: str) -> str:
    """The results as Markdown."""
    from limbeck.training.record import environment

    machine = environment()
    lines = [
        "# Benchmarks",
        "",
        "Ratios against a reference in the same run: medians of alternating pairs. One machine.",
        "",
        f"`python benchmarks/run.py {options}`, {date.today()}: {machine['cpu']}, PyTorch {machine['torch']}.",
        "",
        "| figure | ratio | goal | better | met | pairs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for f in figures:
        mark = "yes" if met(f) else "**no**"
        lines.append(f"| {f['name']} | {f['ratio']} | {f['goal']} | {f['better']} | {mark} | {f['pairs']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
