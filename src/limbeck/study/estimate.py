"""What a study is going to be: its grid, counts, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping

from ..runs import Run
from .config import StudyConfig
from .grid import Cell, Grid
from .runner import pending
from .tuning import runs


def show(study: StudyConfig, workers: int) -> None:
    """Print the grid; the time is known only where runs of the study are finished already."""
    from ..cli.tables import table

    grid = Grid(study)
    cells = grid.all()
    left = {cell.key for cell in pending(cells if study.tuning is None else list(grid.teachers.values()))}
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
    tuning = runs(grid)
    for kind in ("teacher", "student"):
        members = [cell for cell in cells if cell.kind == kind]
        done = sum(cell.key not in left and (cell.folder / "run.json").is_file() for cell in members)
        print(f"{len(members)} {kind} runs, {done} finished")
    if tuning:
        print(f"{tuning} tuning runs, of which those that are finished will be taken as they are")
    known = seconds(cells)
    if known:
        missing = [c for c in cells if c.key not in known]
        mean = sum(known.values()) / len(known)
        total = mean * (len(missing) + tuning)
        print(
            f"{len(known)} runs are finished and trained {mean:.1f} s each: about {total / workers / 60:.0f} min "
            f"left with {workers} worker{'s' if workers > 1 else ''}, evaluation and tuning included"
        )
    else:
        print("No run is finished: the time is told when the first ones are.")


def seconds(cells: list[Cell]) -> Mapping[str, float]:
    """Training seconds of the finished ones by key."""
    found = {}
    for cell in cells:
        if (cell.folder / "run.json").is_file() and (run := Run(cell.folder)).status == "finished":
            found[cell.key] = float(run.info["seconds"])
    return found
