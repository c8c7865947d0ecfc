"""Tables of a finished study as Markdown, for docs/results.

    python benchmarks/studies/markdown.py runs/confidence --metrics entropy confidence accuracy nll ece

One table for each pair and data setting: mean ± half of the 95 % interval over seeds, and for each baseline the paired
difference of the first metric with the verdict after Holm's correction. ``--overview`` prints one table of the first
metric instead: methods by mean rank, groups as columns, corrected verdicts where there is evidence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PERCENT = (
    *("accuracy", "ece", "confidence", "macro_recall", "top5", "agreement", "hit_rate"),
    *("exact_match", "error_rate", "rouge_l", "acceptance_rate", "replaced_fraction"),
    *("miou", "miou_student", "miou_teacher", "miou_cam", "miou_fused_crf"),
)
WHOLE = ("tokens",)
TENTHS = ("processor_seconds", "tokens_per_pass")


def number(metric: str, row: dict[str, Any] | None) -> str:
    """``mean ± half width`` in the metric's own unit; a dash where the metric was not measured."""
    if row is None or row["mean"] is None:
        return "–"
    scale, digits = (
        (100, 1) if metric in PERCENT else (1, 0 if metric in WHOLE else 1 if metric in TENTHS else 3)
    )
    half = "" if row["low"] is None else f" ± {scale * (row['high'] - row['low']) / 2:.{digits}f}"
    return f"{scale * row['mean']:.{digits}f}{half}"


def difference(metric: str, found: dict[str, Any] | None) -> str:
    """The paired difference, its interval and the corrected verdict."""
    if found is None or found["mean"] is None:
        return "–"
    scale, digits = (100, 1) if metric in PERCENT else (1, 3)
    low, high = (scale * found[end] for end in ("low", "high"))
    p = "" if found["p_holm"] is None else f", p {found['p_holm']:.2g}"
    return (
        f"{scale * found['mean']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}{p}) {found['verdict']}"
    )


def overview(study: dict[str, Any], groups: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """Lines of one table: methods by mean rank over groups and seeds, a column for each group."""
    ranking = study["ranking"]
    ranks = sorted(ranking["mean_rank"].items(), key=lambda item: item[1])
    lines = [
        "| method | mean rank | " + " | ".join(map(", ".join, groups)) + " |",
        "| --- |" + " --- |" * (1 + len(groups)),
    ]
    for method, rank in ranks:
        cells = []
        for group in groups.values():
            against = group[method]["against"].items()
            words = [
                f"{row['verdict']} against {b}" for b, row in against if row["verdict"] in ("helped", "hurt")
            ]
            cells.append("; ".join([number(ranking["metric"], group[method]), *words]))
        lines.append(f"| {method} | {rank:.1f} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--metrics", nargs="+", required=True)
    parser.add_argument("--overview", action="store_true")
    options = parser.parse_args()
    study = json.loads((options.study / "study.json").read_text())
    found = {
        (c["pair"], c["setting"], c["metric"]): {m["method"]: m for m in c["methods"]}
        for c in study["comparisons"]
    }
    first = options.metrics[0]
    if options.overview:
        print("\n".join(overview(study, {key[:2]: group for key, group in found.items() if key[2] == first})))
        return
    for pair, setting in dict.fromkeys((c["pair"], c["setting"]) for c in study["comparisons"]):
        groups = {metric: found[pair, setting, metric] for metric in options.metrics}
        baselines = [b for b in study["baselines"] if b in groups[first]]
        print(f"\n**{pair}, {setting}**\n")
        print(
            "| method | "
            + " | ".join([*options.metrics, *(f"{first} against {b}" for b in baselines)])
            + " |"
        )
        print("| --- |" + " --- |" * (len(options.metrics) + len(baselines)))
        for method, row in groups[first].items():
            cells = [number(m, groups[m].get(method)) for m in options.metrics]
            cells += [difference(first, row["against"].get(b)) for b in baselines]
            print(f"| {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
