"""``limbeck demo``: the main job on data that ships with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import RunConfig

METHODS = ("scratch", "kd", "dist", "bickd")
LABELLED, ALL = 200, 1293
TEACHER: dict[str, Any] = {"student": "resnet20", "train": {"epochs": 30, "batch_size": 64}}
STUDENT: dict[str, Any] = {
    "student": {"name": "cnn", "options": {"widths": [8, 16]}},
    "train": {"epochs": 100, "batch_size": 25, "optimizer": {"learning_rate": 0.1}},
}
COMMON: dict[str, Any] = {"precision": "fp32", "threads": 1}
REGIME = (
    f"Little labelled data, small student: the teacher (ResNet-20, 272 k parameters) saw {ALL:,} labelled 8x8\n"
    f"digits; the student (a CNN with 1.4 k parameters) gets {LABELLED} of them. Same initialisation, order and\n"
    "budget for every method; all weights are the methods' defaults, nothing was tuned."
)


def run(output: Path, seeds: int) -> None:
    """Teacher, then every method with every seed; runs that are done are taken as they are."""
    import time

    from .. import report
    from ..training.progress import Progress
    from ..training.session import ensure
    from .compare import show

    print(REGIME)
    print(
        f"{', '.join(METHODS)} with {seeds} seed{'s' if seeds > 1 else ''} each, into {output}.", flush=True
    )
    started = time.monotonic()
    teacher = _config(output / "teacher", TEACHER)
    students = [
        _config(
            output / f"{method}-seed{seed}",
            STUDENT,
            group="demo",
            seed=seed,
            data={"name": "digits", "train_size": LABELLED},
            teacher={"run": str(output / "teacher")},
            methods=[] if method == "scratch" else [method],
        )
        for seed in range(seeds)
        for method in METHODS
    ]
    steps = _steps(teacher, ALL) + sum(_steps(student, LABELLED) for student in students)
    runs = []
    with Progress(steps, "teacher") as progress:
        for config in [teacher, *students]:
            title = f"{config.label}, seed {config.seed}" if config.group else "teacher"
            progress.advance(0, text="", title=title)
            runs.append(ensure(config, progress).path)
    show(report.read_all(runs))
    page = report.write(runs, output / "report.html", title="Limbeck demo")
    print(f"\nTook {time.monotonic() - started:.0f} s. Report: {page.resolve()}")


def _config(output: Path, settings: dict[str, Any], **more: Any) -> RunConfig:
    from ..config import parse

    train = {**settings["train"], **COMMON}
    return parse({**settings, "augment": {"crop_padding": 1}, "output": str(output), "train": train, **more})


def _steps(config: RunConfig, samples: int) -> int:
    return config.train.epochs * -(-samples // config.train.batch_size)
