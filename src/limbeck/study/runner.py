"""Runs a study: teachers once, tuning on its own seeds, then every cell; what is done is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from ..errors import LimbeckError, RunError
from ..files import write_text
from ..runs import Run
from ..training.session import same
from .config import StudyConfig
from .grid import Cell, Grid
from .pool import Event, LocalPool, Pool, alone
from .view import View


class Options(NamedTuple):
    """How runs are run; nothing here changes a number.

    Attributes:
        workers: processes at a time.
        ray: address of a Ray cluster, or ``local``; None: processes of this machine.
        allow_code: names ``module:callable`` that the user agreed to run.
    """

    workers: int = 1
    ray: str | None = None
    allow_code: tuple[str, ...] = ()


ALONE = Options()
"""One worker on this machine."""


class StudyInterrupted(LimbeckError):
    """A signal stopped the study after its runs had saved themselves.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, what: str, *, fix: str, number: int) -> None:
        super().__init__(what, fix=fix)
        self.signal = number


class Crew:
    """Trains cells on a pool of workers with one view of all; leaves out what is finished.

    Args:
        folder: for logs and the lock.
        options: how to run.
        metric: shown when a run is finished.
        keep_checkpoints: keep the training state of finished runs.
        again: the command that goes on after a stop.
        planned: runs in all, as far as that is known.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        metric: str,
        *,
        keep_checkpoints: bool = False,
        again: str,
        planned: int = 0,
    ) -> None:
        self.folder, self.options, self.metric, self.again = folder, options, metric, again
        self.planned = planned
        self.keep_checkpoints = keep_checkpoints
        self.failures: dict[str, str] = {}
        self._counted: set[str] = set()
        self._pool: Pool | None = None
        self._view: View | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the folder's lock, the workers and the view.

        Raises:
            StudyInterrupted: SIGINT or SIGTERM came; everything is saved.
            RunError: another process is at it.
        """
        with _stoppable(self.folder, self.again), alone(self.folder) as lock:
            options = {
                "allow_code": list(self.options.allow_code),
                "keep_checkpoints": self.keep_checkpoints,
            }
            if self.options.ray is not None:
                from .on_ray import RayPool

                self._pool = RayPool(self.options.ray, options)
            else:
                self._pool = LocalPool(self.options.workers, self.folder / "logs", options, lock)
            try:
                with View(self._said, self.planned) as self._view:
                    yield
            finally:
                self._pool.close()

    def train(self, cells: Sequence[Cell], teachers: Mapping[str, Cell] | None = None) -> None:
        """Train what is missing of these cells, and of the teachers that they need; returns when all is done."""
        assert self._view is not None
        assert self._pool is not None
        wanted = {cell.teacher for cell in cells} - self._counted
        needed = [cell for key, cell in (teachers or {}).items() if key in wanted]
        self._counted |= {cell.key for cell in needed}
        cells = [*needed, *cells]
        left = pending(cells)
        self._view.more(len(cells), len(cells) - len(left))
        orphans = [cell for cell in left if cell.teacher in self.failures]
        for cell in orphans:
            self._tell(Event("failed", cell, 0, text=f"its teacher {cell.teacher} failed"))
        self._pool.run([cell for cell in left if cell not in orphans], self._tell)

    def _tell(self, event: Event) -> None:
        if event.kind == "failed":
            self.failures[event.cell.key] = event.text
        assert self._view is not None
        self._view(event)

    def _said(self, cell: Cell) -> str:
        run = Run(cell.folder)
        split = "validation" if cell.kind == "tuning" else "test"
        value = run.results["last"][split].get(self.metric, float("nan"))
        return f"{split} {self.metric} {value:.4f}, {run.info['seconds']:.1f} s"


def run_study(study: StudyConfig, options: Options = ALONE) -> dict[str, str]:
    """Train what is missing of a study.

    Returns:
        The error of each run that failed, by cell key.

    Raises:
        StudyInterrupted: SIGINT or SIGTERM came; everything is saved.
        RunError: a folder holds something else, or another process is at it.
    """
    from . import tuning

    folder = study.folder
    grid = Grid(study)
    cells = grid.all()
    crew = Crew(
        folder,
        options,
        study.metrics[0],
        keep_checkpoints=study.keep_checkpoints,
        again=f"limbeck study {folder}",
        planned=len(cells) + tuning.runs(grid),
    )
    with crew.working():
        pending(
            list(grid.teachers.values()) if study.tuning else cells
        )  # a strange folder is told before all
        values = study.model_dump(mode="json", exclude={"output"})
        write_text(folder / "study.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        chosen = tuning.tune(grid, crew) if study.tuning else {}
        crew.train(grid.students(chosen), grid.teachers)
    return crew.failures


def pending(cells: Sequence[Cell]) -> list[Cell]:
    """The cells that are not finished yet.

    Raises:
        RunError: a folder holds a run of another configuration; names the first and counts the others.
    """
    left, strange = [], []
    for cell in cells:
        if not (cell.folder / "run.json").is_file():
            left.append(cell)
            continue
        found = Run(cell.folder)
        if not same(found.config, cell.config, cell.folder):
            strange.append(cell)
        elif found.status != "finished":
            left.append(cell)
    if strange:
        raise RunError(
            f"{len(strange)} of {len(cells)} folders hold runs of another configuration than the study's",
            got=f"{strange[0].folder} and {len(strange) - 1} more" if strange[1:] else strange[0].folder,
            fix="choose another output for the changed study, or remove those folders",
        )
    return left


@contextmanager
def _stoppable(folder: Path, again: str) -> Iterator[None]:
    """SIGINT and SIGTERM end the study after its workers have saved their runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers: list[int] = []

    def stop(number: int, frame: object) -> None:
        if not numbers:  # a second one does not disturb the saving
            numbers.append(number)
            raise KeyboardInterrupt

    old = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        number = numbers[0] if numbers else int(signal.SIGINT)
        raise StudyInterrupted(
            f"stopped by {signal.Signals(number).name}; what was done is saved in {folder}",
            fix=f"go on with: {again}",
            number=number,
        ) from None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
