"""Run records of made-up numbers, for tests of the report only. No network was trained for them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from limbeck.evaluation.metrics import classification_arrays, classification_metrics

CLASSES = tuple("0123456789")
TEST = 360


def logits(labels: np.ndarray, classes: int, skill: float, rng: np.random.Generator) -> torch.Tensor:
    """Made-up logits that are right more often the larger the skill; neighbouring classes look alike."""
    centres = np.eye(classes) + 0.45 * np.eye(classes, k=1) + 0.2 * np.eye(classes, k=3)
    return torch.tensor(
        skill * centres[labels] + rng.normal(size=(len(labels), classes)), dtype=torch.float32
    )


def run(
    folder: Path,
    label: str,
    seed: int = 0,
    *,
    skill: float = 4.0,
    teacher: str | None = "runs/teacher",
    status: str = "finished",
    name: str | None = None,
    group: str = "test data",
    classes: Sequence[str] = CLASSES,
    steps: int = 300,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write one record whose numbers come from a seeded generator.

    Returns:
        the folder ``<folder>/<label>-<seed>``, or of the name given.
    """
    path = folder / re.sub(r"[^\w.-]", "_", name or f"{label}-{seed}")[-60:]
    path.mkdir(parents=True)
    rng = np.random.default_rng([seed, *map(ord, label)])
    shared = np.random.default_rng(99)
    labels = shared.integers(len(classes), size=TEST)
    taught = logits(labels, len(classes), 5.5, shared) if teacher else None
    noise = np.random.default_rng(seed)
    mine = logits(labels, len(classes), skill + 0.15 * noise.normal() + 0.05 * rng.normal(), rng)
    if taught is not None and label != "scratch":
        mine = 0.75 * mine + 0.25 * taught
    targets = torch.tensor(labels)
    test = classification_metrics(mine, targets, taught)
    arrays = classification_arrays(mine, targets, taught)
    methods = [
        {"name": part, "weight": None, "options": {}} for part in label.split("+") if part != "scratch"
    ]
    settings = {
        "name": path.name,
        "group": group,
        "seed": seed,
        "data": {"name": "test data", "train_size": 200, "validation": 0.1},
        "student": {"name": "cnn", "options": {"widths": [8, 16]}},
        "teacher": {"run": teacher} if teacher else None,
        "methods": methods,
        "train": {"epochs": 10, "batch_size": 64, "optimizer": {"name": "sgd", "learning_rate": 0.05}},
        **(config or {}),
    }
    (path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    write(path / "run.json", {
        "name": name or path.name, "label": label, "kind": "distill" if teacher else "train", "seed": seed,
        "status": status, "started": f"2026-01-02T03:0{seed % 10}:00+00:00", "ended": "2026-01-02T03:30:00+00:00",
        "seconds": 8 + 2 * len(methods) + rng.random(), "steps": steps, "epochs": 10, "data": "test data",
        "samples": {"train": 200, "validation": 90, "test": TEST},
        "classes": list(classes), "student": {"name": "cnn", "parameters": 12345},
        "teacher": {"name": "resnet20", "parameters": 272474, "path": teacher} if teacher else None,
        "precision": "fp32", "reconstructed": "bickd" in label, "group": group,
    })  # fmt: skip
    write(path / "environment.json", {
        "limbeck": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "platform": "test", "cpu": "test", "threads": 1,
        "packages": {"numpy": "2.0"}, "git": None, "command": ["limbeck", "distill", "test.yaml"],
    })  # fmt: skip
    write(path / "guards.json", [
        {"name": "teacher above chance", "ok": bool(teacher) or None, "detail": "97 % on one batch"},
        {"name": "terms finite", "ok": True, "detail": f"cross_entropy 2.3{seed}"},
    ])  # fmt: skip
    lines = list(metric_lines(steps, [m["name"] for m in methods], skill, rng))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if status != "finished":
        return path
    best = {name: value + (0.004 if name == "accuracy" else 0) for name, value in test.items()}
    write(path / "results.json", {
        "last": {"epoch": 10, "test": test, "validation": test},
        "best": {"epoch": 6 + seed % 3, "selected_on": "validation accuracy", "test": best, "validation": best},
        "cost": cost(12345, 0.21 + 0.01 * rng.random()),
        "teacher": {"test": classification_metrics(taught, targets), "cost": cost(272474, 1.9)}
        if taught is not None else None,
    })  # fmt: skip
    np.savez_compressed(path / "evaluation.npz", **{k: np.asarray(v) for k, v in arrays.items()})
    return path


def cost(parameters: int, latency: float) -> dict[str, Any]:
    """Made-up cost of a network."""
    flops = 90 * parameters
    return {"parameters": parameters, "flops": flops, "latency_ms_1": latency, "latency_ms_256": 40 * latency,
            "threads": 1, "device": "cpu"}  # fmt: skip


def metric_lines(steps: int, methods: list[str], skill: float, rng: np.random.Generator) -> Any:
    """Made-up lines of ``metrics.jsonl``."""
    for step in range(1, steps + 1):
        fall = np.exp(-3 * step / steps)
        entropy = 0.2 + 2.1 * fall + 0.08 * rng.random()
        terms = {"cross_entropy": {"raw": entropy, "weight": 1.0, "weighted": entropy}}
        for place, method in enumerate(methods):
            raw = (1 + place) * (0.1 + 3 * fall * (1 + 0.1 * rng.random()))
            terms[method] = {"raw": raw, "weight": 0.9, "weighted": 0.9 * raw}
        total = sum(term["weighted"] for term in terms.values())
        epoch = (step - 1) * 10 // steps
        yield {
            "kind": "train",
            "step": step,
            "epoch": epoch,
            "loss": total,
            "learning_rate": 0.05,
            "terms": terms,
        }
        if step * 10 % steps == 0:
            accuracy = 0.16 * skill + 0.25 - 0.6 * fall + 0.01 * rng.random()
            yield {"kind": "validation", "step": step, "epoch": epoch, "accuracy": accuracy, "nll": entropy}


def write(path: Path, value: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value, indent=1))


def study(folder: Path, seeds: int = 3, group: str = "test data", **options: Any) -> list[Path]:
    """Four methods by some seeds."""
    skills = {"scratch": 3.2, "kd": 3.7, "dist": 3.55, "bickd": 3.9}
    return [
        run(folder, label, seed, skill=skill, group=group, **options)
        for label, skill in skills.items()
        for seed in range(seeds)
    ]
