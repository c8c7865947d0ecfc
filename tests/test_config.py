"""Configuration: what is written is what is read, and mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from limbeck.config import apply, dump, parse, read
from limbeck.errors import ConfigError


def test_dump_and_parse_are_inverse() -> None:
    config = parse(
        {
            "student": "resnet8",
            "methods": [{"name": "kd", "temperature": 2, "weight": 0.5}, "dist"],
            "teacher": {"run": "t"},
            "train": {"schedule": {"name": "step", "milestones": [1, 2.5]}, "clip": 1.0},
        }
    )
    assert parse(yaml.safe_load(dump(config))) == config
    assert config.label == "kd+dist"


@given(rate=st.floats(1e-9, 1e3, allow_nan=False), epochs=st.integers(1, 10**6), seed=st.integers(0, 2**40))
def test_numbers_survive_the_trip(rate: float, epochs: int, seed: int) -> None:
    config = parse(
        {"student": "cnn", "seed": seed, "train": {"epochs": epochs, "optimizer": {"learning_rate": rate}}}
    )
    again = parse(yaml.safe_load(dump(config)))
    assert again.train.optimizer.learning_rate == rate
    assert (again.train.epochs, again.seed) == (epochs, seed)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=5", {"train": {"epochs": 5}}),
        ("train.optimizer.learning_rate=1e-3", {"train": {"optimizer": {"learning_rate": 0.001}}}),
        ("teacher=null", {"teacher": None}),
        ("methods=[kd, dist]", {"methods": ["kd", "dist"]}),
        ("methods.1.temperature=2", {"methods": ["kd", {"name": "bickd", "temperature": 2}]}),
        ("methods.0=dkd", {"methods": ["dkd", "bickd"]}),
        ("student.options.widths=[4, 8]", {"student": {"name": "cnn", "options": {"widths": [4, 8]}}}),
        ("name=a=b", {"name": "a=b"}),
    ],
)
def test_overrides(override: str, expected: dict[str, Any]) -> None:
    values: dict[str, Any] = {"student": "cnn", "methods": ["kd", "bickd"]}
    apply(values, override)
    assert values | expected == values


@pytest.mark.parametrize(
    "override", ["novalue", "=3", "methods.7=kd", "methods.x.y=1", "train=[", "augment.0=1"]
)
def test_wrong_overrides(override: str) -> None:
    with pytest.raises(ConfigError):
        apply({"student": "cnn", "methods": ["kd"]}, override)


def test_every_problem_gets_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            {
                "studnet": 1,
                "student": "cnn",
                "train": {"epochs": 0, "optimizer": {"lr": 1}},
                "methods": [{"weight": 1}],
            }
        )
    text = str(caught.value)
    assert "studnet: unknown key, nearest is 'student'" in text
    assert "train.epochs: Input should be greater than or equal to 1; got 0" in text
    assert "train.optimizer.lr: unknown key" in text
    assert "methods.0.name: Field required" in text


def test_method_and_methods_cannot_both_be_given() -> None:
    assert parse({"student": "cnn", "method": "kd"}).label == "kd"
    assert parse({"student": "cnn", "method": None}).label == "scratch"
    with pytest.raises(ConfigError, match="either method or methods"):
        parse({"student": "cnn", "method": "kd", "methods": ["dist"]})


def test_read_applies_overrides_after_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("student: cnn\ntrain: {epochs: 3}\n")
    assert read(tmp_path / "c.yaml", ["train.epochs=4", "seed=9"]).train.epochs == 4
