"""What tuning may choose from, and who proposes."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.errors import ConfigError
from limbeck.study.space import GridSearch, OptunaSearch, Range, Trial, parse_space, parse_words, search


@pytest.mark.parametrize(
    "value", ["", "1..", "2..1", "0..1:log", "0.5..2:int", "a..b", "1..2:lin", [], 3, None, "1"]
)
def test_what_is_no_axis_is_named(value: object) -> None:
    with pytest.raises(ConfigError, match="weight"):
        parse_space({"weight": value})


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        parse_space({})
    with pytest.raises(ConfigError, match="not a space: 'weight'"):
        parse_words(["weight"])


def test_ranges() -> None:
    assert parse_words(["a=1e-3..1:log", "b=2..64:logint", "c=-1..1"]) == {
        "a": Range(1e-3, 1.0, log=True),
        "b": Range(2.0, 64.0, log=True, integer=True),
        "c": Range(-1.0, 1.0),
    }


def test_a_large_grid_is_drawn_from_without_repetition_and_always_alike() -> None:
    space = {"a": list(range(10)), "b": list(range(10))}
    first, again, other = (GridSearch(space, 8, seed).ask() for seed in (0, 0, 1))
    assert first == again != other
    assert len({tuple(trial.values.items()) for trial in first}) == 8
    assert [trial.number for trial in first] == list(range(8))


def test_values_that_go_together() -> None:
    alpha = [{"weight": 0.9, "label_weight": 0.1}, {"weight": 0.5, "label_weight": 0.5}]
    assert [t.values for t in GridSearch({"alpha": alpha}, 8, 0).ask()] == alpha


def drive(find: OptunaSearch, budget: int) -> list[Trial]:
    """The best is at a = 3."""
    seen = []
    for _ in range(budget):
        for trial in find.ask():
            seen.append(trial)
            find.tell(trial, -((trial.values["a"] - 3.0) ** 2))
    return seen


def test_optuna_goes_on_after_a_stop_as_if_there_had_been_none(tmp_path: Path) -> None:
    space = parse_space({"a": "0..10", "b": [1, 2]})

    def make(name: str) -> OptunaSearch:
        made = search(space, 12, 0, tmp_path / f"{name}.journal", "s")
        assert isinstance(made, OptunaSearch)
        return made

    whole = drive(make("whole"), 99)
    assert len(whole) == 12
    assert min(abs(t.values["a"] - 3) for t in whole[6:]) < min(abs(t.values["a"] - 3) for t in whole[:3])
    assert {t.values["b"] for t in whole} == {1, 2}

    drive(make("stopped"), 4)
    (asked,) = (find := make("stopped")).ask()[:1]
    assert asked == whole[0]  # it begins anew, with what the journal knows
    drive(find, 4)
    left = make("stopped")
    for _ in range(5):
        left.ask()
    left.ask()  # asked, never told: the process was killed
    assert drive(make("stopped"), 99) == whole


def test_optuna_keeps_whole_numbers_whole_and_a_failed_trial_apart(tmp_path: Path) -> None:
    find = search(parse_space({"a": "1..8:int"}), 4, 0, tmp_path / "j", "s")
    values = []
    while trials := find.ask():
        for trial in trials:
            values.append(trial.values["a"])
            find.tell(trial, None)
    assert len(values) == 4
    assert all(isinstance(v, int) and 1 <= v <= 8 for v in values)
