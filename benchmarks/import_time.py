"""What `import limbeck` adds to `import torch`, and how long `limbeck --help` takes, in fresh processes.

    python benchmarks/import_time.py [--quick]

Pairs alternate between the two sides; the figures are medians over pairs. The goal of the first figure is
0.3 s more than torch alone, given as a ratio of this run; the second figure's ratio is to its goal of 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from statistics import median

ADDED_GOAL = 0.3
HELP_GOAL = 0.5

TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
HELP = "import sys; sys.argv = ['limbeck', '--help']; from limbeck.cli import main; sys.exit(main())"


def run(code: str) -> tuple[float, str]:
    """Wall seconds and output of a fresh interpreter that runs the code."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"this failed: {code}\n{done.stderr.strip()}")
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, below a minute")
    parser.add_argument("--threads", type=int, default=1, help="ignored: nothing is computed")
    pairs = 5 if parser.parse_args().quick else 15
    sides = {name: TIMED.format(name) for name in ("torch", "torch, limbeck")}
    for code in (*sides.values(), HELP):  # fills the file cache and the bytecode cache
        run(code)
    seconds: dict[str, list[float]] = {name: [] for name in (*sides, "help")}
    for pair in range(pairs):
        for name in sides if pair % 2 == 0 else reversed(sides):
            seconds[name].append(float(run(sides[name])[1]))
        seconds["help"].append(run(HELP)[0])
    torch_alone = median(seconds["torch"])
    added = median(b - a for a, b in zip(seconds["torch"], seconds["torch, limbeck"], strict=True))
    ratio = median(b / a for a, b in zip(seconds["torch"], seconds["torch, limbeck"], strict=True))
    helped = median(seconds["help"])

    print(f"{'import torch':24}{torch_alone:8.3f} s")
    print(f"{'import limbeck adds':24}{added:+8.3f} s   goal {ADDED_GOAL} s")
    print(f"{'limbeck --help':24}{helped:8.3f} s   goal {HELP_GOAL} s")
    figures = [
        ("import_time", ratio, 1 + ADDED_GOAL / torch_alone, added),
        ("help_time", helped / HELP_GOAL, 1.0, helped),
    ]
    for name, value, goal, plain in figures:
        figure = {"name": name, "ratio": round(value, 4), "goal": round(goal, 4), "better": "lower"}
        print(json.dumps({**figure, "pairs": pairs, "seconds": round(plain, 4)}))


if __name__ == "__main__":
    main()
