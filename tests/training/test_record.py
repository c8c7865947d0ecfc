"""The run's folder: who may write it, what it remembers, and how metrics go back to a checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.running import environment

from limbeck.errors import RunError
from limbeck.training import record
from limbeck.training.record import Record


@pytest.fixture
def folder(tmp_path: Path) -> Record:
    made = Record(tmp_path / "deep" / "run")
    made.open()
    return made


def test_another_process_is_kept_out_until_the_first_is_gone(folder: Record) -> None:
    script = (
        "import sys; from pathlib import Path; from limbeck.errors import RunError\n"
        "from limbeck.training.record import Record\n"
        f"try: Record(Path({str(folder.path)!r})).open()\n"
        "except RunError as error: print(error); sys.exit(2)\n"
    )

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
        )

    refused = other()
    assert (refused.returncode, "being written by another process" in refused.stdout) == (2, True)
    folder.close()
    folder.close()
    assert other().returncode == 0


def test_opening_clears_what_a_killed_writer_left(folder: Record) -> None:
    folder.close()
    leftovers = [folder.path / ".results.json.ab12.tmp", folder.checkpoint.parent / ".last.pt.cd34.tmp"]
    for path in leftovers:
        path.write_bytes(b"half")
    folder.checkpoint.write_bytes(b"whole")
    folder.open()
    assert not any(path.exists() for path in leftovers)
    assert folder.checkpoint.read_bytes() == b"whole"
    folder.close()


def test_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot write"):
            Record(path).open()
    assert (tmp_path / "file").read_text() == "mine"


def test_metrics_go_back_to_the_checkpoint(folder: Record) -> None:
    metrics = folder.path / "metrics.jsonl"
    assert folder.metrics_size() == 0
    folder.cut_metrics(0)
    for step in range(3):
        folder.append({"step": step, "text": "größer"})
    size = folder.metrics_size()
    assert size == metrics.stat().st_size
    before = metrics.read_bytes()
    folder.append({"step": 3})
    with metrics.open("a") as file:
        file.write('{"step": 4, "ha')
    folder.cut_metrics(size)
    assert metrics.read_bytes() == before
    folder.cut_metrics(size + 100)
    assert metrics.read_bytes() == before
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [0, 1, 2]


def test_a_metrics_file_that_cannot_be_written(folder: Record) -> None:
    (folder.path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*metrics\.jsonl"):
        folder.append({"step": 1})


def git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *settings, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_git_state_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.chdir(tmp_path)
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert record.environment()["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("x = 2\n")
    assert record.environment()["git"] == {"commit": commit, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert record.environment()["git"] is None


def test_the_command_is_kept_without_the_machines_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/limbeck", "train", "c.yaml", "seed=3"])
    found = record.environment()
    assert found["command"] == ["limbeck", "train", "c.yaml", "seed=3"]
    assert json.loads(json.dumps(found)) == found
    assert found["threads"] >= 1
