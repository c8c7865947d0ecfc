"""The run record: a folder that a person can read."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..errors import RunError
from ..files import cannot_write, remove_leftovers, write_json, write_text


class Record:
    """Writes a run's folder: ``config.yaml``, ``environment.json``, ``run.json``, ``metrics.jsonl`` and more.

    Files are written atomically; metrics are appended, one JSON object a line. A lock keeps a second process
    out while the run is going.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    def open(self) -> None:
        """Take the folder for this process.

        Raises:
            RunError: another process is writing to it, or it may not be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "checkpoints").mkdir(exist_ok=True)
            self._lock = os.open(self.path / "run.lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RunError(
                f"{self.path} is being written by another process",
                fix="wait for it, or choose another output",
            ) from None
        remove_leftovers(self.path)
        remove_leftovers(self.path / "checkpoints")

    def close(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def text(self, name: str, text: str) -> None:
        """Write one text file of the record."""
        write_text(self.path / name, text)

    def json(self, name: str, value: Any) -> None:
        """Write one JSON file of the record."""
        write_json(self.path / name, value)

    def append(self, row: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise cannot_write(self.path / "metrics.jsonl", error) from None

    def metrics_size(self) -> int:
        """Bytes of metrics so far, on disk for good; kept in the checkpoint."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return 0
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path.stat().st_size

    def cut_metrics(self, size: int) -> None:
        """Drop the lines that were written after the checkpoint that a run resumes from."""
        path = self.path / "metrics.jsonl"
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)


def now() -> str:
    """The time in ISO form, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """What the run ran on: versions, hardware, threads, git state of the working folder."""
    names = ("numpy", "accelerate", "safetensors", "pydantic", "scikit-learn", "scipy", "matplotlib")
    packages: dict[str, str | None] = {}
    for name in names:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "limbeck": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "packages": packages,
        "git": _git(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _git() -> dict[str, Any] | None:
    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}
