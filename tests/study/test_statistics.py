"""Intervals and verdicts against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.study import Interval, mean_interval, paired_difference, summarise, verdict

numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
few = settings(max_examples=60, deadline=None)


def pairs(n: int = 2) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(numbers, numbers), min_size=n, max_size=8)


@few
@given(st.lists(numbers, min_size=2, max_size=9), st.floats(0.5, 0.99))
def test_interval_agrees_with_scipy(values: list[float], level: float) -> None:
    from scipy import stats

    assume(len(set(values)) > 1)
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    ours = mean_interval(values, level)
    size = max(map(abs, values))
    assert ours.low == pytest.approx(low, rel=1e-6, abs=1e-9 * size)
    assert ours.high == pytest.approx(high, rel=1e-6, abs=1e-9 * size)
    assert ours.n == len(values)


@few
@given(pairs(), st.booleans())
def test_verdict_agrees_with_scipy(values: list[tuple[float, float]], higher: bool) -> None:
    from scipy import stats

    a, b = [x for x, _ in values], [y for _, y in values]
    differences = np.subtract(a, b)
    assume(np.ptp(differences) > 1e-4 * max(map(abs, (*a, *b))))
    oracle = stats.ttest_rel(a, b)
    ours = verdict(a, b, higher)
    assert ours.p == pytest.approx(oracle.pvalue, rel=1e-5, abs=1e-12)
    assume(abs(oracle.pvalue - 0.05) > 1e-6)
    if oracle.pvalue > 0.05:
        assert ours.text == "no evidence"
    else:
        assert ours.text == ("helped" if (oracle.statistic > 0) == higher else "hurt")
    low, high = oracle.confidence_interval(0.95)
    assert ours.interval.low == pytest.approx(low, rel=1e-6, abs=1e-6)
    assert ours.interval.high == pytest.approx(high, rel=1e-6, abs=1e-6)


@few
@given(pairs(1))
def test_swapping_sides_swaps_the_verdict(values: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in values], [y for _, y in values]
    opposite = {"helped": "hurt", "hurt": "helped", "no evidence": "no evidence"}
    one, other = verdict(a, b), verdict(b, a)
    assert other.text == opposite[one.text] == verdict(a, b, higher_is_better=False).text
    assert other.interval.mean == -one.interval.mean
    assert verdict(a, a).text == "no evidence"


def test_by_hand() -> None:
    mean, low, high, n = mean_interval([1.0, 2.0, 3.0])
    assert (mean, n) == (2.0, 3)
    assert high - mean == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert mean - low == pytest.approx(high - mean)


def test_a_single_run_cannot_tell() -> None:
    found = verdict([0.99], [0.10])
    assert (found.text, found.n) == ("no evidence", 1)
    assert math.isnan(found.p)
    assert math.isnan(found.interval.low)
    assert "single pair" in found.reason
    assert str(mean_interval([0.5])) == "0.5 (one run)"


def test_equal_pairs() -> None:
    found = verdict([0.3, 0.4, 0.5], [0.3, 0.4, 0.5])
    assert (found.text, found.p, found.reason) == ("no evidence", 1.0, "all pairs are equal")


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_equal_differences_do_not_pass_for_certainty(seeds: int) -> None:
    """Every seed gains exactly one image of 360: rounding must not turn it into a huge t either."""
    b = [(300 + seed) / 360 for seed in range(seeds)]
    a = [(301 + seed) / 360 for seed in range(seeds)]
    found = verdict(a, b)
    assert (found.text, found.n) == ("no evidence", seeds)
    assert math.isnan(found.p)
    assert "spread unknown" in found.reason


def test_pairing_finds_what_the_means_hide() -> None:
    seeds = [0.50, 0.70, 0.90]
    found = verdict([s + d for s, d in zip(seeds, (0.020, 0.021, 0.019))], seeds)
    assert found.text == "helped"
    assert verdict(seeds, [0.51, 0.68, 0.91]).text == "no evidence"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "no value"),
        (lambda: mean_interval([1.0, math.nan]), "not finite"),
        (lambda: mean_interval([1.0, math.inf]), "not finite"),
        (lambda: mean_interval([1.0], level=95.0), "coverage"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "got 1 and 2"),
        (lambda: verdict([], []), "no value"),
    ],
)
def test_mistakes(call: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()  # type: ignore[operator]


def test_summary_pairs_over_common_seeds() -> None:
    groups = {
        "scratch": {0: 0.80, 1: 0.82, 2: 0.81},
        "kd": {2: 0.85, 0: 0.84, 1: 0.87},
        "bickd": {0: 0.86, 1: 0.88, 3: 0.99},
        "dist": {7: 0.9},
    }
    rows = summarise(groups)
    assert [row.label for row in rows] == list(groups)
    assert [sorted(row.verdicts) for row in rows] == [
        ["kd"],
        ["scratch"],
        ["kd", "scratch"],
        ["kd", "scratch"],
    ]
    kd = rows[1].verdicts["scratch"]
    assert kd == verdict([0.85, 0.84, 0.87], [0.81, 0.80, 0.82])
    assert (kd.text, kd.n, kd.unpaired) == ("helped", 3, ())
    assert rows[0].verdicts["kd"].text == "hurt"
    bickd = rows[2].verdicts["scratch"]
    assert (bickd.n, bickd.unpaired) == (2, (3, 2))
    assert rows[2].interval == mean_interval([0.86, 0.88, 0.99])
    dist = rows[3].verdicts["kd"]
    assert (dist.text, dist.n, dist.reason, dist.unpaired) == (
        "no evidence",
        0,
        "no seed in common",
        (7, 2, 0, 1),
    )
    assert rows[3].interval.n == 1


def test_summary_names_failed_runs() -> None:
    rows = summarise({"scratch": {0: 1.0, 1: 2.0}, "kd": {0: 2.0, 1: math.nan}, "dist": {0: math.inf}})
    assert (rows[1].failed, rows[1].interval.n) == ((1,), 1)
    assert rows[1].verdicts["scratch"].unpaired == (1,)
    assert (rows[2].failed, rows[2].interval.n) == ((0,), 0)
    assert str(rows[2].interval) == "no run"
    assert rows[2].verdicts["scratch"].text == "no evidence"


def test_summary_without_baselines() -> None:
    assert summarise({}) == []
    (row,) = summarise({"kd": {0: 1.0}}, baselines=("scratch",))
    assert row.verdicts == {}
    assert isinstance(row.interval, Interval)
    (row, _) = summarise({"kd": {0: 1.0, 1: 2.1}, "x": {0: 2.0, 1: 3.0}}, ("x",), higher_is_better=False)
    assert row.verdicts["x"].interval.mean < 0
