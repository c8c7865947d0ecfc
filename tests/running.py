"""Helpers for tests that start real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
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
    *words: object, cwd: Path | None = None, timeout: float = 900, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a process of its own; libraries are loaded already unless it is to be fresh."""
    if not fresh:
        return _forked(words, [{}], cwd, timeout)
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
    """Run a command in two processes (gloo) to its end, started as ``torchrun`` would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return _forked(words, [{**group, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(2)], None, 600)


@cache
def _zygote() -> subprocess.Popen[str]:
    """The process that forks; one for each process of the tests, for as long as that lives."""
    line = [sys.executable, str(ROOT / "tests" / "zygote.py")]
    return subprocess.Popen(
        line, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def _forked(
    words: Sequence[object], variables: Sequence[dict[str, str]], cwd: Path | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """One process for each of the variables; when one fails or time is up, the others are killed."""
    zygote = _zygote()
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            {
                "words": [str(word) for word in words],
                "cwd": str(cwd or Path.cwd()),
                "environment": {**environment(), **more},
                "out": f"{folder}/{i}.out",
                "err": f"{folder}/{i}.err",
            }
            for i, more in enumerate(variables)
        ]
        zygote.stdin.write(json.dumps(jobs) + "\n")
        alive = set(json.loads(zygote.stdout.readline()))
        everyone = sorted(alive)
        watch = threading.Timer(timeout, _kill, [alive])
        watch.start()
        code = 0
        while alive:
            pid, ended = json.loads(zygote.stdout.readline())
            alive.discard(pid)
            if ended:
                code = code or ended
                _kill(alive)
        in_time = watch.is_alive()
        watch.cancel()
        out, err = (
            "".join(Path(job[name]).read_text() for job in jobs if Path(job[name]).is_file())
            for name in ("out", "err")
        )
    if not in_time:
        raise subprocess.TimeoutExpired(everyone, timeout, out, err)
    return subprocess.CompletedProcess(command(*words), code, out, err)


def _kill(processes: Collection[int]) -> None:
    for pid in tuple(processes):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def write_config(path: Path, **sections: object) -> Path:
    """Write ``SMALL`` with sections merged in, one level deep."""
    values: dict[str, object] = dict(SMALL)
    for name, section in sections.items():
        old = values.get(name)
        values[name] = {**old, **section} if isinstance(old, dict) and isinstance(section, dict) else section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path
