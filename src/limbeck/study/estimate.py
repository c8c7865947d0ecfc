"""What a study is going to be: its grid, counts, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from ..config import RunConfig
from ..runs import Run
from .config import StudyConfig
from .grid import Cell, Grid
from .runner import pending
from .tuning import runs
from .worker import Shelf

STEPS, BUDGET = 8, 1.0
"""Steps timed for each method, and the seconds after which fewer must do."""

OVERHEAD = 0.5
"""Seconds of a run beside steps and evaluations: guards, files, cost."""


class Pace(NamedTuple):
    """Seconds for a step, and for an image of an evaluation."""

    step: float
    image: float


def show(study: StudyConfig, workers: int, allow_code: Collection[str] = ()) -> None:
    """Print the grid, what is done, and how long the rest may take: a few steps of each method are timed."""
    from ..cli.tables import table

    grid = Grid(study)
    cells = grid.all()
    print(f"{study.name}: {study.description}" if study.description else study.name)
    axes = {
        "pairs": [
            f"{name} ({pair.student.name} under {pair.teacher.name if pair.teacher else 'no teacher'})"
            for name, pair in study.pairs.items()
        ],
        "data settings": [point.name for point in grid.settings],
        "methods": list(grid.methods),
        "seeds": list(map(str, study.seeds)),
    }
    rows = [[name, str(len(values)), ", ".join(values)] for name, values in axes.items()]
    table("Grid", ["axis", "", "values"], rows, right=3)
    print()
    if study.tuning is None:
        left = {cell.key for cell in pending(cells)}
    else:  # what tuning will choose is not known, so students' folders cannot be compared yet
        left = {cell.key for cell in cells if not finished(cell)}
    for kind in ("teacher", "student"):
        members = [cell for cell in cells if cell.kind == kind]
        print(f"{len(members)} {kind} runs, {sum(cell.key not in left for cell in members)} finished")
    if (tuning := runs(grid)) > 0:
        print(f"{tuning} tuning runs, {tuned(grid)} finished")
    spent = expected(grid, [cell for cell in cells if cell.key in left], allow_code)
    spent += spent / max(len(left), 1) * (tuning - tuned(grid))  # a tuning run is taken for a mean one
    hours = spent / workers / 3600
    print(
        f"about {clock(hours)} left with {workers} worker{'s' if workers > 1 else ''}, if each has a core of its own"
    )


def finished(cell: Cell) -> bool:
    """Whether there is a finished run in a cell's folder."""
    return (cell.folder / "run.json").is_file() and Run(cell.folder).status == "finished"


def tuned(grid: Grid) -> int:
    """Tuning runs that are finished."""
    folder = grid.folder / "tuning"
    return sum(Run(path.parent).status == "finished" for path in folder.rglob("run.json"))


def expected(grid: Grid, cells: Sequence[Cell], allow_code: Collection[str] = ()) -> float:
    """Seconds of all these runs, one after the other."""
    from ..data import load

    shelf = Shelf(4)
    paces: dict[tuple[Any, ...], Pace] = {}
    total = 0.0
    known = {**grid.teachers, **{cell.key: cell for cell in grid.students()}}
    for cell in cells:
        data = shelf.get(cell.config.data.model_dump_json(), partial(load, cell.config.data))
        place = (cell.kind, cell.pair, cell.method, data.size, data.channels, len(data.classes))
        if place not in paces:
            teacher = None if cell.teacher is None else known[cell.teacher].config
            paces[place] = measure(cell.config, teacher, data, allow_code)
        train = cell.config.train
        free = cell.config.data_free
        count = len(data.train) if free is None else free.iterations * train.batch_size
        steps = count // train.batch_size if train.drop_last else -(-count // train.batch_size)
        looks = train.epochs if train.evaluate_every is None else steps * train.epochs // train.evaluate_every
        images = len(data.validation) * (looks + 2) + 2 * len(data.test)
        total += steps * train.epochs * paces[place].step + images * paces[place].image + OVERHEAD
    return total


def measure(
    config: RunConfig, teacher: RunConfig | None, data: Any, allow_code: Collection[str] = ()
) -> Pace:
    """Time a few steps and an evaluation of a run, under a teacher that is not trained yet."""
    import torch

    from ..data import MaskData
    from ..training.networks import feeds, make
    from ..training.session import assemble

    network = None
    if teacher is not None and config.teacher is not None:
        remembered = config.teacher.cache != "none"  # its answers are asked once for many runs: nearly free
        named = teacher.student.model_copy(update={"weights": None})
        if remembered:
            named = named.model_copy(update={"name": "mlp", "options": {"widths": [8]}})
        network = make(named, classes=len(data.classes), inputs=feeds(data), allow_code=allow_code)
    plain = config.model_copy(update={"teacher": None})
    torch.set_num_threads(config.train.threads or 1)
    if plain.sampling is not None:  # texts are written from the first batch on, lest they be forgotten
        plain = plain.model_copy(update={"sampling": plain.sampling.model_copy(update={"after": 0})})
    count = len(data.validation) if isinstance(data, MaskData) else min(len(data.validation), 1024)
    if count < len(data.validation):
        data = replace(data, validation=data.validation.subset(torch.arange(count)))
    parts = assemble(plain, teacher=network, data=data, allow_code=allow_code)
    procedure, free = parts.procedure(), config.data_free
    middle = config.train.epochs // 2  # methods that begin with less than all of their terms are under way
    parts.learner.at(middle, middle * len(parts.loader))
    # the processor's time is what a core of its own would take, however busy the machine is now
    clocked = time.process_time if parts.accelerator.device.type == "cpu" else time.perf_counter
    times: list[float] = []
    batches = parts.loader.epoch(0)
    while len(times) < STEPS + 2 and sum(times) < BUDGET:
        started = clocked()
        batch = next(batches, None)
        if batch is None:
            batches = parts.loader.epoch(1)
            continue
        for update in procedure.step(batch.to(parts.accelerator.device, parts.memory_format)):
            parts.accelerator.backward(sum(term.value * term.weight for term in update.terms.values()))
        parts.learner.zero_grad()
        times.append(clocked() - started)
    started = clocked()
    parts.scores(parts.learner.student, "validation")
    image = (clocked() - started) / count
    settled = sorted(times[2:] or times)
    step = settled[len(settled) // 2]
    if free is not None and free.rebuild_every is not None:  # the first step has a synthesis in it
        step += (times[0] - step) / free.rebuild_every
    return Pace(step, image)


def clock(hours: float) -> str:
    """A duration in minutes, or in hours where it is long.

    Example:
        >>> clock(0.25), clock(3.25)
        ('15 min', '3.2 h')
    """
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h"
