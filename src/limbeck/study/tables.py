"""A study's numbers as tables: on the terminal, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_text

COLUMNS = ("pair", "setting", "method", "seed", "kind", "status", "seconds", "steps", "epochs", "parameters")

SHARES = frozenset(
    {
        *("accuracy", "top5", "macro_recall", "ece", "confidence", "agreement", "hit_rate"),
        *("exact_match", "error_rate", "rouge_l", "acceptance_rate", "replaced_fraction"),
        *("miou", "miou_student", "miou_teacher", "miou_cam", "miou_fused_crf"),
    }
)
"""Metrics in [0, 1] that are shown in percent."""

MARKS = {"helped": "+", "hurt": "-", "no evidence": ""}


def write_csv(found: Mapping[str, Any], path: Path) -> None:
    """One line for each run: its place, its cost, and every test metric of the last and the best epoch."""
    metrics = sorted({name for row in found["rows"] for name in ((row["last"] or {}).get("test") or {})})
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    moments = ("last", "best")
    lines.writerow([*COLUMNS, *(f"{moment}_{name}" for moment in moments for name in metrics), "path"])
    for row in found["rows"]:
        values = [
            ((row[moment] or {}).get("test") or {}).get(name, "") for moment in moments for name in metrics
        ]
        lines.writerow([*(("" if row[c] is None else row[c]) for c in COLUMNS), *values, row["path"]])
    write_text(path, text.getvalue())


def write_tex(found: Mapping[str, Any], path: Path) -> None:
    """A booktabs table: methods down, groups across, mean ± half-interval; daggers where a baseline was beaten."""
    metric = next(iter(found["metrics"]))
    groups = [c for c in found["comparisons"] if c["metric"] == metric]
    lines = [
        f"% {found['name']}: test {metric}{' in percent' if metric in SHARES else ''}, last epoch, mean and half of "
        f"the {100 * found['level']:g} % interval over seeds.",
        *(
            f"% {_dagger(i)}: better than {base}, Holm-corrected over the methods of a column."
            for i, base in enumerate(found["baselines"])
        ),
        r"\begin{tabular}{l" + "r" * len(groups) + "}",
        r"\toprule",
        " & ".join(["method", *(_escape(g["group"]) for g in groups)]) + r" \\",
        r"\midrule",
    ]
    for method in found["axes"]["methods"]:
        cells = [_tex_cell(found, group, method, metric) for group in groups]
        lines.append(" & ".join([_escape(method), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    write_text(path, "\n".join(lines))


def _tex_cell(found: Mapping[str, Any], group: Mapping[str, Any], method: str, metric: str) -> str:
    row = next((m for m in group["methods"] if m["method"] == method), None)
    if row is None or row["mean"] is None:
        return "--"
    marks = "".join(
        _dagger(i)
        for i, base in enumerate(found["baselines"])
        if base in row["against"] and row["against"][base]["verdict"] == "helped"
    )
    return "$" + spread(row, metric, r" \pm ") + (f"^{{{marks}}}" if marks else "") + "$"


def _dagger(number: int) -> str:
    return (r"\dagger", r"\ddagger", r"\ast", r"\star")[number % 4]


def _escape(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), ("·", r"$\cdot$")):
        text = text.replace(plain, escaped)
    return "".join("\\" + c if c in "_&%#{}" else c for c in text)


def spread(row: Mapping[str, Any], metric: str, sign: str = " ± ") -> str:
    """``mean ± half-interval`` of a method, in percent where the metric is a share.

    Example:
        >>> spread({"mean": 0.92, "low": 0.91, "high": 0.93}, "accuracy")
        '92.00 ± 1.00'
    """
    if row["mean"] is None:
        return "–"
    scale, digits = (100, 2) if metric in SHARES else (1, 4)
    text = f"{scale * row['mean']:.{digits}f}"
    if row["low"] is None:
        return text
    return f"{text}{sign}{scale * (row['high'] - row['low']) / 2:.{digits}f}"


def difference(judged: Mapping[str, Any] | None, metric: str) -> str:
    """A verdict and the paired difference that it rests on.

    Example:
        >>> difference({"mean": 0.02, "low": 0.01, "high": 0.03, "verdict": "helped", "p_holm": 0.004}, "accuracy")
        'helped +2.00 (+1.00 to +3.00) p 0.004'
    """
    if judged is None:
        return "–"
    if judged["mean"] is None:
        return str(judged["verdict"])
    scale, digits = (100, 2) if metric in SHARES else (1, 4)
    text = f"{judged['verdict']} {scale * judged['mean']:+.{digits}f}"
    if judged["low"] is not None:
        text += f" ({scale * judged['low']:+.{digits}f} to {scale * judged['high']:+.{digits}f})"
    return text + (f" p {judged['p_holm']:.3g}" if judged["p_holm"] is not None else "")


def show(found: Mapping[str, Any]) -> None:
    """Print a table for every group and metric, and the ranking."""
    from ..cli.tables import table

    for group in found["comparisons"]:
        metric = group["metric"]
        unit = ", %" if metric in SHARES else ""
        base = [name for name in found["baselines"] if any(m["method"] == name for m in group["methods"])]
        rows = []
        for m in group["methods"]:
            judged = [m["against"].get(name) for name in base]
            gain = next((j for j in judged if j is not None), None)
            pace = "–"
            if gain is not None and gain["per_extra_second"] is not None:
                pace = f"{(100 if metric in SHARES else 1) * gain['per_extra_second']:+.3g}"
            rows.append(
                [
                    m["method"],
                    spread(m, metric),
                    str(m["n"]),
                    *(difference(j, metric) for j in judged),
                    f"{m['seconds']['mean']:.1f}",
                    pace,
                ]
            )
        columns = [
            "method",
            f"{metric}{unit}",
            "seeds",
            *(f"against {name}" for name in base),
            "seconds",
            f"per extra second against {base[0]}" if base else "per extra second",
        ]
        table(
            f"{group['group']}: test {metric}, last epoch, {100 * found['level']:g} % intervals",
            columns,
            rows,
        )
        print()
    if (ranks := found["ranking"]) is not None:
        table(
            f"Mean rank over {ranks['blocks']} groups x seeds (Friedman p {ranks['friedman']['p']:.3g}; ranks further "
            f"apart than {ranks['critical_distance']:.2f} differ)",
            ["method", "mean rank"],
            [[name, f"{rank:.2f}"] for name, rank in ranks["mean_rank"].items()],
        )
        print()
    print(
        "Verdicts are corrected for many comparisons (Holm, over the methods of a group for each baseline)."
    )
