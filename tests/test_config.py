"""Configuration: what is written is what is read, and mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from limbeck.config import apply, dump, load_yaml, parse, read
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
        ("name='1e3'", {"name": "1e3"}),
        ("train.clip=-2.5E+3", {"train": {"clip": -2500.0}}),
        ("student.name=mlp", {"student": {"name": "mlp"}}),
        ("data.train_size=9", {"data": {"name": "cifar10", "train_size": 9}}),
        ("train.schedule.milestones.1=7", {"train": {"schedule": {"milestones": [3, 7]}}}),
        ("new.deep.key=1", {"new": {"deep": {"key": 1}}}),
    ],
)
def test_overrides(override: str, expected: dict[str, Any]) -> None:
    values: dict[str, Any] = {"student": "cnn", "methods": ["kd", "bickd"], "data": "cifar10"}
    if "milestones" in override:
        values["train"] = {"schedule": {"milestones": [3, 5]}}
    apply(values, override)
    assert values | expected == values


@pytest.mark.parametrize(
    "override",
    [
        "novalue",
        "=3",
        "methods.7=kd",
        "methods.x.y=1",
        "train=[",
        "augment.0=1",
        "methods.²=kd",
        "methods.-1=kd",
    ],
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


text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@given(name=text | st.sampled_from(["1e3", "null", "yes", "3", "1_000", ".inf", "2026-01-01", "~", "1:30"]))
def test_any_name_survives_the_trip(name: str) -> None:
    config = parse({"student": {"name": "cnn", "options": {"label": name}}, "name": name, "group": name})
    assert parse(load_yaml(dump(config))) == config


@given(rate=st.floats(1e-12, 1e12))
def test_scientific_notation_in_files_and_overrides(rate: float) -> None:
    for shown in (f"{rate:e}", f"{rate:.0e}", f"{rate:E}", repr(rate)):
        values: dict[str, Any] = {"student": "cnn"}
        apply(values, f"methods=[{{name: kd, temperature: {shown}}}]")
        found = values["methods"][0]["temperature"]
        assert isinstance(found, float)
        assert found == float(shown)


def test_one_word_is_enough_for_a_section() -> None:
    config = parse({"student": "cnn", "data": "cifar10", "methods": ["kd"], "teacher": {"run": "t"}})
    assert (config.student.name, config.data.name, config.methods[0].name) == ("cnn", "cifar10", "kd")
    assert parse({"student": "cnn", "methods": [{"name": "kd", "options": None}]}).methods[0].options == {}


def test_a_configuration_cannot_be_changed() -> None:
    config = parse({"student": "cnn"})
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"student": 5}, "student: Input should be a valid dictionary"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0; got -1"),
        ({"seed": "zero"}, "seed: Input should be a valid integer, unable to parse string as an integer; got 'zero'"),
        ({"train": 3}, "train: Input should be a valid dictionary"),
        ({"train": {"optimizer": {"momentum": 1}}}, "train.optimizer.momentum: Input should be less than 1; got 1"),
        ({"train": {"optimizer": {"nesterov": True, "momentum": 0}}}, "train.optimizer: nesterov needs a momentum"),
        ({"train": {"optimizer": {"learning_rate": float("inf")}}}, "learning_rate: Input should be a finite number"),
        ({"train": {"optimizer": {"learning_rate": float("nan")}}}, "learning_rate: Input should be"),
        ({"train": {"schedule": {"milestone": [3]}}}, "train.schedule.milestone: unknown key, nearest is 'milestones'"),
        ({"teacher": {"modle": "cnn"}}, "teacher.modle: unknown key, nearest is 'model'"),
        ({"teacher": {"model": {"name": "cnn", "weight": "w"}}}, "teacher.model.weight: unknown key, nearest is"),
        ({"teacher": {"run": "a", "model": {"name": "b", "weights": "c"}}}, "teacher: give either teacher.run or"),
        ({"teacher": {"checkpoint": "first"}}, "teacher.checkpoint: Input should be 'last' or 'best'; got 'first'"),
        ({"data": {"nmae": "digits"}}, "data.nmae: unknown key, nearest is 'name'"),
        ({"augment": {"flp": True}}, "augment.flp: unknown key, nearest is 'flip'"),
        ({"methods": "kd"}, "methods: Input should be a valid tuple; got 'kd'"),
        ({"methods": [{"name": "kd", "options": 5}]}, "methods.0.options: Input should be a valid dictionary; got 5"),
        ({"methods": ["kd", {"name": "dist", "weight": -1}]}, "methods.1.weight: Input should be greater than or"),
        ({"method": ["kd"]}, "methods.0: Input should be a valid dictionary"),
    ],
    ids=str,
)  # fmt: skip
def test_each_mistake_has_its_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"student": "cnn", **values})
    assert f"\n  {line}" in str(caught.value) or f".{line}" in str(caught.value)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"student: cnn\ntrain: [1\n", "not valid YAML at line 3"),
        (b"\xff\xfe\x00", "cannot read"),
        (b"- a list\n", "got list"),
        (b"student: cnn\nseed: 1\nseed: 2\n", "line 2: the key 'seed' stands twice"),
        (b"student: cnn\ntrain: {epochs: 1, epochs: 2}\n", "'epochs' stands twice"),
        (b"student: !!python/name:os.system {}\n", "not valid YAML at line 1"),
    ],
)
def test_files_that_are_no_configuration(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        read(tmp_path / "c.yaml")


def test_numbers_in_a_file_may_be_scientific(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("student: {name: cnn, options: {x: 1e-3, y: '1e-3', z: 2.E+4}}\n")
    assert read(tmp_path / "c.yaml").student.options == {"x": 1e-3, "y": "1e-3", "z": 2e4}
