"""Reports on studies: one page for a whole grid of runs, and its figures as PNG for documents."""

from __future__ import annotations

from .model import Study, is_study, read_study
from .page import render_study, write_study
from .png import write_figures

__all__ = ["Study", "is_study", "read_study", "render_study", "write_figures", "write_study"]
