"""Run benchmarks one after another, and write ``docs/results/benchmarks.md`` and ``.json``.

    python benchmarks/run.py [--quick] [--full] [--threads N] [--only NAME ...] [--rows NAME ...] [--note TEXT]

``--full`` adds the largest sizes of the losses, ``--only`` keeps what the file has of the others, ``--rows`` what it
has of a benchmark's other rows. The figures of ``loss_cost.py`` are drawn by that script.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "benchmarks.json"
NAMES = (
    "import_time",
    "losses",
    "chunked_loss",
    "lm_step",
    "speculative_sampling",
    "transport",
    "step_overhead",
    "precision",
    "vs_torchdistill",
)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--quick", action="store_true", help="each in a few minutes")
    words.add_argument("--full", action="store_true", help="the largest sizes of the losses too")
    words.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default 1)")
    words.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="these benchmarks")
    words.add_argument(
        "--rows", nargs="+", default=[], metavar="NAME", help="of a benchmark with many rows only these"
    )
    words.add_argument("--note", default="", help="a sentence on the machine, for the page")
    given = words.parse_args()
    options = (["--quick"] if given.quick else []) + ["--threads", str(given.threads)]
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in given.only:
        print(f"== {name}", flush=True)
        more = ["--full"] if given.full and name == "losses" else []
        rows = ["--only", *given.rows] if given.rows else []
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *options, *more, *rows],
            text=True,
            stdout=subprocess.PIPE,
            check=False,
        )
        print(done.stdout, flush=True)
        if done.returncode:
            raise SystemExit(f"{name} failed")
        figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
        known[name] = merged(known.get(name, {}).get("figures", []) if rows else [], figures) | {
            "options": " ".join([*options, *more]),
            "date": str(date.today()),
            "note": given.note,
            "machine": machine(),
        }
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(known))
    every = [figure for part in known.values() for figure in part["figures"]]
    missed = [figure["name"] for figure in every if not met(figure)]
    print(f"{len(every) - len(missed)} of {len(every)} goals met. {', '.join(missed)}")


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, Any]:
    """New figures in the place of old ones of the same name, further ones behind."""
    found = {figure["name"]: figure for figure in [*old, *new]}
    return {"figures": list(found.values())}


def met(figure: dict[str, Any]) -> bool:
    """Whether a figure reaches its goal."""
    ratio, goal = figure["ratio"], figure["goal"]
    return bool(ratio <= goal if figure["better"] == "lower" else ratio >= goal)


def machine() -> str:
    """Processor and PyTorch."""
    from limbeck.training.record import environment

    found = environment()
    return f"{found['cpu']}, PyTorch {found['torch']}"


def page(known: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Ratios against a reference in the same run: medians of alternating pairs on one machine. Time is processor",
        "time of the measuring process, not time on the wall, so that other work on the machine counts little.",
    ]
    for name in NAMES:
        if name not in known:
            continue
        part = known[name]
        lines += [
            "",
            f"## {name}",
            "",
            f"`python benchmarks/{name}.py {part['options']}`, {part['date']}; {part['machine']}.",
        ]
        lines += [part["note"]] if part.get("note") else []
        lines += [
            "",
            "| figure | ours | reference | unit | ratio | goal | better | met | pairs |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for f in part["figures"]:
            mark = "yes" if met(f) else "**no**"
            sides = f"{f.get('ours', '')} | {f.get('reference', '')} | {f.get('unit', '')}"
            words = f"{f['ratio']} | {f['goal']} | {f['better']} | {mark} | {f['pairs']}"
            lines.append(f"| {f['name'].removeprefix(name + '/')} | {sides} | {words} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
