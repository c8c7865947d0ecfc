"""Every method of the table trains on real digits, and a run of it that was stopped goes on to the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.config import parse
from limbeck.methods import METHODS
from limbeck.runs import Run
from limbeck.training.session import execute
from limbeck.training.trainer import RunInterrupted, Trainer

SHORT: dict[str, dict[str, Any]] = {"fsp": {"initial_epochs": 1}, "ft": {"initial_epochs": 1}}
"""Options that fit a run of a few steps, by method; what is not here runs with its defaults."""


def config(folder: Path, **more: Any) -> Any:
    values: dict[str, Any] = {
        "data": {"name": "digits", "train_size": 96},
        "student": {"name": "resnet8"},
        "output": str(folder),
        "train": {"epochs": 2, "batch_size": 32, "precision": "fp32", "log_every": 1, "threads": 1},
        "latency": False,
    }
    return parse({**values, **more})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train = {"epochs": 8, "batch_size": 32, "precision": "fp32", "threads": 1}
    model = {"name": "resnet14", "options": {}}
    return execute(config(folder, student=model, train=train, data={"name": "digits", "train_size": 320}))


ELSEWHERE = ("cwd", "asdt", "mt_pkdot", "mt_alignment", "tnet")
"""Methods for masks and for several modalities: tests/segmentation and tests/training/test_privileged.py train them."""


@pytest.mark.parametrize(
    "name", [n for n in METHODS if "tokens" not in METHODS[n].needs and n not in ELSEWHERE]
)
def test_it_trains_and_resumes(
    name: str, teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"methods": [{"name": name, **SHORT.get(name, {})}]}
    if METHODS[name].needs:
        settings["teacher"] = {"run": str(teacher.path)}
    whole = execute(config(tmp_path / "whole", **settings))
    rows = whole.metrics("train")
    assert any(term != "cross_entropy" for row in rows for term in row["terms"])
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows)

    def stopped(self: Trainer) -> None:
        if self.step == len(rows) - 2:
            self._save()
            raise RunInterrupted("stopped", fix="go on", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stopped)
        with pytest.raises(RunInterrupted):
            execute(config(tmp_path / "stopped", **settings))
    again = execute(config(tmp_path / "stopped", **settings), resume=True)
    for key, tensor in whole.student().state_dict().items():
        assert torch.equal(tensor, again.student().state_dict()[key]), key
    strip = lambda row: {k: v for k, v in row.items() if k not in ("images_per_second", "memory_mb")}
    assert [strip(row) for row in again.metrics()] == [strip(row) for row in whole.metrics()]
