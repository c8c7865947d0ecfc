from __future__ import annotations

import json
from statistics import fmean

import numpy as np
import pytest
from torch import nn

from limbeck import Run
from limbeck.cli.inspect import robust
from limbeck.data import DataConfig, from_arrays, load
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation import CORRUPTIONS, robustness


def test_accuracy_falls_with_severity_and_epsilon(trained: Run) -> None:
    found = robustness(trained, images=None)
    assert found["images"] == 360
    assert found["clean"] == trained.results["last"]["test"]["accuracy"]
    assert list(found["corruptions"]) == list(CORRUPTIONS)
    by_severity = [fmean(values[s] for values in found["corruptions"].values()) for s in range(5)]
    assert by_severity == sorted(by_severity, reverse=True)
    assert found["clean"] > by_severity[0]
    assert found["corrupted"] == pytest.approx(fmean(by_severity))
    assert by_severity[4] < found["clean"] - 0.1
    assert all(values[4] <= values[0] + 0.01 for values in found["corruptions"].values())
    attacked = [row["accuracy"] for row in found["pgd"]]
    assert attacked == sorted(attacked, reverse=True)
    assert attacked[-1] < found["clean"]


def test_a_network_and_its_run_say_the_same_and_are_left_alone(trained: Run) -> None:
    data, student = load(DataConfig()), trained.student()
    student.train()
    settings = {"images": 60, "corruptions": ["shot_noise", "rotate"], "epsilons": [0.05], "steps": 3}
    first = robustness(student, data, **settings)  # type: ignore[arg-type]
    assert student.training
    assert first == robustness(trained, **settings)  # type: ignore[arg-type]
    assert first != robustness(trained, seed=1, **settings)  # type: ignore[arg-type]
    assert robustness(student, data, images=20, corruptions=[], epsilons=[])["corrupted"] is None


def test_what_cannot_be_measured_is_said(trained: Run) -> None:
    with pytest.raises(ConfigError, match="a network alone"):
        robustness(nn.Linear(2, 2))
    x = np.random.default_rng(0).normal(size=(30, 8, 8)).astype(np.float32)
    data = from_arrays(x, np.arange(30) % 10, x, np.arange(30) % 10)
    with pytest.raises(DataError, match="images of the test split are not pixels; got values from -"):
        robustness(trained.student(), data)


def test_the_command_prints_and_writes(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    robust(trained.path, "last", 40, [])
    printed = capsys.readouterr().out
    found = json.loads((trained.path / "robustness.json").read_text())
    assert found["checkpoint"] == "last"
    assert found["images"] == 40
    assert f"clean {100 * found['clean']:.2f} %" in printed
    assert "8/255" in printed
    for name, values in found["corruptions"].items():
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert line.split()[1::2] == [f"{100 * value:.2f}" for value in values]
