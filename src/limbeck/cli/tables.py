"""What the commands print: tables on a terminal, the same tables in plain characters elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runs import Run
    from ..training.guards import Guard


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: int = 1) -> None:
    """Print a table; columns from ``right`` on are right-aligned.

    Example:
        >>> table("Runs", ["name", "accuracy"], [["kd", "97.0"]])
        Runs
        name  accuracy
        kd        97.0
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        shown = Table(title=escape(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for i, column in enumerate(columns):
            shown.add_column(escape(column), justify="left" if i < right else "right")
        for row in rows:
            shown.add_row(*map(escape, row))
        Console().print(shown)
        return
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows)]
    print(title)
    for row in [columns, *rows]:
        cells = [
            c.ljust(w) if i < right else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def guards(found: Sequence[Guard]) -> None:
    """Print the guards' findings."""
    marks = {True: "ok", False: "FAULT", None: "-"}
    table(
        "Before the start", ["", "guard", "found"], [[marks[g.ok], g.name, g.detail] for g in found], right=3
    )


def scores(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print metrics, one column per set of scores."""
    keys = [key for key in SHOWN if any(key in values for values in rows.values())]
    lines = [[SHOWN[k][0], *(SHOWN[k][1](v[k]) if k in v else "" for v in rows.values())] for k in keys]
    table(title, ["", *rows], lines)


def results(run: Run) -> None:
    """Print a finished run's results and where its files are."""
    found = run.results
    columns = {"test, last epoch": found["last"]["test"], "test, best epoch": found["best"]["test"]}
    if found.get("teacher"):
        columns["teacher"] = found["teacher"]["test"]
    scores(f"{run.info['name']}: {run.info['label']} on {run.info['data']}", columns)
    if run.info["reconstructed"]:
        print(f"{run.info['label']} here is a reconstruction: the paper's formula could not be had.")
    print(f"student: {run.path / 'student.safetensors'}")
    print(f"report:  limbeck report {run.path}")


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.2f} %"


def _plain(value: float) -> str:
    return f"{value:.4f}"


SHOWN: dict[str, tuple[str, Any]] = {
    "miou": ("mIoU", percent),
    "miou_fused_crf": ("mIoU after a random field", percent),
    "miou_student": ("mIoU of the student head", percent),
    "miou_teacher": ("mIoU of the second teacher", percent),
    "miou_cam": ("mIoU of activation maps", percent),
    "ccc": ("mean CCC", _plain),
    "pearson": ("mean Pearson correlation", _plain),
    "rmse": ("RMSE (standardised)", _plain),
    "accuracy": ("accuracy", percent),
    "top5": ("top-5 accuracy", percent),
    "macro_recall": ("mean recall of classes", percent),
    "nll": ("NLL (nats)", _plain),
    "perplexity": ("perplexity", _plain),
    "exact_match": ("exact match of responses", percent),
    "error_rate": ("word error rate of responses", percent),
    "rouge_l": ("Rouge-L of responses", percent),
    "brier": ("Brier score", _plain),
    "ece": ("ECE, 15 bins", percent),
    "entropy": ("mean entropy (nats)", _plain),
    "confidence": ("mean confidence", percent),
    "agreement": ("agreement with teacher", percent),
    "teacher_kl": ("KL from teacher (nats)", _plain),
    "class_orthogonality": ("mean class-column cosine", _plain),
}
"""Metric key -> heading and format, in the order shown."""
