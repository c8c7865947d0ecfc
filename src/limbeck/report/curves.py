"""Learning curves of several runs on one grid of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .records import Array, number

Line = dict[str, Any]


@dataclass(frozen=True)
class Curves:
    """One quantity of one method over training.

    Attributes:
        steps: ``(points,)`` optimiser steps.
        runs: ``(runs, points)``, NaN before a run's first and after its last value.
        mean: ``(points,)`` over runs, NaN where any run has none.
        window: logged values averaged into one point; 1 when nothing was averaged.
    """

    steps: Array
    runs: Array
    mean: Array
    window: int


def curves(runs: Sequence[Sequence[Line]], get: Callable[[Line], Any], points: int = 160) -> Curves | None:
    """Put one quantity of several runs on a common grid of at most ``points`` steps.

    Args:
        runs: metric lines of each run.
        get: takes the value from a line; anything but a finite number is left out.
        points: most points to draw; more are averaged in windows of neighbouring steps.

    Returns:
        None when no run has a finite value.

    Example:
        >>> lines = [{"step": step, "loss": float(step)} for step in range(4)]
        >>> found = curves([lines, lines[:2]], lambda line: line["loss"], points=2)
        >>> found.steps.tolist(), found.mean.tolist(), found.window
        ([0.5, 2.5], [0.5, nan], 2)
    """
    logged = [[(line["step"], v) for line in run if (v := number(get(line))) is not None] for run in runs]
    steps = np.unique([step for run in logged for step, _ in run])
    if len(steps) == 0:
        return None
    window = math.ceil(len(steps) / points)
    owner = np.arange(len(steps)) // window
    centres = np.bincount(owner, steps) / np.bincount(owner)
    grid = np.full((len(runs), len(centres)), math.nan)
    for row, run in zip(grid, logged):
        if not run:
            continue
        where = owner[np.searchsorted(steps, [step for step, _ in run])]
        filled = np.bincount(where, minlength=len(row))
        means = np.bincount(where, [v for _, v in run], len(row))[filled > 0] / filled[filled > 0]
        row[:] = np.interp(centres, centres[filled > 0], means, left=math.nan, right=math.nan)
    return Curves(centres, grid, grid.mean(axis=0), window)


def terms(runs: Sequence[Sequence[Line]]) -> list[str]:
    """Names of the terms that any line logs, in order of appearance."""
    return list(dict.fromkeys(name for lines in runs for line in lines for name in line.get("terms") or {}))
