"""Studies: comparisons of runs, their statistics and their verdicts."""

from __future__ import annotations

from .statistics import Interval, Verdict, mean_interval, paired_difference, verdict

__all__ = ["Interval", "Verdict", "mean_interval", "paired_difference", "verdict"]
