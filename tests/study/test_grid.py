"""From the axes to the runs: names, layers, teachers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.running import ROOT

from limbeck.config import check
from limbeck.errors import ConfigError
from limbeck.study.config import PRESETS, StudyConfig, narrow, read_study
from limbeck.study.grid import Grid

SHIPPED = sorted((ROOT / "presets" / "studies").glob("*.yaml"))

SMALL: dict[str, Any] = {
    "name": "small",
    "base": {"data": {"name": "digits"}, "train": {"epochs": 4, "batch_size": 32}},
    "pairs": {"p": {"student": {"name": "cnn", "options": {"widths": [4, 8]}}, "teacher": "resnet8"}},
    "methods": ["scratch", "kd"],
    "seeds": [0, 1],
}


def study(**more: Any) -> StudyConfig:
    return check(StudyConfig, {**SMALL, **more}, "the study")


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_make_their_grid_and_say_what_they_are_for(preset: Path) -> None:
    assert preset.read_text().startswith("# ")
    made = read_study(str(preset))
    cells = Grid(made).all()
    assert len({cell.key for cell in cells}) == len(cells)
    assert preset.parent in [folder.resolve() for folder in PRESETS]
    assert read_study(preset.stem) == made


def test_every_place_of_the_grid_is_one_run_with_its_teacher() -> None:
    grid = Grid(study(data={"few": {"data.train_size": 100}, "all": {}}))
    cells = grid.students()
    assert len(cells) == 2 * 2 * 2
    assert {cell.config.group for cell in cells} == {"p · few", "p · all"}
    for cell in cells:
        assert cell.config.seed == cell.seed
        assert cell.config.title == cell.method
        assert cell.config.train.threads == 1
        assert cell.config.data.train_size == (100 if cell.setting == "few" else None)
        if cell.method == "scratch":
            assert cell.config.teacher is None
            assert cell.config.methods == ()
        else:
            assert cell.config.teacher is not None
            assert cell.config.teacher.run == f"runs/small/{cell.teacher}"
    assert {t.config.data.train_size for t in grid.teachers.values()} == {100, None}
    assert all(t.config.student.name == "resnet8" and t.config.seed == 1000 for t in grid.teachers.values())


def test_teachers_that_are_alike_are_one() -> None:
    data = {"few": {"data.train_size": 100}, "all": {}}
    grid = Grid(study(data=data, teacher={"seeds": [7, 8], "set": {"data.train_size": None}}))
    taught = [cell for cell in grid.students() if cell.teacher]
    assert len(grid.teachers) == 2
    assert {(cell.seed, grid.teachers[cell.teacher or ""].seed) for cell in taught} == {(0, 7), (1, 8)}


def test_who_teaches() -> None:
    methods = {
        "self": {"method": "kd", "teacher": "self"},
        "reverse": {"method": "kd", "teacher": {"name": "mlp", "set": {"train.epochs": 1}}},
        "again": {"method": "kd", "teacher": {"method": "self"}},
        "none": {"method": "label_smoothing"},
    }
    grid = Grid(study(methods=methods))
    by = {cell.method: cell for cell in grid.students() if cell.seed == 1}
    own = grid.teachers[by["self"].teacher or ""].config
    assert (own.student.name, own.seed, own.train.epochs) == ("cnn", 1000, 4)
    small = grid.teachers[by["reverse"].teacher or ""].config
    assert (small.student.name, small.train.epochs) == ("mlp", 1)
    assert by["again"].teacher == by["self"].key
    assert by["none"].teacher is None


def test_swept_values_reach_the_run() -> None:
    alpha = [{"weight": 0.9, "label_weight": 0.1}, {"weight": 0.5, "label_weight": 0.5}]
    methods = {"kd": {"method": "kd", "sweep": {"temperature": [1, 4], "alpha": alpha}}}
    grid = Grid(study(methods=methods, sweep={"train.epochs": [1, 2]}))
    assert list(grid.methods)[:2] == ["kd temperature=1 alpha=0.9", "kd temperature=1 alpha=0.5"]
    assert [point.name for point in grid.settings] == ["epochs=1", "epochs=2"]
    cell = grid.student("p", "epochs=2", "kd temperature=4 alpha=0.5", 0)
    (method,) = cell.config.methods
    assert (method.options["temperature"], method.weight, cell.config.label_weight) == (4, 0.5, 0.5)
    assert cell.config.train.epochs == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sedes": [1]}, "sedes: unknown key, nearest is 'seeds'"),
        ({"seeds": [1, 1]}, "a seed stands twice"),
        ({"methods": {"kd": {"metod": "kd"}}}, "methods.kd.metod: unknown key, nearest is 'methods'"),
        ({"methods": ["scratch", "kdd"]}, "no method 'kdd'; expected 'kd'"),
        ({"methods": {"kd": {"method": {"name": "kd", "temprature": 2}}}}, "temprature"),
        ({"base": {"trian": {}}}, "trian: unknown key, nearest is 'train'"),
        ({"pairs": {"p": {"student": "cnn"}}}, "method kd needs a teacher, but pair p has none"),
        ({"methods": {"a": {"method": "kd", "teacher": {"method": "b"}}}}, "no method 'b'"),
        (
            {"methods": {"a": {"method": "kd", "teacher": {"method": "a"}}}},
            "method a cannot be taught by method a",
        ),
        ({"tuning": {"space": {"dkd": {"beta": [1]}}}}, "tuning.space: no method 'dkd'"),
        ({"methods": {"kd": {"method": "kd", "sweep": {"methods.3.weight": [1]}}}}, "no item '3'"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Grid(study(**more)).all()
    assert said in str(error.value)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="nearest is 'digits'"):
        read_study("digitz")


PAIRS = {
    "p": {"student": "cnn", "teacher": "resnet8"},
    "q": {"student": "cnn", "teacher": "resnet14"},
}


def test_a_method_may_have_other_options_with_one_pair() -> None:
    methods = {
        "scratch": None,
        "dkd": {"methods": [{"name": "dkd", "beta": 8}], "pairs": {"q": {"beta": 2, "train.epochs": 9}}},
    }
    cells = Grid(study(pairs=PAIRS, methods=methods, seeds=[0])).students()
    found = {
        c.pair: (c.config.methods[0].options["beta"], c.config.train.epochs)
        for c in cells
        if c.method == "dkd"
    }
    assert found == {"p": (8, 4), "q": (2, 9)}
    with pytest.raises(ConfigError, match=r"methods\.dkd\.pairs: no pair 'r'"):
        study(pairs=PAIRS, methods={"dkd": {"methods": ["dkd"], "pairs": {"r": {"beta": 2}}}})


def test_a_part_of_a_study_is_in_the_same_folders() -> None:
    methods = {"scratch": None, "kd": "kd", "dkd": {"methods": ["dkd"], "pairs": {"p": {"beta": 2}}}}
    whole = study(pairs=PAIRS, methods=methods, tuning={"space": {"kd": {"temperature": [1]}}})
    part = narrow(whole, pairs=["q"], methods=["scratch", "dkd"])
    cells = {cell.key: cell.config for cell in Grid(whole).all()}
    ours = {cell.key: cell.config for cell in Grid(part).all()}
    assert len(ours) == 5
    assert all(cells[key] == config for key, config in ours.items())
    assert part.baselines == ("scratch",)
    assert part.tuning is not None
    assert part.tuning.space == {}
    assert narrow(whole) == whole
    for names in ({"pairs": ["r"]}, {"methods": ["kdd"]}):
        with pytest.raises(ConfigError, match="the study has no"):
            narrow(whole, **names)
    later = study(methods={"kd": "kd", "again": {"methods": ["kd"], "teacher": {"method": "kd"}}})
    with pytest.raises(ConfigError, match=r"teacher\.method: no method 'kd'"):
        narrow(later, methods=["again"])
