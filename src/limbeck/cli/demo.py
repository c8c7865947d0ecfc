"""``limbeck demo``: the main job on data that ships with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

METHODS = ("scratch", "kd", "dist", "bickd")
LABELLED = 100
TEACHER = {"student": "resnet20", "train": {"epochs": 30, "batch_size": 64}}
STUDENT = {
    "student": {"name": "cnn", "options": {"widths": [8, 16]}},
    "train": {"epochs": 150, "batch_size": 50},
}
COMMON: dict[str, Any] = {"precision": "fp32", "log_every": 10}
REGIME = (
    f"Handwritten digits, 8x8. The teacher (ResNet-20) saw 1,293 labelled images; the student, a small CNN, "
    f"gets {LABELLED} of them."
)


def run(output: Path, seeds: int) -> None:
    """Teacher, then every method with the same initialisations, order and budget for each seed."""
    import os
    import time

    import torch

    from .. import report
    from ..config import RunConfig, parse
    from ..errors import RunError
    from ..training.progress import Progress
    from ..training.session import execute
    from .compare import show

    if output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty", fix="remove it, or choose another with --output")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, torch.get_num_threads()))))
    print(REGIME)
    print(f"Each of {', '.join(METHODS)} trains the same student with {seeds} seeds. Data: scikit-learn.")
    started = time.monotonic()
    augment = {"crop_padding": 1}

    def config(settings: dict[str, Any], **more: Any) -> RunConfig:
        return parse({**settings, "augment": augment, "train": {**settings["train"], **COMMON}, **more})

    teacher = config(TEACHER, output=str(output / "teacher"), data={"name": "digits"})
    students = [
        config(
            STUDENT,
            output=str(output / f"{method}-seed{seed}"),
            group="demo",
            seed=seed,
            data={"name": "digits", "train_size": LABELLED},
            teacher=None if method == "scratch" else {"run": str(output / "teacher")},
            methods=[] if method == "scratch" else [method],
        )
        for seed in range(seeds)
        for method in METHODS
    ]
    with Progress(_steps(teacher, 1293) + sum(_steps(s, LABELLED) for s in students), "teacher") as progress:
        execute(teacher, progress=progress)
        runs = []
        for student in students:
            progress.advance(0, title=f"{student.label} seed {student.seed}")
            runs.append(execute(student, progress=progress).path)
    show(report.read_all(runs))
    page = report.write(runs, output / "report.html", title="Limbeck demo")
    print(f"\nTook {time.monotonic() - started:.0f} s. Report: {page.resolve()}")


def _steps(config: Any, samples: int) -> int:
    return int(config.train.epochs * -(-samples // config.train.batch_size))
