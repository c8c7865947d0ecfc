"""One view of all runs of a study: a bar for all and one for each worker, or a line for each finished run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any

from .grid import Cell
from .pool import Event


class View:
    """Shows what a pool tells.

    Args:
        result: says in a few words what came out of a finished run.
        planned: runs in all, as far as that is known.
        stream: where; standard error by default.
    """

    def __init__(
        self,
        result: Callable[[Cell], str],
        planned: int = 0,
        stream: IO[str] | None = None,
    ) -> None:
        self.total, self.done, self.result = planned, 0, result
        self._asked = 0
        self.stream = stream or sys.stderr
        self.failed = 0
        self._new = 0
        self._bars: Any = None
        self._all: Any = None
        self._each: dict[int, Any] = {}

    def __enter__(self) -> View:
        self._start = time.monotonic()
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                console=Console(file=self.stream),
            )
            self._all = self._bars.add_task("all runs", total=self.total, completed=self.done, text="")
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def note(self, text: str) -> None:
        """A line of its own."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def more(self, runs: int, done: int) -> None:
        """Further runs are asked for, of which some are done already."""
        self._asked, self.done = self._asked + runs, self.done + done
        self.total = max(self.total, self._asked)
        if self._bars is not None:
            self._bars.update(self._all, total=self.total, completed=self.done)

    def __call__(self, event: Event) -> None:
        cell = event.cell
        if event.kind in ("finished", "failed"):
            self.done, self._new = self.done + 1, self._new + 1
            self.failed += event.kind == "failed"
            said = self.result(cell) if event.kind == "finished" else f"FAILED: {event.text}"
            self.note(f"[{self.done}/{self.total}] {cell.title}: {said}; {self._left()} left")
        elif event.kind == "lost":
            self.note(f"{cell.title}: {event.text}")
        if self._bars is not None:
            self._draw(event)

    def _draw(self, event: Event) -> None:
        if event.worker not in self._each:
            self._each[event.worker] = self._bars.add_task("", total=None, text="")
        bar = self._each[event.worker]
        if event.kind == "started":
            self._bars.reset(bar, description=event.cell.title, total=None, text="starts")
        elif event.kind == "progress":
            self._bars.update(bar, completed=event.step, text=event.text)
        elif event.kind in ("finished", "failed"):
            self._bars.update(bar, description="", text="waits")
        self._bars.update(self._all, completed=self.done, text=f"{self._left()} left")

    def _left(self) -> str:
        pace = (time.monotonic() - self._start) / max(self._new, 1)
        left = round(pace * max(self.total - self.done, 0))
        return f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02}"
