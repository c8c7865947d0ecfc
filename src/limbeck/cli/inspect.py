"""``limbeck evaluate``, ``report`` and ``methods``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from ..errors import ConfigError, RunError


def evaluate(path: Path, split: str, checkpoint: str, allow_code: list[str]) -> None:
    """Score a finished run's student again and print the numbers."""
    from ..runs import Run
    from ..training.session import score
    from .tables import scores

    if split not in ("test", "validation"):
        raise ConfigError(f"no split {split!r}", expected="test or validation")
    run = Run(path)
    found = score(run, split, choose(checkpoint), allow_code)
    scores(f"{run.path.name}: {checkpoint} epoch, float32", {split: found})
    if run.info.get("teacher") and "agreement" not in found:
        print("Its teacher is not where it was, so nothing is said about agreement.")


def report(paths: list[Path], output: Path, title: str) -> None:
    """Write the comparison page of runs."""
    from ..report import write

    print(f"report: {write(find_runs(paths), output, title=title)}")


def methods() -> None:
    """Print the table of methods."""
    from ..methods import describe
    from .tables import table

    rows = [[row[key] for key in ("name", "status", "needs", "weights", "paper")] for row in describe()]
    table("Methods", ["name", "status", "needs", "default weights", "paper"], rows, right=5)


def find_runs(paths: list[Path]) -> list[Path]:
    """Run folders among the given ones and directly or deeper inside them, each once."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise RunError(f"no folder {path}", fix="check the path")
        if (path / "run.json").is_file():
            found.append(path)
            continue
        inside = sorted(file.parent for file in path.rglob("run.json"))
        if not inside:
            raise RunError(f"no run in {path}", expected="a run folder, or a folder that holds some")
        found += inside
    return list({path.resolve(): path for path in found}.values())


def choose(checkpoint: str) -> Literal["last", "best"]:
    """Check the name of a checkpoint."""
    if checkpoint not in ("last", "best"):
        raise ConfigError(f"no checkpoint {checkpoint!r}", expected="last or best")
    return cast(Literal["last", "best"], checkpoint)
