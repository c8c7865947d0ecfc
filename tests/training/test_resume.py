"""A run killed at any instant goes on to the same numbers as one never killed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from tests.running import Running, limbeck, write_config

pytestmark = pytest.mark.slow

TIMING = ("images_per_second", "memory_mb")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    config = write_config(folder / "teacher.yaml", student={"name": "cnn"}, train={"epochs": 8})
    done = limbeck("train", config, "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def config(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that has a state: augmentation, mixing, shuffling, momentum, schedule, averaging, accumulation.

    The student is wide enough that its checkpoint takes a while to write.
    """
    return write_config(
        tmp_path_factory.mktemp("config") / "run.yaml",
        teacher={"run": str(teacher)},
        methods=["bickd"],
        augment={"crop_padding": 1, "flip": True, "mixup": 0.2, "cutmix": 0.5},
        student={"name": "mlp", "options": {"widths": [1024, 512]}},
        train={
            "epochs": 6,
            "accumulate": 2,
            "ema": 0.9,
            "clip": 5.0,
            "checkpoint_every": 3,
            "evaluate_every": 4,
            "optimizer": {"learning_rate": 0.02},
        },
    )


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbs."""
    path = tmp_path_factory.mktemp("whole") / "run"
    done = limbeck("distill", config, "--output", path)
    assert done.returncode == 0, done.stderr
    return path


def rows(path: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]


def assert_same(path: Path, whole: Path) -> None:
    for name in ("student.safetensors", "best.safetensors"):
        assert (path / name).read_bytes() == (whole / name).read_bytes(), name
    assert rows(path) == rows(whole)
    mine, theirs = (json.loads((p / "results.json").read_text()) for p in (path, whole))
    assert (mine["last"], mine["best"]) == (theirs["last"], theirs["best"])
    assert not list(path.rglob("*.tmp"))


def wait_for(process: Running, there: Path) -> None:
    while not there.exists() and process.poll() is None:
        time.sleep(0.005)


def test_killed_at_random_moments(config: Path, whole: Path, tmp_path: Path) -> None:
    path, dice, kills = tmp_path / "run", random.Random(7), 0
    words: list[object] = ["distill", config, "--output", path]
    while True:
        process = Running(*words)
        wait_for(process, path / "run.json")
        lines = len(rows(path)) if (path / "metrics.jsonl").exists() else 0
        enough = lines + dice.randint(3, 14)
        while process.poll() is None and kills < 5:
            if (path / "metrics.jsonl").exists() and (path / "metrics.jsonl").read_bytes().count(
                b"\n"
            ) >= enough:
                time.sleep(dice.uniform(0, 0.02))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        _, errors = process.communicate()
        words = ["distill", "--resume", path]
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            break
    assert kills >= 3
    assert_same(path, whole)


def test_killed_while_a_checkpoint_is_written(config: Path, whole: Path, tmp_path: Path) -> None:
    path, caught = tmp_path / "run", 0
    words: list[object] = ["distill", config, "--output", path]
    for _ in range(12):
        process = Running(*words)
        wait_for(process, path / "run.json")
        while process.poll() is None and caught < 3:
            if any((path / "checkpoints").glob(".last.pt.*.tmp")):
                process.send_signal(signal.SIGKILL)
                break
        _, errors = process.communicate()
        words = ["distill", "--resume", path]
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            break
        caught += bool(list((path / "checkpoints").glob(".last.pt.*.tmp")))
    assert caught >= 1, "no kill hit a write"
    assert_same(path, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(number: signal.Signals, config: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = Running("distill", config, "--output", path)
    wait_for(process, path / "metrics.jsonl")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number, errors
    assert f"--resume {path}" in errors
    assert "Traceback" not in errors
    assert json.loads((path / "run.json").read_text())["status"] == "interrupted"
    done = limbeck("distill", "--resume", path)
    assert done.returncode == 0, done.stderr
    assert_same(path, whole)


def test_a_finished_run_says_so(whole: Path, config: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in whole.iterdir()}
    again = limbeck("distill", "--resume", whole)
    assert again.returncode == 0
    assert "already finished" in again.stdout
    anew = limbeck("distill", config, "--output", whole)
    assert anew.returncode == 2
    assert "already finished" in anew.stderr
    assert before == {p.name: p.stat().st_mtime_ns for p in whole.iterdir()}


def test_another_teacher_is_refused(config: Path, whole: Path, teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = Running("distill", config, "--output", path)
    wait_for(process, path / "metrics.jsonl")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    other = tmp_path / "teacher"
    shutil.copytree(teacher, other)
    shutil.copy(other / "best.safetensors", other / "student.safetensors")
    trained = limbeck(
        "train", write_config(tmp_path / "t.yaml", student={"name": "cnn"}, seed=5), "-o", tmp_path / "t"
    )
    assert trained.returncode == 0
    settings = (path / "config.yaml").read_text().replace(str(teacher), str(tmp_path / "t"))
    (path / "config.yaml").write_text(settings)
    done = limbeck("distill", "--resume", path)
    assert done.returncode == 2
    assert "another teacher" in done.stderr


def test_another_rate_is_refused_and_another_log_interval_is_not(
    config: Path, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    process = Running("distill", config, "--output", path)
    wait_for(process, path / "metrics.jsonl")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    written = (path / "config.yaml").read_text()
    assert "learning_rate: 0.02" in written
    (path / "config.yaml").write_text(written.replace("learning_rate: 0.02", "learning_rate: 0.01"))
    done = limbeck("distill", "--resume", path)
    assert done.returncode == 2
    assert "another configuration" in done.stderr
    (path / "config.yaml").write_text(written.replace("checkpoint_every: 3", "checkpoint_every: 50"))
    done = limbeck("distill", "--resume", path)
    assert done.returncode == 0, done.stderr
    assert (path / "student.safetensors").read_bytes() == (whole / "student.safetensors").read_bytes()
