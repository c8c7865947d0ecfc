"""The final table and the verdicts, with the same numbers as the report."""

from __future__ import annotations

from collections.abc import Sequence

from ..report import Record, comparison
from ..report.text import COLUMNS, NONE, cell, changed, sentence
from .tables import table


def show(records: Sequence[Record]) -> None:
    """Print one row per method and one plain verdict per method."""
    rows = comparison(records)
    columns = [c for c in COLUMNS if any(cell(row, c.key).text != NONE for row in rows)]
    lines = [[row.title, *(cell(row, column.key).text for column in columns)] for row in rows]
    print()
    for phrase in dict.fromkeys(phrase for r in records if r.finished for phrase in changed(r.run.changes)):
        print(f"Training data: {phrase}.")
    table(
        "Test split, last epoch, mean ± half of the 95 % interval over seeds",
        ["method", *(column.title for column in columns)],
        lines,
    )
    print()
    for row in rows:
        if row.role == "student" and row.label != "scratch":
            print(sentence(row))
