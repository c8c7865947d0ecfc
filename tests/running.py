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
from collections.abc import Sequence
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
    return _forked(words, two(), None, 600)


def two() -> list[dict[str, str]]:
    """What ``torchrun`` tells two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [{**group, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(2)]


@cache
def _zygote() -> subprocess.Popen[str]:
    """The process that forks; one for each process of the tests, for as long as that lives."""
    line = [sys.executable, str(ROOT / "tests" / "zygote.py")]
    return subprocess.Popen(
        line, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


class Running:
    """A command in forked processes, one for each of the variables, with what ``Popen`` has.

    When one fails, the others are killed. Each process of the tests has one at a time: an older one that still runs
    is killed.
    """

    current: Running | None = None

    def __init__(
        self, *words: object, variables: Sequence[dict[str, str]] = ({},), cwd: Path | None = None
    ) -> None:
        if Running.current is not None:
            Running.current.kill()
        Running.current = self
        self.returncode: int | None = None
        self._zygote, self._folder = _zygote(), tempfile.TemporaryDirectory()
        jobs = [
            {
                "words": [str(word) for word in words],
                "cwd": str(cwd or Path.cwd()),
                "environment": {**environment(), **more},
                "out": f"{self._folder.name}/{i}.out",
                "err": f"{self._folder.name}/{i}.err",
            }
            for i, more in enumerate(variables)
        ]
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(jobs) + "\n")
        self._pids = self._answer()
        self.pid, self._alive = self._pids[0], set(self._pids)
        self._end = threading.Thread(target=self._wait, daemon=True)
        self._end.start()

    def _answer(self) -> list[int]:
        assert self._zygote.stdout is not None
        found: list[int] = json.loads(self._zygote.stdout.readline())
        return found

    def _wait(self) -> None:
        code = 0
        while self._alive:
            pid, ended = self._answer()
            self._alive.discard(pid)
            if ended:
                code = code or ended
                self.send_signal(signal.SIGKILL)
        self.returncode = code

    def poll(self) -> int | None:
        """The exit code, or None."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal what still runs."""
        for pid in tuple(self._alive):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End what still runs."""
        self.send_signal(signal.SIGKILL)
        self._end.join()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Both outputs at the end; when time is up, all are killed and it is an error."""
        self._end.join(timeout)
        late = self._end.is_alive()
        self.kill()
        folder = Path(self._folder.name)
        out, err = (
            "".join(path.read_text() for path in sorted(folder.glob(f"*.{name}"))) for name in ("out", "err")
        )
        self._folder.cleanup()
        if late and timeout is not None:
            raise subprocess.TimeoutExpired(str(self._pids), timeout, out, err)
        return out, err


def _forked(
    words: Sequence[object], variables: Sequence[dict[str, str]], cwd: Path | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    process = Running(*words, variables=variables, cwd=cwd)
    out, err = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(command(*words), process.returncode, out, err)


def write_config(path: Path, **sections: object) -> Path:
    """Write ``SMALL`` with sections merged in, one level deep."""
    values: dict[str, object] = dict(SMALL)
    for name, section in sections.items():
        old = values.get(name)
        values[name] = {**old, **section} if isinstance(old, dict) and isinstance(section, dict) else section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path
