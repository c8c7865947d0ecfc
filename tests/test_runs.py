"""A run as an object: what it reads, and how it says that a file is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck
from limbeck.errors import CheckpointError, LimbeckError, RunError

SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 32, "precision": "fp32", "threads": 1, "log_every": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> limbeck.Run:
    data = {"name": "digits", "train_size": 160}
    path = tmp_path_factory.mktemp("runs") / "run"
    return limbeck.train("cnn", data, output=path, train=SHORT, latency=False, quiet=True)


@pytest.fixture
def copied(finished: limbeck.Run, tmp_path: Path) -> limbeck.Run:
    shutil.copytree(finished.path, tmp_path / "run")
    return limbeck.Run(tmp_path / "run")


def test_what_a_run_tells(finished: limbeck.Run) -> None:
    assert repr(finished) == f"Run({str(finished.path)!r})"
    assert (finished.status, finished.info["label"], finished.config.train.epochs) == (
        "finished", "scratch", 2,
    )  # fmt: skip
    assert finished.accuracy == finished.results["last"]["test"]["accuracy"]
    assert finished.inputs().size == (8, 8)
    assert len(finished.metrics("train")) == 10
    assert len(finished.metrics("validation")) == 2
    assert len(finished.metrics()) == 12


def test_both_students_are_whole_and_at_rest(finished: limbeck.Run) -> None:
    images = torch.randn(2, 1, 8, 8)
    for checkpoint in ("last", "best"):
        student = finished.student(checkpoint)
        assert not student.training
        assert student(images).shape == (2, 10)


def test_a_line_still_being_written_is_left_out(copied: limbeck.Run) -> None:
    rows = copied.metrics()
    with (copied.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step"')
    assert copied.metrics() == rows
    (copied.path / "metrics.jsonl").unlink()
    assert copied.metrics() == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", b"{}", r"run\.json is damaged: .*status.* is missing"),
        ("run.json", b"[]", r"run\.json is damaged: it is not a mapping"),
        ("run.json", b"\xff\xfe", r"run\.json is damaged"),
        ("results.json", b'{"last"', r"results\.json is damaged"),
        ("results.json", b'{"last": {}}', r"best is missing"),
        ("model.json", b"{}", r"model, classes, channels"),
        ("model.json", None, r"has no model\.json; got a run that is finished"),
        ("config.yaml", b"\xff\xfe", r"config\.yaml is damaged"),
        ("config.yaml", b"data: [", r"config\.yaml is damaged"),
        ("config.yaml", b"5", r"config\.yaml is damaged: it holds no keys"),
        ("metrics.jsonl", b"words\n", r"metrics\.jsonl is damaged"),
        ("student.safetensors", b"words", r"not a whole safetensors file"),
    ],
)
def test_damage_is_named(copied: limbeck.Run, name: str, content: bytes | None, says: str) -> None:
    if content is None:
        (copied.path / name).unlink()
    else:
        (copied.path / name).write_bytes(content)

    def read() -> None:
        _ = copied.status, copied.results, copied.config, copied.metrics(), copied.student()

    with pytest.raises(LimbeckError, match=says):
        read()


def test_a_card_that_names_no_network(copied: limbeck.Run) -> None:
    card = copied.card()
    (copied.path / "model.json").write_text(json.dumps({**card, "model": 5}))
    with pytest.raises(RunError, match="not a name with options"):
        copied.student()


def test_best_weights_that_are_gone(copied: limbeck.Run) -> None:
    (copied.path / "best.safetensors").unlink()
    assert copied.student() is not None
    with pytest.raises(CheckpointError, match=r"cannot read weights .*best\.safetensors"):
        copied.student("best")
