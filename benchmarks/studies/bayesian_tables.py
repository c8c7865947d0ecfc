"""Tables of a finished study of Bayesian teachers as Markdown: probabilities of teachers and of students.

    python benchmarks/studies/bayesian_tables.py runs/bayesian-digits

Means over seeds of test figures, ± half of a 95 % t interval for the student's accuracy; sd: its standard deviation
over seeds; moves: standard deviation of validation accuracy over the last 30 % of the epochs about their line, mean
over seeds. The last columns are paired differences of test accuracy with the verdict after Holm's correction. Behind
the table stands, over methods with a teacher, the rank correlation of its figures with the student's accuracy and NLL.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from limbeck.runs import Run

FIGURES = ("accuracy", "nll", "brier", "ece")


def moves(run: Run) -> float:
    """Standard deviation of late validation accuracy about its own line, in percent."""
    accuracy = np.array([row["accuracy"] for row in run.metrics("validation")])
    late = accuracy[-max(4, round(0.3 * len(accuracy))) :]
    time = np.arange(len(late))
    rest = late - np.polyval(np.polyfit(time, late, 1), time)
    return float(100 * np.sqrt((rest**2).sum() / (len(late) - 2)))


def shown(values: list[dict[str, Any]]) -> str:
    """Accuracy and ECE in percent, NLL and Brier as they are."""
    means = {name: float(np.mean([value[name] for value in values])) for name in FIGURES}
    return f"{100 * means['accuracy']:.1f} | {means['nll']:.3f} | {means['brier']:.3f} | {100 * means['ece']:.1f}"


def verdict(found: dict[str, Any] | None) -> str:
    """The paired difference of accuracy in points."""
    if found is None or found["mean"] is None:
        return "–"
    low, mean, high = (100 * found[key] for key in ("low", "mean", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f}) {found['verdict']}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    folder = parser.parse_args().study
    study = json.loads((folder / "study.json").read_text())
    baselines = study["baselines"]
    print("| teacher | accuracy | NLL | Brier | ECE | student: accuracy | sd | moves | NLL | Brier | ECE | "
          + " | ".join(f"against {b}" for b in baselines) + " |")  # fmt: skip
    print("| --- |" + " --- |" * (10 + len(baselines)))
    (comparison,) = [c for c in study["comparisons"] if c["metric"] == "accuracy"]
    seen: dict[str, list[float]] = {name: [] for name in FIGURES}
    students: dict[str, list[float]] = {"accuracy": [], "nll": []}
    for entry in comparison["methods"]:
        rows = [r for r in study["rows"] if r["kind"] == "student" and r["method"] == entry["method"]]
        runs = [Run(folder / row["path"]) for row in rows if row["status"] == "finished"]
        tests = [run.results["last"]["test"] for run in runs]
        teachers = [run.results["teacher"]["test"] for run in runs if run.results["teacher"]]
        accuracy = np.array([test["accuracy"] for test in tests])
        half = float("nan") if entry["low"] is None else 100 * (entry["high"] - entry["low"]) / 2
        student = shown(tests).split(" | ", 1)
        print(
            f"| {entry['method']} | {shown(teachers) if teachers else '– | – | – | –'} "
            f"| {student[0]} ± {half:.1f} | {100 * accuracy.std(ddof=1):.1f} | {np.mean([moves(r) for r in runs]):.2f} "
            f"| {student[1]} | " + " | ".join(verdict(entry["against"].get(b)) for b in baselines) + " |"
        )
        if teachers:
            for name, values in students.items():
                values.append(float(np.mean([test[name] for test in tests])))
            for name in FIGURES:
                seen[name].append(float(np.mean([teacher[name] for teacher in teachers])))
    for what, own in students.items():
        words = [f"{name} {stats.spearmanr(values, own).statistic:+.2f}" for name, values in seen.items()]
        print(f"\nRank correlation of the teacher's figures with the student's {what}: " + ", ".join(words))
    print(f"{sum(row['seconds'] for row in study['rows']):.0f} s of training, "
          f"{len([r for r in study['rows'] if r['status'] == 'finished'])} runs")  # fmt: skip


if __name__ == "__main__":
    main()
