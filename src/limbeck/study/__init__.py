"""Studies: comparisons of runs, their statistics and their verdicts."""

from __future__ import annotations

from .statistics import Interval, Row, Verdict, holm, mean_interval, paired_difference, summarise, verdict

__all__ = ["Interval", "Row", "Verdict", "holm", "mean_interval", "paired_difference", "summarise", "verdict"]
