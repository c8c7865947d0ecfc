"""What a worker keeps between runs, and what it must not keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.config import RunConfig, parse
from limbeck.study.worker import Relay, Workshop
from limbeck.training.progress import Progress
from limbeck.training.session import execute

TRAIN = {"epochs": 1, "batch_size": 64, "precision": "fp32", "threads": 1, "guards": "warn"}


def run(output: Path, **more: Any) -> RunConfig:
    data = {"name": "digits", "train_size": 320}
    student = {"name": "cnn", "options": {"widths": [4, 8]}}
    values = {"data": data, "student": student, "train": TRAIN, "latency": False, "output": str(output)}
    return parse({**values, **more})


def quiet() -> Progress:
    return Progress(1, "", quiet=True)


def test_what_runs_share_changes_none_of_them(tmp_path: Path) -> None:
    """A run with a teacher that another run has used, looked into and asked, against the same run alone."""
    shop = Workshop()
    shop.run(run(tmp_path / "teacher", student="resnet8"), quiet())
    taught = {"teacher": {"run": str(tmp_path / "teacher")}}
    shop.run(run(tmp_path / "at", methods=["at"], **taught), quiet())
    fewer = {"teacher": {**taught["teacher"], "cache": "memory", "budget": 64, "rest": "leave_out"}}
    shop.run(run(tmp_path / "fewer", methods=["kd"], **fewer), quiet())
    shop.run(run(tmp_path / "shared", methods=["kd"], **taught), quiet())
    execute(run(tmp_path / "alone", methods=["kd"], **taught), progress=quiet())
    shared, alone = (tmp_path / name / "student.safetensors" for name in ("shared", "alone"))
    assert shared.read_bytes() == alone.read_bytes()


def test_data_and_teacher_are_read_once_and_a_teacher_is_asked_once(tmp_path: Path) -> None:
    shop = Workshop()
    shop.run(run(tmp_path / "teacher", student="mlp"), quiet())
    first, second = (
        run(tmp_path / name, methods=["kd"], teacher={"run": str(tmp_path / "teacher"), "cache": "memory"})
        for name in ("first", "second")
    )
    data = shop.data(first)
    teacher = shop.teacher(first, data)
    assert teacher is not None
    shop.run(first, quiet())
    answers = dict(teacher._answers)
    assert {id(key[0]) for key in answers if isinstance(key, tuple)} == {
        id(split) for split in (data.train, data.validation, data.test)
    }
    shop.run(second, quiet())
    assert shop.data(second) is data
    assert shop.teacher(second, data) is teacher
    assert teacher._answers.keys() == answers.keys()
    assert all(teacher._answers[key] is answers[key] for key in answers)


def test_checkpoints_of_finished_runs_go_unless_they_are_wanted(tmp_path: Path) -> None:
    Workshop().run(run(tmp_path / "a"), quiet())
    Workshop(keep_checkpoints=True).run(run(tmp_path / "b"), quiet())
    assert not (tmp_path / "a" / "checkpoints").exists()
    assert (tmp_path / "b" / "checkpoints" / "last.pt").is_file()


def test_progress_is_told_now_and_then() -> None:
    told: list[dict[str, Any]] = []
    relay = Relay(told.append, every=0.0)
    relay.skip(3)
    relay.advance(2, "loss 0.5")
    assert told == [{"event": "progress", "step": 5, "text": "loss 0.5"}]
    rare = Relay(told.append, every=1e9)
    rare.advance(1)
    assert len(told) == 1
