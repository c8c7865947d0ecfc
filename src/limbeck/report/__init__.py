"""Reports: read run records, compare methods, write one HTML page."""

from __future__ import annotations

from .page import render, write
from .records import Record, read, read_all
from .rows import Row, comparison
from .text import COLUMNS, Cell, Column, Sentence, cell, sentence

__all__ = [
    "COLUMNS",
    "Cell",
    "Column",
    "Record",
    "Row",
    "Sentence",
    "cell",
    "comparison",
    "read",
    "read_all",
    "render",
    "sentence",
    "write",
]
