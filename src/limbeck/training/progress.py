"""One line that says how far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import IO, Any


class Progress:
    """Progress with time left.

    On a terminal it draws a bar; elsewhere it prints a line at most every ``every`` seconds, and the last.

    Args:
        total: steps in all.
        title: what is going on.
        quiet: print nothing.
        stream: where to print; standard error by default.
        every: seconds between plain lines.

    Example:
        >>> with Progress(2, "train", stream=sys.stdout) as progress:
        ...     progress.advance(2, "loss 0.5")
        train: 2/2 (100 %), 0:00:00 left, loss 0.5
    """

    def __init__(
        self,
        total: int,
        title: str,
        *,
        quiet: bool = False,
        stream: IO[str] | None = None,
        every: float = 5.0,
    ) -> None:
        self.total, self.title, self.every = max(total, 1), title, every
        self.quiet, self.stream = quiet, stream or sys.stderr
        self.done, self._skipped, self._spoken, self._text = 0, 0, 0.0, ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._start = self._spoken = time.monotonic()
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                console=Console(file=self.stream),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, text="")
        return self

    def advance(self, steps: int = 1, text: str | None = None, title: str | None = None) -> None:
        """Say that steps were done; ``text`` is shown behind the bar until the next text."""
        self.done += steps
        self._text = self._text if text is None else text
        self.title = title or self.title
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, text=self._text, description=self.title)
            return
        now = time.monotonic()
        if not self.quiet and (now - self._spoken >= self.every or self.done >= self.total):
            self._spoken = now
            pace = (now - self._start) / max(self.done - self._skipped, 1)
            left = round(pace * max(self.total - self.done, 0))
            clock = f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02}"
            percent = min(100, 100 * self.done // self.total)
            tail = f", {self._text}" if self._text else ""
            print(
                f"{self.title}: {self.done}/{self.total} ({percent} %), {clock} left{tail}",
                file=self.stream,
                flush=True,
            )

    def skip(self, steps: int) -> None:
        """Count steps that an earlier process did: they say nothing about the time left."""
        self.done += steps
        self._skipped += steps
        if self._bar is not None and steps:
            self._bar.reset(self._task, completed=self.done, text=self._text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
