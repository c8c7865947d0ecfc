"""A run on a disk that is really too small ends in one message, and goes on once there is room."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.running import limbeck, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, too small for two checkpoints of the run below."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_nothing_is_lost(disk: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "c.yaml", student={"name": "mlp", "options": {"widths": [256]}}, train={"epochs": 4}
    )
    assert limbeck("train", config, "-o", tmp_path / "whole").returncode == 0
    run = disk / "run"
    done = limbeck("train", config, "-o", run)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("limbeck: ") == 1
    assert "no space left on the disk. Fix: free some space, then resume the run" in done.stderr
    assert "Traceback" not in done.stderr
    assert (run / "checkpoints" / "last.pt").is_file()
    assert not list(disk.rglob("*.tmp"))
    assert json.loads((run / "run.json").read_text())["status"] in ("failed", "running")
    still = limbeck("train", "--resume", run)
    assert still.returncode == 2
    assert "no space left" in still.stderr
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    again = limbeck("train", "--resume", run)
    assert again.returncode == 0, again.stderr
    for name in ("student.safetensors", "best.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
