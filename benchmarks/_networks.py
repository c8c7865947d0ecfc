"""What the training benchmarks share: made-up images, and the trainer ready to step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.config import parse
from limbeck.data import Data, from_arrays
from limbeck.models import build
from limbeck.procedures import Distillation
from limbeck.teachers import LiveTeacher
from limbeck.training.parts import Parts
from limbeck.training.progress import Progress
from limbeck.training.record import Record
from limbeck.training.trainer import Trainer

BATCH = 128


def images(batches: int) -> Data:
    """Random 32x32 colour images of 100 classes, in memory."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (BATCH * batches + 300, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(len(pixels)) % 100
    train, test = slice(0, BATCH * batches + 200), slice(BATCH * batches + 200, None)
    return from_arrays(pixels[train], labels[train], pixels[test], labels[test], validation=200)


def network(name: str) -> torch.nn.Module:
    """A network from one seed, so that both sides train the same."""
    torch.manual_seed(0)
    return build(name, classes=100, channels=3, size=(32, 32))


def trainer(student: str, teacher: str | None, data: Data, **train: Any) -> Trainer:
    """Limbeck's trainer for a pair, writing into a temporary folder."""
    values = {
        "student": student,
        "methods": [] if teacher is None else ["kd"],
        "train": {"batch_size": BATCH, "epochs": 10**4, "schedule": {"name": "constant"}, **train},
    }
    live = None if teacher is None else LiveTeacher(network(teacher), _task(data))
    parts = Parts(parse(values), student=network(student), teacher=live, data=data)
    record = Record(Path(tempfile.mkdtemp()))
    record.open()
    return Trainer(
        parts.config.train,
        Distillation(parts.learner, parts.teacher if teacher else None, parts.accelerator.autocast),
        parts.loader,
        evaluate=lambda model: {"accuracy": 0.0},
        metric="accuracy",
        record=record,
        seed=0,
        accelerator=parts.accelerator,
        progress=Progress(1, "", quiet=True),
    )


def _task(data: Data) -> Any:
    from limbeck.tasks import Classification

    return Classification(len(data.classes))
