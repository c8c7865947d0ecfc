"""Worker processes on this machine: one single-threaded process for each run, and what happens when one dies."""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

from ..errors import RunError
from ..files import cannot_write
from .grid import Cell

ATTEMPTS = 2
"""How often a run is given to a worker that dies over it."""

PATIENCE = 120.0
"""Seconds that a stopped worker has to save its run."""


class Event(NamedTuple):
    """What happened to a run.

    Attributes:
        kind: ``started``, ``progress``, ``finished``, ``failed`` or ``lost`` (its worker died; it is tried again).
        cell: which run.
        worker: number of the worker.
        step: steps done, for ``progress``.
        text: the loss, or the error.
    """

    kind: str
    cell: Cell
    worker: int
    step: int = 0
    text: str = ""


@runtime_checkable
class Pool(Protocol):
    """Trains runs; each may wait for its teacher's."""

    def run(self, cells: Sequence[Cell], tell: Callable[[Event], None]) -> None:
        """Train all of them; returns when each has finished or failed."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class Queue:
    """Runs that wait; gives out those whose teacher is ready, and fails those whose teacher failed.

    Args:
        cells: what is to be done, in the preferred order.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.waiting = {cell.key: cell for cell in cells}
        self.going: dict[str, Cell] = {}
        self.failed: set[str] = set()

    def take(self) -> Cell | None:
        """The next run that can start; in order, so that methods that are compared run side by side."""
        open_ = self.waiting.keys() | self.going.keys()
        cell = next((cell for cell in self.waiting.values() if cell.teacher not in open_), None)
        if cell is None:
            return None
        self.going[cell.key] = self.waiting.pop(cell.key)
        return cell

    def back(self, cell: Cell) -> None:
        """To be done again, before all others."""
        self.going.pop(cell.key, None)
        self.waiting = {cell.key: cell, **self.waiting}

    def done(self, cell: Cell, ok: bool) -> list[Cell]:
        """Strike a run off; returns those that can never start because it failed."""
        self.going.pop(cell.key, None)
        if ok:
            return []
        self.failed.add(cell.key)
        lost: list[Cell] = []
        while orphans := [c for c in self.waiting.values() if c.teacher in self.failed]:
            for orphan in orphans:
                self.failed.add(self.waiting.pop(orphan.key).key)
            lost += orphans
        return lost

    def __bool__(self) -> bool:
        return bool(self.waiting or self.going)


class Worker:
    """One process and the pipes to it."""

    def __init__(self, number: int, log: IO[bytes], options: dict[str, Any], lock: int | None) -> None:
        self.number = number
        self.cell: Cell | None = None
        self._buffer = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "limbeck.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C is for the parent, which tells the workers
            pass_fds=() if lock is None else (lock,),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self._write(options)

    def _write(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # it died: the end of its output tells
            self.input.write(json.dumps(message).encode() + b"\n")
            self.input.flush()

    def give(self, cell: Cell) -> None:
        """Hand over a run."""
        self.cell = cell
        self._write({"key": cell.key, "config": cell.config.model_dump(mode="json")})

    def messages(self) -> Iterator[dict[str, Any]] | None:
        """What it said since last asked; None at the end of its output."""
        chunk = os.read(self.output.fileno(), 65536)
        if not chunk:
            return None
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        return iter([json.loads(line) for line in lines])

    def end(self) -> str:
        """Wait for the end of a process whose output ended, and say how it ended."""
        with suppress(BrokenPipeError):
            self.input.close()
        self.output.close()
        code = self.process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class LocalPool:
    """Long-lived workers of this machine.

    A worker that dies is noticed at once; its run is resumed by a new one, and reported as failed when it dies
    over the same run again.

    Args:
        size: how many workers.
        logs: folder for what workers print.
        options: ``allow_code`` and ``keep_checkpoints``.
        lock: descriptor of the study's lock, which lives as long as any worker.
    """

    def __init__(self, size: int, logs: Path, options: dict[str, Any], lock: int | None = None) -> None:
        self.size, self.logs, self.options, self.lock = size, logs, options, lock
        self.workers: dict[int, Worker] = {}
        self._attempts: dict[str, int] = {}

    def _start(self, number: int) -> Worker:
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"worker-{number}.log").open("ab") as log:
            worker = Worker(number, log, self.options, self.lock)
        self.workers[number] = worker
        return worker

    def run(self, cells: Sequence[Cell], tell: Callable[[Event], None]) -> None:
        """Train all of them; returns when each has finished or failed."""
        queue = Queue(cells)
        with selectors.DefaultSelector() as selector:
            for worker in self.workers.values():
                selector.register(worker.output, selectors.EVENT_READ, worker)
            while queue:
                self._hand_out(queue, selector, tell)
                for key, _ in selector.select():
                    self._hear(key.data, queue, selector, tell)

    def _hand_out(
        self, queue: Queue, selector: selectors.BaseSelector, tell: Callable[[Event], None]
    ) -> None:
        for number in range(self.size):
            worker = self.workers.get(number)
            if worker is not None and worker.cell is not None:
                continue
            cell = queue.take()
            if cell is None:
                return
            if worker is None:
                worker = self._start(number)
                selector.register(worker.output, selectors.EVENT_READ, worker)
            worker.give(cell)
            tell(Event("started", cell, number))

    def _hear(
        self, worker: Worker, queue: Queue, selector: selectors.BaseSelector, tell: Callable[[Event], None]
    ) -> None:
        messages = worker.messages()
        if messages is None:
            selector.unregister(worker.output)
            del self.workers[worker.number]
            how = worker.end()
            if (cell := worker.cell) is None:
                return
            self._attempts[cell.key] = self._attempts.get(cell.key, 0) + 1
            if self._attempts[cell.key] < ATTEMPTS:
                queue.back(cell)
                tell(Event("lost", cell, worker.number, text=f"its worker {how}; it is tried again"))
            else:
                error = f"its worker {how}, {self._attempts[cell.key]} times; see {self.logs}"
                self._strike(cell, error, queue, worker.number, tell)
            return
        for message in messages:
            cell = worker.cell
            if cell is None:
                continue
            if message["event"] == "progress":
                tell(Event("progress", cell, worker.number, message["step"], message["text"]))
                continue
            if message["event"] == "interrupted":  # its end follows
                continue
            worker.cell = None
            self._strike(cell, message.get("error", ""), queue, worker.number, tell)

    def _strike(
        self, cell: Cell, error: str, queue: Queue, number: int, tell: Callable[[Event], None]
    ) -> None:
        tell(Event("failed" if error else "finished", cell, number, text=error))
        for orphan in queue.done(cell, ok=not error):
            tell(Event("failed", orphan, number, text=f"its teacher {cell.key} failed"))

    def close(self) -> None:
        """End idle workers; working ones save their run and stop."""
        for worker in self.workers.values():
            with suppress(BrokenPipeError):
                worker.input.close()  # at the end of its input it stops, having saved
        end = time.monotonic() + PATIENCE
        for worker in self.workers.values():
            try:
                worker.process.wait(timeout=max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.output.close()
        self.workers.clear()


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Keep other processes out of a study's folder.

    The lock is inherited by the workers: those of a parent that was killed hold it until they have saved their
    run and stopped, and a new parent waits for them.

    Raises:
        RunError: another process is at it and stays.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "study.lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise RunError(
                        f"another process is running the study in {folder}",
                        fix="wait for it, or choose another output",
                    ) from None
                time.sleep(0.2)
        yield lock
    finally:
        os.close(lock)
