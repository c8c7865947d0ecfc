"""Whether a difference between runs is more than chance: t intervals, paired over seeds, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from ..errors import DataError

Text = Literal["helped", "no evidence", "hurt"]

ROUNDING = 1e-12
"""Differences that are smaller than this part of the values are rounding errors."""


class Interval(NamedTuple):
    """A mean with its confidence interval; the ends are NaN when fewer than two values leave them unknown."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:.4g} (one run)" if self.n else "no run"
        return f"{self.mean:.4g} ± {(self.high - self.low) / 2:.2g}"


class Verdict(NamedTuple):
    """One plain word on a comparison, and what it rests on.

    Attributes:
        text: "helped", "no evidence" or "hurt".
        interval: of the paired differences, in the metric's unit.
        p: two-sided, of the paired t test; NaN where it is not defined.
        n: pairs compared.
        reason: why, in a few words.
        unpaired: seeds that only one side has, and that were therefore not compared.
    """

    text: Text
    interval: Interval
    p: float
    n: int
    reason: str
    unpaired: tuple[int, ...] = ()


class Row(NamedTuple):
    """One line of a comparison: a method's mean over seeds and its verdict against each baseline.

    Attributes:
        label: the method.
        interval: over the method's own seeds.
        verdicts: one per baseline that was run, by the baseline's label; none against itself.
        failed: seeds whose value is not finite; they enter neither the mean nor a pair.
    """

    label: str
    interval: Interval
    verdicts: dict[str, Verdict]
    failed: tuple[int, ...] = ()


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
    if not 0 < level < 1:
        raise DataError("the level of an interval is its coverage", got=level, expected="a number in (0, 1)")
    if len(values) == 0:
        raise DataError("there is no value to average", expected="at least one run")
    if not all(math.isfinite(v) for v in values):
        raise DataError("a value is not finite", got=list(values), fix="leave failed runs out of both sides")
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + level) / 2)) * _standard_error(values, mean)
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of the mean of ``a_i - b_i``; the two runs of a pair share their seed.

    Raises:
        DataError: unequal lengths, or as in `mean_interval`.

    Example:
        >>> paired_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
        Interval(mean=2.0, low=2.0, high=2.0, n=3)
    """
    if len(a) != len(b):
        raise DataError("paired values come in pairs", got=f"{len(a)} and {len(b)}", expected="equal numbers")
    return mean_interval([float(x) - float(y) for x, y in zip(a, b)], level)


def verdict(
    a: Sequence[float], b: Sequence[float], higher_is_better: bool = True, level: float = 0.95
) -> Verdict:
    """Did a do better than b? Values are paired by position (seed).

    "helped" if and only if the paired t interval of ``a - b`` excludes 0 in the good direction, "hurt" if
    it excludes 0 in the bad one, else "no evidence". Two cases give no interval to decide by and are "no
    evidence": a single pair, and differences that are all equal (a few seeds that each gain the same one
    image say nothing about the spread). Nothing is corrected for several comparisons.

    Args:
        a, b: ``(n,)`` values of the two methods, in the same order of seeds and the same unit.
        higher_is_better: False for losses, errors and times.
        level: coverage of the interval.

    Raises:
        DataError: as in `paired_difference`.

    Example:
        >>> verdict([0.92, 0.93, 0.95], [0.90, 0.91, 0.92]).text
        'helped'
        >>> verdict([0.92], [0.90]).reason
        'a single pair of runs cannot tell'
    """
    interval = paired_difference(a, b, level)
    mean, low, high, n = interval
    if n < 2:
        return Verdict("no evidence", interval, math.nan, n, "a single pair of runs cannot tell")
    differences = [float(x) - float(y) for x, y in zip(a, b)]
    noise = ROUNDING * max(map(abs, (*a, *b)))
    if max(map(abs, differences)) <= noise:
        return Verdict("no evidence", interval, 1.0, n, "all pairs are equal")
    if max(differences) - min(differences) <= noise:
        return Verdict("no evidence", interval, math.nan, n, "all differences are equal: spread unknown")
    from scipy.special import stdtr

    p = 2 * float(stdtr(n - 1, -abs(mean) / _standard_error(differences, mean)))
    if low <= 0 <= high:
        return Verdict("no evidence", interval, p, n, "the interval contains 0")
    if (mean > 0) == higher_is_better:
        return Verdict("helped", interval, p, n, "the interval excludes 0: better")
    return Verdict("hurt", interval, p, n, "the interval excludes 0: worse")


def summarise(
    groups: Mapping[str, Mapping[int, float]],
    baselines: Sequence[str] = ("scratch", "kd"),
    higher_is_better: bool = True,
    level: float = 0.95,
) -> list[Row]:
    """One row per method: its mean over seeds, and its verdict against each baseline over common seeds.

    Args:
        groups: for each method's label the metric's value by seed.
        baselines: labels to compare with, those that were run.
        higher_is_better, level: as in `verdict`.

    Returns:
        Rows in the order of ``groups``. ``Verdict.n`` counts the pairs, ``Verdict.unpaired`` names the
        seeds of one side only, ``Row.failed`` those whose value is not finite.

    Example:
        >>> rows = summarise({"scratch": {0: 0.90, 1: 0.91, 2: 0.92}, "kd": {0: 0.92, 1: 0.93, 7: 0.95}})
        >>> found = rows[1].verdicts["scratch"]
        >>> found.n, found.unpaired, found.text
        (2, (7, 2), 'no evidence')
    """
    finite = {label: {s: float(v) for s, v in g.items() if math.isfinite(v)} for label, g in groups.items()}
    rows = []
    for label, values in finite.items():
        nothing = Interval(math.nan, math.nan, math.nan, 0)
        interval = mean_interval(list(values.values()), level) if values else nothing
        verdicts = {
            baseline: _compare(values, finite[baseline], higher_is_better, level)
            for baseline in baselines
            if baseline in finite and baseline != label
        }
        rows.append(Row(label, interval, verdicts, tuple(s for s in groups[label] if s not in values)))
    return rows


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction of p values for as many tests as there are finite ones.

    The k-th smallest of m is multiplied by ``m - k + 1``, capped at 1 and kept in order, so that all tests
    together find a difference where there is none with probability at most the size of each (Holm 1979).

    Args:
        values: p value by name; one that is not defined (NaN) stays so and counts for nothing.

    Example:
        >>> {name: round(p, 3) for name, p in holm({"a": 0.01, "b": 0.04, "c": 0.03}).items()}
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    order = sorted((name for name in values if math.isfinite(values[name])), key=lambda name: values[name])
    found, largest = dict(values), 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min(1.0, values[name] * (len(order) - rank)))
        found[name] = largest
    return found


def _compare(a: Mapping[int, float], b: Mapping[int, float], higher_is_better: bool, level: float) -> Verdict:
    unpaired = tuple(seed for seed in (*a, *b) if (seed in a) != (seed in b))
    common = [seed for seed in a if seed in b]
    if not common:
        nothing = Interval(math.nan, math.nan, math.nan, 0)
        return Verdict("no evidence", nothing, math.nan, 0, "no seed in common", unpaired)
    found = verdict([a[s] for s in common], [b[s] for s in common], higher_is_better, level)
    return found._replace(unpaired=unpaired)


def _standard_error(values: Sequence[float], mean: float) -> float:
    n = len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
