"""A study of made-up numbers: the grid, the records' form and the statistics are real, no network was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.report.fabricate import run, write

from limbeck.config import check, dump
from limbeck.study.config import StudyConfig
from limbeck.study.grid import Cell, Grid
from limbeck.study.results import write as write_results

STUDY: dict[str, Any] = {
    "name": "made-up study",
    "description": "Numbers from a generator.",
    "base": {"data": {"name": "digits", "train_size": 200}, "train": {"epochs": 3}},
    "pairs": {
        "small": {"student": {"name": "cnn", "options": {"widths": [4, 8]}}, "teacher": "resnet20"},
        "large": {"student": {"name": "cnn", "options": {"widths": [8, 16]}}, "teacher": "resnet20"},
    },
    "data": {
        "clean": {},
        "noise 20 %": {"data.noise": {"kind": "symmetric", "rate": 0.2}},
        "noise 40 %": {"data.noise": {"kind": "symmetric", "rate": 0.4}},
    },
    "methods": {
        "scratch": None,
        "kd": "kd",
        "dist": {"methods": ["dist"], "sweep": {"temperature": [1, 2, 4]}},
        "bickd": "bickd",
    },
    "metrics": ["accuracy", "nll", "entropy"],
    "seeds": [0, 1, 2],
}
SKILL = {"scratch": 3.2, "kd": 3.7, "bickd": 3.9}


def make(folder: Path, skip: int = 0, **more: Any) -> Path:
    """Write a study's folder.

    Args:
        folder: where to.
        skip: so many students, counted from the last, are missing.
        more: keys of the study that replace those of ``STUDY``.
    """
    study = check(StudyConfig, {**STUDY, **more, "output": str(folder)}, "the study")
    grid = Grid(study)
    students = grid.students()
    for cell in [*grid.teachers.values(), *students[: len(students) - skip]]:
        _run(cell)
    if more.get("tuning"):
        write(folder / "tuning.json", [_tuning(grid)])
    write_results(study)
    return folder


def _run(cell: Cell) -> Path:
    teaches = cell.kind == "teacher"
    noise = cell.config.data.noise.rate if cell.config.data.noise else 0.0
    path = run(
        cell.folder.parent,
        "scratch" if teaches else cell.method,
        cell.seed,
        skill=(5.0 if teaches else SKILL.get(cell.method, 3.5)) * (1 - noise / 2),
        teacher=None if teaches else "runs/teacher",
        name=cell.folder.name,
        steps=4,
    )
    (path / "config.yaml").write_text(dump(cell.config))
    info = json.loads((path / "run.json").read_text())
    info["student"]["parameters"] = 1000 if cell.pair == "small" else 4000
    info["learned"] = {"processor_seconds": 2.0 + cell.seed, "tokens": 300.0}
    if noise:
        info["changes"] = {"noise": {"kind": "symmetric", "rate": noise, "realised": 0.9 * noise}}
    write(path / "run.json", info)
    return path


def robust(folder: Path, corruptions: tuple[str, ...] = ("blur", "rotate")) -> None:
    """Write what measuring robustness and a linear probe leaves in every student's folder."""
    random = np.random.default_rng(0)
    for path in sorted((folder / "runs").rglob("run.json")):
        table = {kind: random.uniform(0.2, 0.8, 5).tolist() for kind in corruptions}
        attacks = [{"epsilon": e / 255, "accuracy": 0.5 / e} for e in (1, 8)]
        found = {"checkpoint": "last", "clean": 0.8, "corrupted": 0.5, "corruptions": table, "pgd": attacks}
        write(path.parent / "robustness.json", found)
        write(path.parent / "probe-other.json", {"data": "other", "accuracy": 0.6})


def _tuning(grid: Grid) -> dict[str, Any]:
    """A search of KD in the first group whose best value lies at the end of its list."""
    pair, setting = grid.groups[0]
    trials = []
    for number, temperature in enumerate((1, 2, 4)):
        cell = grid.student(pair, setting, "kd", 100, {"temperature": temperature}, number)
        _run(cell)
        trials.append(
            {
                "number": number,
                "values": {"temperature": temperature},
                "validation": {"100": 0.7 + 0.01 * number},
                "mean": 0.7 + 0.01 * number,
                "paths": [cell.key],
            }
        )
    return {
        "pair": pair, "setting": setting, "method": "kd", "metric": "accuracy", "budget": 3, "seeds": [100],
        "space": {"temperature": [1, 2, 4]}, "trials": trials, "chosen": {"temperature": 4}, "chosen_trial": 2,
        "edges": ["temperature"], "seconds": 12.0, "applies_to": [list(group) for group in grid.groups],
    }  # fmt: skip
