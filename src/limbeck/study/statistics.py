"""Whether a difference between runs is more than chance: t intervals, paired over seeds, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..errors import DataError

Text = Literal["helped", "no evidence", "hurt"]


class Interval(NamedTuple):
    """A mean with its confidence interval; the ends are NaN when one value cannot give them."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:.4g} (one run)"
        return f"{self.mean:.4g} ± {(self.high - self.low) / 2:.2g}"


class Verdict(NamedTuple):
    """One plain word on a comparison, and what it rests on: interval of the paired differences, p, pairs."""

    text: Text
    interval: Interval
    p: float
    n: int
    reason: str


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent runs with Student's t interval.

    ``mean ± t_{(1 + level) / 2, n - 1} * s / sqrt(n)``, s the sample standard deviation (n - 1).

    Args:
        values: one finite number per run, in any unit; the interval has the same.
        level: coverage, in (0, 1).

    Returns:
        The interval; its ends are NaN for n = 1, and equal to the mean when all values are equal.

    Raises:
        DataError: no value, a value that is not finite, or a level outside (0, 1).

    Example:
        >>> str(mean_interval([0.90, 0.92, 0.94]))
        '0.92 ± 0.05'
    """
    numbers = _numbers(values, level)
    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = _error(numbers, mean) * _quantile(level, n)
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of the mean of ``a_i - b_i``: the two runs of a pair share their seed.

    Raises:
        DataError: unequal lengths, or as in `mean_interval`.

    Example:
        >>> paired_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
        Interval(mean=2.0, low=2.0, high=2.0, n=3)
    """
    return mean_interval(_differences(a, b), level)


def verdict(
    a: Sequence[float], b: Sequence[float], higher_is_better: bool = True, level: float = 0.95
) -> Verdict:
    """Did a do better than b? Values are paired by position (seed).

    "helped" if and only if the paired t interval of ``a - b`` excludes 0 in the good direction, "hurt" if
    it excludes 0 in the bad one, else "no evidence". Equal non-zero differences on every pair (zero
    variance) count as excluding 0; a single pair never does. p is two-sided (paired t test); NaN for one
    pair. Nothing is corrected for several comparisons.

    Raises:
        DataError: as in `paired_difference`.

    Example:
        >>> verdict([0.92, 0.93, 0.95], [0.90, 0.91, 0.92]).text
        'helped'
        >>> verdict([0.92], [0.90]).reason
        'a single pair of runs cannot tell'
    """
    interval = paired_difference(a, b, level)
    n = interval.n
    if n < 2:
        return Verdict("no evidence", interval, math.nan, n, "a single pair of runs cannot tell")
    p = _p_value(_differences(a, b), interval.mean)
    if interval.low <= 0 <= interval.high:
        reason = "all pairs are equal" if interval.low == interval.high else "the interval contains 0"
        return Verdict("no evidence", interval, p, n, reason)
    better = (interval.mean > 0) == higher_is_better
    text: Text = "helped" if better else "hurt"
    return Verdict(text, interval, p, n, f"the interval excludes 0 ({'better' if better else 'worse'})")


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    if len(a) != len(b):
        raise DataError(
            "paired values must come in pairs", got=f"{len(a)} and {len(b)}", expected="equal numbers"
        )
    differences = []
    for x, y in zip(a, b):
        # Values that differ by rounding alone are equal: 0.3 - 0.2 and 0.2 - 0.1 are the same difference.
        scale = max(abs(x), abs(y), 1e-300)
        differences.append(0.0 if abs(x - y) <= 1e-12 * scale else float(x) - float(y))
    return differences


def _numbers(values: Sequence[float], level: float) -> list[float]:
    numbers = [float(v) for v in values]
    if not numbers:
        raise DataError("there is no value to average", expected="at least one run")
    if not all(math.isfinite(v) for v in numbers):
        raise DataError(
            "a value is not finite",
            got=numbers,
            fix="leave failed runs out of the comparison, on both sides of a pair",
        )
    if not 0 < level < 1:
        raise DataError("the level of an interval is a coverage", got=level, expected="a number in (0, 1)")
    return numbers


def _error(numbers: list[float], mean: float) -> float:
    """Standard error of the mean; 0 when the values differ by rounding alone."""
    n = len(numbers)
    variance = math.fsum((v - mean) ** 2 for v in numbers) / (n - 1)
    deviation = math.sqrt(variance)
    return 0.0 if deviation <= 1e-12 * max(abs(v) for v in numbers) else deviation / math.sqrt(n)


def _quantile(level: float, n: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, n - 1))


def _p_value(differences: list[float], mean: float) -> float:
    from scipy import stats

    error = _error(differences, mean)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, len(differences) - 1))
