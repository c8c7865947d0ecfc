"""What is made of a study's numbers: intervals, corrected verdicts, effect per second, ranks, tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from tests.study.test_grid import SMALL

from limbeck.config import check
from limbeck.errors import RunError
from limbeck.study import holm
from limbeck.study.config import StudyConfig
from limbeck.study.results import better, compare, ranking, read_results, write
from limbeck.study.tables import write_tex

ACCURACY = {
    "scratch": [0.80, 0.82, 0.81, 0.79, 0.80],
    "kd": [0.84, 0.85, 0.86, 0.83, 0.85],
    "dist": [0.82, 0.81, 0.84, 0.80, 0.83],
}
SECONDS = {"scratch": 10.0, "kd": 14.0, "dist": 10.1}


def study(**more: Any) -> StudyConfig:
    values = {**SMALL, "methods": ["scratch", "kd", "dist"], "seeds": [0, 1, 2, 3, 4], **more}
    return check(StudyConfig, values, "the study")


def rows(setting: str = "default") -> list[dict[str, Any]]:
    return [
        {
            "kind": "student",
            "pair": "p",
            "setting": setting,
            "method": method,
            "seed": seed,
            "status": "finished",
            "seconds": SECONDS[method] + seed,
            "last": {"test": {"accuracy": value, "nll": 1 - value, "entropy": value}},
        }
        for method, values in ACCURACY.items()
        for seed, value in enumerate(values)
    ]


def test_what_was_learned_from_is_compared_too() -> None:
    found = [{**row, "learned": {"tokens": 100.0 + row["seed"]}} for row in rows() if row["method"] != "dist"]
    tokens = compare(study(metrics=["tokens"]), [*found, *rows()[-5:]], "p", "default", "tokens")
    assert tokens["higher_is_better"] is None
    assert {m["method"]: m["mean"] for m in tokens["methods"]} == {"scratch": 102.0, "kd": 102.0}
    assert [better(name) for name in ("perplexity", "error_rate", "exact_match", "rouge_l")] == [
        False,
        False,
        True,
        True,
    ]


def test_holm_against_its_definition() -> None:
    p = {"a": 0.001, "b": 0.04, "c": 0.03, "d": math.nan, "e": 0.5}
    found = holm(p)
    assert found["a"] == pytest.approx(0.004)
    assert found["c"] == pytest.approx(0.09)
    assert found["b"] == pytest.approx(0.09)  # never below a smaller p's
    assert found["e"] == 0.5
    assert math.isnan(found["d"])


def test_a_comparison_against_scipy() -> None:
    found = compare(study(), rows(), "p", "default", "accuracy")
    by = {m["method"]: m for m in found["methods"]}
    for method, base in (("kd", "scratch"), ("dist", "scratch"), ("dist", "kd"), ("scratch", "kd")):
        test = stats.ttest_rel(ACCURACY[method], ACCURACY[base])
        judged = by[method]["against"][base]
        ends = test.confidence_interval(0.95)
        assert judged["p"] == pytest.approx(test.pvalue)
        assert (judged["low"], judged["high"]) == (pytest.approx(ends.low), pytest.approx(ends.high))
    p = {m: stats.ttest_rel(ACCURACY[m], ACCURACY["scratch"]).pvalue for m in ("kd", "dist")}
    assert by["kd"]["against"]["scratch"]["p_holm"] == pytest.approx(2 * p["kd"])
    assert by["kd"]["against"]["scratch"]["verdict"] == "helped"
    assert by["kd"]["against"]["scratch"]["per_extra_second"] == pytest.approx(0.042 / 4)
    assert by["dist"]["against"]["scratch"]["extra_seconds"] == pytest.approx(0.1)
    assert by["dist"]["against"]["scratch"]["per_extra_second"] is None  # as long as the baseline


def test_a_verdict_that_the_correction_takes_back_says_so() -> None:
    p = stats.ttest_rel(ACCURACY["kd"], ACCURACY["scratch"]).pvalue  # the smaller of two: Holm doubles it
    found = compare(study(level=1 - 1.5 * p), rows(), "p", "default", "accuracy")
    judged = next(m for m in found["methods"] if m["method"] == "kd")["against"]["scratch"]
    assert (judged["verdict"], judged["alone"]) == ("no evidence", "helped")
    assert judged["reason"] == "not after correction for all methods"


def test_less_is_better_or_neither() -> None:
    nll = compare(study(), rows(), "p", "default", "nll")
    assert nll["higher_is_better"] is False
    assert nll["methods"][1]["against"]["scratch"]["verdict"] == "helped"
    entropy = compare(study(), rows(), "p", "default", "entropy")
    assert entropy["higher_is_better"] is None
    judged = entropy["methods"][1]["against"]["scratch"]
    assert (judged["verdict"], judged["reason"]) == ("higher", "the interval excludes 0")


def test_a_seed_that_is_missing_is_in_no_pair() -> None:
    found = compare(
        study(), [r for r in rows() if (r["method"], r["seed"]) != ("kd", 2)], "p", "default", "accuracy"
    )
    judged = next(m for m in found["methods"] if m["method"] == "kd")["against"]["scratch"]
    assert (judged["n"], judged["unpaired"]) == (4, [2])


def test_ranks_against_scipy() -> None:
    found = ranking(study(), rows(), list(ACCURACY))
    assert found is not None
    assert found["friedman"]["p"] == pytest.approx(stats.friedmanchisquare(*ACCURACY.values()).pvalue)
    assert list(found["mean_rank"]) == ["kd", "dist", "scratch"]
    assert found["mean_rank"]["kd"] == 1.0
    assert found["mean_rank"]["dist"] == pytest.approx((2 + 3 + 2 + 2 + 2) / 5)
    # Demsar 2006, table 5: q for three methods at 0.05 is 2.343
    assert found["critical_distance"] == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 5)), abs=2e-3)
    assert ranking(study(), rows(), ["scratch", "kd"]) is None


def test_latex_marks_who_beat_whom(tmp_path: Path) -> None:
    made = study(description="50 % of_it")
    found = {
        "name": made.name,
        "level": 0.95,
        "baselines": ["scratch", "kd"],
        "metrics": {"accuracy": {}},
        "axes": {"methods": list(ACCURACY)},
        "comparisons": [compare(made, rows(), "p", "default", "accuracy")],
    }
    write_tex(found, tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert r"kd & $84.60 \pm 1.42^{\dagger}$ \\" in text
    assert r"dist & $82.00 \pm 1.96$ \\" in text


def test_an_empty_study_has_results_too(tmp_path: Path) -> None:
    made = study(output=str(tmp_path / "out"))
    found = write(made)
    assert found["runs"] == {"missing": 2 * 5 + 1 + 5}
    assert found["ranking"] is None
    assert read_results(tmp_path / "out") == json.loads(json.dumps(found))


def test_what_is_no_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no study in"):
        read_results(tmp_path)
    (tmp_path / "study.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="it is not of format 1"):
        read_results(tmp_path)
