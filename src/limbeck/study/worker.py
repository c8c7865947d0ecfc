"""A worker process of a study: takes runs as JSON lines on standard input, answers on standard output.

It lives as long as there are runs, so PyTorch is imported once, and data and teachers are kept between runs
that share them. When its parent is gone, standard input ends and the worker stops after saving its run.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ..training.progress import Progress

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..data import Data
    from ..runs import Run
    from ..teachers import LiveTeacher

T = TypeVar("T")

DATA, TEACHERS = 4, 8
"""How many data sets and teachers a worker keeps."""


class Relay(Progress):
    """Passes a run's progress on, at most every ``every`` seconds, instead of showing it."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], every: float = 0.5) -> None:
        super().__init__(1, "", quiet=True, every=every)
        self.tell, self._told = tell, time.monotonic()

    def advance(self, steps: int = 1, text: str | None = None, title: str | None = None) -> None:
        self.done += steps
        self._text = self._text if text is None else text
        if time.monotonic() - self._told >= self.every:
            self._told = time.monotonic()
            self.tell({"event": "progress", "step": self.done, "text": self._text})

    def skip(self, steps: int) -> None:
        self.done += steps


class Shelf:
    """Keeps the few things last asked for.

    Example:
        >>> shelf = Shelf(1)
        >>> shelf.get("a", lambda: 1), shelf.get("a", lambda: 2), shelf.get("b", lambda: 3)
        (1, 1, 3)
        >>> shelf.get("a", lambda: 4)
        4
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._things: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The thing of this key, made if it is not kept."""
        if key not in self._things:
            self._things[key] = make()
            while len(self._things) > self.size:
                self._things.popitem(last=False)
        self._things.move_to_end(key)
        thing: T = self._things[key]
        return thing


class Workshop:
    """Trains the runs of a study in this process; shares data and teachers between them."""

    def __init__(self, allow_code: Collection[str] = (), keep_checkpoints: bool = False) -> None:
        self.allow_code, self.keep_checkpoints = tuple(allow_code), keep_checkpoints
        self._data, self._teachers = Shelf(DATA), Shelf(TEACHERS)

    def run(self, config: RunConfig, progress: Progress) -> Run:
        """A finished run of this configuration: as it lies, resumed, or trained now."""
        from ..training.session import ensure

        data = self.data(config)
        teacher = self.teacher(config, data)
        run = ensure(config, progress, teacher=teacher, data=data, allow_code=self.allow_code)
        if not self.keep_checkpoints:
            shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
        return run

    def data(self, config: RunConfig) -> Data:
        """The run's data, read once."""
        from ..data import load

        return self._data.get(config.data.model_dump_json(), lambda: load(config.data))

    def teacher(self, config: RunConfig, data: Data) -> LiveTeacher | None:
        """The run's teacher, which remembers what it said about whole splits; None where there is none."""
        from ..taps import Taps
        from ..tasks import task_of
        from ..training.teaching import teacher_from

        source = config.teacher
        if source is None or (source.run is None and source.model is None):
            return None
        key = source.model_dump_json() + config.data.model_dump_json()
        live = self._teachers.get(key, lambda: teacher_from(source, data, task_of(data), self.allow_code))
        live.taps = Taps()  # the last run's method may have looked into other layers
        return live


def attempt(shop: Workshop, config: RunConfig, progress: Progress) -> dict[str, Any]:
    """Train one run; whatever goes wrong is an answer, not the end of the worker."""
    from ..errors import LimbeckError
    from ..training.trainer import RunInterrupted

    try:
        shop.run(config, progress)
    except RunInterrupted:
        return {"event": "interrupted"}
    except LimbeckError as error:
        return {"event": "failed", "error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"event": "failed", "error": f"{type(error).__name__}: {error}"}
    return {"event": "finished"}


def main() -> None:
    """Serve one parent until it closes standard input."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever is printed must not get between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock, suppress(BrokenPipeError):  # a parent that is gone: the listener stops the run
            out.write(json.dumps(message) + "\n")

    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
    busy, gone = threading.Event(), threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, jobs, busy, gone), daemon=True).start()
    from ..config import parse

    first = jobs.get()
    if first is None:
        return
    shop = Workshop(first["allow_code"], first["keep_checkpoints"])
    while (job := jobs.get()) is not None:
        busy.set()
        if gone.is_set():
            return
        answer = attempt(shop, parse(job["config"]), Relay(tell))
        busy.clear()
        tell({**answer, "key": job["key"]})
        if answer["event"] == "interrupted":
            return


def _listen(
    source: IO[str], jobs: queue.Queue[dict[str, Any] | None], busy: threading.Event, gone: threading.Event
) -> None:
    for line in source:
        jobs.put(json.loads(line))
    gone.set()
    jobs.put(None)
    if busy.is_set():  # the parent is gone: save and stop
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
