"""The same budget for every method, on validation, on seeds of its own; a stopped search goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.running import Running, limbeck, write_config
from tests.study.test_runner import STUDY, numbers, training, wait_until, write

from limbeck.cli.inspect import find_runs
from limbeck.config import read

pytestmark = pytest.mark.slow

TUNING: dict[str, Any] = {
    "trials": 2,
    "seeds": [100],
    "first": "scratch",
    "space": {
        "scratch": {"train.optimizer.learning_rate": [0.001, 0.1]},
        "kd": {"temperature": "1..8:log", "alpha": [{"weight": 0.5, "label_weight": 0.5}]},
    },
}


def test_a_tuned_study(tmp_path: Path) -> None:
    base = {**STUDY["base"], "train.epochs": 4}
    study = write(tmp_path / "tiny.yaml", tuning=TUNING, seeds=[0], base=base)
    done = limbeck("study", study, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "[7/7]" in done.stderr
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    scratch, kd = found["tuning"]
    for tuned in (scratch, kd):
        assert len(tuned["trials"]) == tuned["budget"] == 2
        for trial in tuned["trials"]:
            (path,) = trial["paths"]
            results = json.loads((tmp_path / "out" / path / "results.json").read_text())
            assert trial["validation"] == {"100": results["last"]["validation"]["accuracy"]}
        best = max(tuned["trials"], key=lambda t: t["mean"])
        assert best["values"].items() <= tuned["chosen"].items()
    assert scratch["chosen"]["train.optimizer.learning_rate"] == 0.1
    rows = {row["method"]: row for row in found["rows"]}
    run = read(tmp_path / "out" / rows["kd"]["path"] / "config.yaml")
    assert run.train.optimizer.learning_rate == 0.1  # scratch's is everybody's start
    assert (run.methods[0].weight, run.label_weight) == (0.5, 0.5)
    assert run.methods[0].options["temperature"] == kd["chosen"]["temperature"]
    assert {row["seed"] for row in found["rows"]} == {0}
    assert {p.relative_to(tmp_path / "out").parts[0] for p in find_runs([tmp_path / "out"])} == {
        "runs",
        "teachers",
    }


def test_a_tuned_study_that_was_killed_chooses_the_same(tmp_path: Path) -> None:
    tuning = {**TUNING, "space": {"kd": {"temperature": "1..8:log"}}, "first": None}
    base = {**STUDY["base"], "train.epochs": 10}
    study = write(tmp_path / "tiny.yaml", tuning=tuning, seeds=[0], methods=["kd"], base=base)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert limbeck("study", study, "-o", whole).returncode == 0
    process = Running("study", study, "-o", killed)
    wait_until(lambda: training(killed / "tuning/p/default/kd/trial1/seed100", 20), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = limbeck("study", study, "-o", killed)
    assert done.returncode == 0, done.stderr
    assert numbers(killed) == numbers(whole)


def test_tune(tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.yaml", methods=["label_smoothing"], train={"epochs": 1})
    words = ["tune", config, "--trials", 3, "--seed", 5, "--seed", 6, "-o", tmp_path / "out"]
    space = ["--space", "smoothing=[0.1,0.3]", "--space", "train.optimizer.learning_rate=0.01..0.1:log"]
    done = limbeck(*words, *space)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "trials.json").read_text())
    assert len(found["trials"]) == 3
    assert all(set(trial["validation"]) == {"5", "6"} for trial in found["trials"])
    assert found["best"]["mean"] == max(trial["mean"] for trial in found["trials"])
    best = read(tmp_path / "out" / "best.yaml")
    values = found["best"]["values"]
    assert best.methods[0].options["smoothing"] == values["smoothing"]
    assert best.train.optimizer.learning_rate == values["train.optimizer.learning_rate"]
    assert (best.output, best.seed, best.title) == (None, 0, None)
    assert f"best: smoothing={values['smoothing']}" in done.stdout
    again = limbeck(*words, *space)
    assert again.returncode == 0, again.stderr
    assert "[" not in again.stderr
    assert json.loads((tmp_path / "out" / "trials.json").read_text()) == found


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ([], "nothing to tune"),
        (["--space", "smoothing=8..1"], "smoothing is no range"),
        (["--space", "train.epoch=[1]"], "train.epoch"),
        (["--space", "smoothing=[2]"], "smoothing"),
    ],
)
def test_what_cannot_be_tuned(space: list[str], said: str, tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.yaml", methods=["label_smoothing"], train={"epochs": 1})
    done = limbeck("tune", config, *space, "-o", tmp_path / "out")
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_yaml_of_a_study_folder_is_whole(tmp_path: Path) -> None:
    study = write(tmp_path / "tiny.yaml", tuning=TUNING)
    from limbeck.study.config import read_study

    first = read_study(str(study))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.yaml").write_text(
        yaml.safe_dump(first.model_dump(mode="json", exclude={"output"}))
    )
    again = read_study(str(tmp_path / "out"))
    assert again.model_copy(update={"output": None}) == first
