"""Helpers for tests that start real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent

SMALL = {
    "data": {"name": "digits", "train_size": 320},
    "student": {"name": "cnn", "options": {"widths": [4, 8]}},
    "train": {"epochs": 2, "batch_size": 32, "precision": "fp32", "threads": 1, "log_every": 1},
}
"""A configuration that trains in a second or two."""


def environment() -> dict[str, str]:
    """One thread each, no GPU, and warnings of the interpreter on."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }


def command(*words: object) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, "-m", "limbeck", *map(str, words)]


def limbeck(
    *words: object, cwd: Path | None = None, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def torchrun(*words: object) -> list[str]:
    """A command line that starts two processes (gloo): ``-m limbeck ...`` or a script."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [*launcher, *map(str, words)]


def launch(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout in two processes to its end."""
    return subprocess.run(
        torchrun("-m", "limbeck", *words),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def write_config(path: Path, **sections: object) -> Path:
    """Write ``SMALL`` with sections merged in, one level deep."""
    values: dict[str, object] = dict(SMALL)
    for name, section in sections.items():
        old = values.get(name)
        values[name] = {**old, **section} if isinstance(old, dict) and isinstance(section, dict) else section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path
