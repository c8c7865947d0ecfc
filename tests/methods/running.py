"""Small runs of methods that look inside the networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.config import parse
from limbeck.models import build
from limbeck.runs import Run
from limbeck.tasks import Classification
from limbeck.teachers import LiveTeacher
from limbeck.training.session import execute
from limbeck.training.trainer import RunInterrupted, Trainer


def teacher(name: str = "resnet8") -> LiveTeacher:
    """A network with other widths and depths than the student's, at its first weights."""
    torch.manual_seed(1)
    network = build(name, classes=10, channels=1, size=(8, 8))
    return LiveTeacher(network, Classification(10))


def config(folder: Path, methods: Sequence[Any], epochs: int = 2, student: Any = None, **train: Any) -> Any:
    """A run of 5 steps an epoch; guards only warn, for the teacher is not trained."""
    loop = {"epochs": epochs, "batch_size": 32, "precision": "fp32", "log_every": 1, "threads": 1}
    return parse(
        {
            "data": {"name": "digits", "train_size": 160},
            "student": student or {"name": "cnn", "options": {"widths": [4, 8]}},
            "output": str(folder),
            "methods": list(methods),
            "train": {**loop, "guards": "warn", **train},
            "latency": False,
        }
    )


def stopped_run(monkeypatch: pytest.MonkeyPatch, step: int, settings: Any, **parts: Any) -> Run:
    """A run that was stopped after a step and went on in a new process's state."""

    def stop(self: Trainer) -> None:
        if self.step == step:
            self._save()
            raise RunInterrupted("stopped", fix="go on", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stop)
        with pytest.raises(RunInterrupted):
            execute(settings, **parts)
    torch.manual_seed(99)
    return execute(settings, resume=True, **parts)


def assert_goes_on(
    monkeypatch: pytest.MonkeyPatch, folder: Path, method: dict[str, Any], **parts: Any
) -> Run:
    """A run of this method, stopped in its middle, ends in the weights of one that was not."""
    more = parts.pop("config", {})
    whole = execute(config(folder / "whole", [method], **more), **parts)
    for step in (2, 7):
        again = stopped_run(monkeypatch, step, config(folder / str(step), [method], **more), **parts)
        mine, theirs = again.student().state_dict(), whole.student().state_dict()
        assert all(torch.equal(tensor, mine[name]) for name, tensor in theirs.items()), step
        assert [row["terms"] for row in again.metrics("train")] == [
            row["terms"] for row in whole.metrics("train")
        ]
    return whole
