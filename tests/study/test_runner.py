"""Studies in real processes: killed workers, killed parents, interrupts, failures; the numbers stay the same."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.running import Running, limbeck

pytestmark = pytest.mark.slow

STUDY: dict[str, Any] = {
    "name": "tiny",
    "base": {
        "data": {"name": "digits", "train_size": 320},
        "train": {"epochs": 1, "batch_size": 32, "precision": "fp32", "log_every": 1},
        "latency": False,
    },
    "teacher": {"seeds": [0], "set": {"train.epochs": 4, "data.train_size": None}},
    "pairs": {"p": {"student": {"name": "cnn", "options": {"widths": [4, 8]}}, "teacher": "mlp"}},
    "methods": ["scratch", "kd"],
    "seeds": [0, 1],
}


def write(path: Path, **more: Any) -> Path:
    path.write_text(yaml.safe_dump({**STUDY, **more}))
    return path


def children(process: Running) -> list[int]:
    words = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until(what: Any, process: Running | None = None, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def training(folder: Path, lines: int) -> bool:
    """Whether a run has written so many metric lines and is not finished."""
    path = folder / "metrics.jsonl"
    return path.is_file() and path.read_text().count("\n") >= lines and not (folder / "results.json").exists()


def numbers(folder: Path) -> dict[str, Any]:
    """All that must not hang on what happened on the way."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("student.safetensors")):
        found[str(path.relative_to(folder))] = path.read_bytes()
    study = json.loads((folder / "study.json").read_text())
    for row in study["rows"]:
        assert row["status"] == "finished", row
        found[row["key"]] = (row["last"], row["best"], row["steps"], row["teacher"])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with runs of a few seconds that nobody disturbs, on one worker."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder / "tiny.yaml", base={**STUDY["base"], "train.epochs": 20})
    done = limbeck("study", folder / "tiny.yaml", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_tiny_study(tmp_path: Path) -> None:
    done = limbeck("study", write(tmp_path / "tiny.yaml"), "-o", tmp_path / "out", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "[5/5]" in done.stderr
    out = tmp_path / "out"
    study = json.loads((out / "study.json").read_text())
    assert [(r["kind"], r["method"], r["seed"], r["status"]) for r in study["rows"]] == [
        ("teacher", "mlp", 0, "finished"),
        ("student", "scratch", 0, "finished"),
        ("student", "kd", 0, "finished"),
        ("student", "scratch", 1, "finished"),
        ("student", "kd", 1, "finished"),
    ]
    (comparison,) = study["comparisons"]
    scratch, kd = comparison["methods"]
    for r in study["rows"][1:]:
        results = json.loads((out / r["path"] / "results.json").read_text())
        member = kd if r["method"] == "kd" else scratch
        assert member["values"][str(r["seed"])] == results["last"]["test"]["accuracy"]
        assert not (out / r["path"] / "checkpoints").exists()
    gain = [kd["values"][s] - scratch["values"][s] for s in ("0", "1")]
    assert kd["against"]["scratch"]["mean"] == pytest.approx(sum(gain) / 2)
    assert set(kd["against"]) == {"scratch"}
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert float(rows[2]["last_accuracy"]) == kd["values"]["0"]
    assert "toprule" in (out / "results.tex").read_text()

    times = {path: path.stat().st_mtime_ns for path in out.rglob("student.safetensors")}
    again = limbeck("study", out)  # from its own folder: nothing is left to do
    assert again.returncode == 0, again.stderr
    assert "[" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("student.safetensors")} == times

    before = (out / "study.json").read_text()
    (out / "study.json").unlink()
    moved = out.rename(tmp_path / "moved")
    computed = limbeck("study", moved, "--results")
    assert computed.returncode == 0, computed.stderr
    assert (moved / "study.json").read_text() == before
    page = limbeck("report", moved, "-o", tmp_path / "report.html")
    assert page.returncode == 0, page.stderr
    assert "p" in (tmp_path / "report.html").read_text()


def test_a_killed_worker_is_replaced_and_its_run_resumed(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = Running("study", whole / "tiny.yaml", "-o", out, "--workers", 2)
    victims = [out / "runs/p/default/kd/seed0", out / "runs/p/default/scratch/seed1"]
    killed = 0
    for run in victims:
        wait_until(lambda run=run: training(run, 40), process)
        for pid in children(process):  # the worker that holds this run's lock
            if any(os.path.realpath(fd) == str(run / "run.lock") for fd in Path(f"/proc/{pid}/fd").iterdir()):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    assert killed == len(victims)
    assert said.count("was killed by SIGKILL; it is tried again") == killed
    assert numbers(out) == numbers(whole / "out")


def test_a_worker_that_dies_over_the_same_run_again_fails_that_run_alone(tmp_path: Path) -> None:
    code = tmp_path / "fatal.py"
    code.write_text("import os, signal\n\n\ndef net(**options):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    pairs = {**STUDY["pairs"], "fatal": {"student": {"name": "fatal:net"}, "teacher": "mlp"}}
    study = write(tmp_path / "tiny.yaml", pairs=pairs, seeds=[0])
    words = ["study", study, "-o", "out", "--allow-code", "fatal:net"]
    done = limbeck(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "2 of 5 runs failed" in done.stderr
    assert done.stderr.count("FAILED: its worker was killed by SIGKILL, 2 times") == 2
    rows = json.loads((tmp_path / "out" / "study.json").read_text())["rows"]
    status = {(r["pair"], r["method"]): r["status"] for r in rows if r["kind"] == "student"}
    assert status == {
        ("p", "scratch"): "finished",
        ("p", "kd"): "finished",
        ("fatal", "scratch"): "failed",
        ("fatal", "kd"): "failed",
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_parent_leaves_no_worker_and_the_study_goes_on(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["study", whole / "tiny.yaml", "-o", out]
    process = Running(*words)
    run = out / "runs/p/default/kd/seed0"
    wait_until(lambda: training(run, 40), process)
    workers = children(process)
    assert workers
    process.send_signal(number)
    _, said = process.communicate(timeout=400)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert f"stopped by {number.name}" in said
        assert f"limbeck study {out}" in said
        assert "Traceback" not in said
    wait_until(lambda: not any(map(alive, workers)), seconds=300)
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    done = limbeck(*words)
    assert done.returncode == 0, done.stderr
    assert numbers(out) == numbers(whole / "out")


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    wild = {"methods": ["kd"], "set": {"train.optimizer.learning_rate": 1e30}}
    methods = {
        "wild": wild,
        "taught by it": {"methods": ["kd"], "teacher": {"method": "wild"}},
        "scratch": None,
    }
    study = write(tmp_path / "tiny.yaml", methods=methods, seeds=[0])
    done = limbeck("study", study, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "2 of 4 runs failed" in done.stderr
    assert "the loss is not finite" in done.stderr
    rows = {r["method"]: r for r in json.loads((tmp_path / "out" / "study.json").read_text())["rows"]}
    assert rows["wild"]["status"] == "failed"
    assert "the loss is not finite" in rows["wild"]["error"]
    assert "its teacher runs/p/default/wild/seed0 failed" in rows["taught by it"]["error"]
    assert rows["scratch"]["status"] == "finished"


def test_two_parents_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.errors import RunError
    from limbeck.study import pool

    monkeypatch.setattr(pool, "PATIENCE", 0.1)
    with (
        pool.alone(tmp_path),
        pytest.raises(RunError, match="another process is running the study"),
        pool.alone(tmp_path),
    ):
        pass


def test_a_changed_study_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    study = write(tmp_path / "tiny.yaml", methods=["scratch"])
    assert limbeck("study", study, "-o", tmp_path / "out").returncode == 0
    done = limbeck("study", study, "base.train.batch_size=16", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "2 of 2 folders hold runs of another configuration" in done.stderr


def test_a_dry_run_trains_nothing(tmp_path: Path) -> None:
    done = limbeck("study", write(tmp_path / "tiny.yaml"), "-o", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "1 teacher runs, 0 finished" in done.stdout
    assert "4 student runs, 0 finished" in done.stdout
    assert "min left with 1 worker" in done.stdout
    assert not (tmp_path / "out").exists()
