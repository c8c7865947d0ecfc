"""A whole run of KD against torchdistill's, in images per second.

    python benchmarks/vs_torchdistill.py [--quick] [--samples N] [--threads N]

WRN-40-2 teaches WRN-16-2 on Fashion-MNIST (28x28, batch 128) for one epoch, with validation (a ninth as many images
as are trained on) and checkpoint. Both train the same networks from the same weights. Three figures:

- ``like_for_like``: both float32, contiguous memory, live teacher, the same augmentation, top-1 accuracy.
- ``defaults``: Limbeck as it comes (``precision: auto``, channels last, agreement with the teacher evaluated too)
  against torchdistill as its sample configurations have it.
- ``remembered_teacher``: a later epoch of a run with ``teacher.cache: memory``, which torchdistill does not have;
  neither side augments.

``--samples`` is the part of the epoch that is trained on: images per second do not depend on it much.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import _torchdistill
import torch
from _pairs import Figure, compare, finish, parse, parser

from limbeck.config import parse as configure
from limbeck.data import Data, DataConfig, load
from limbeck.models import build
from limbeck.procedures import Distillation
from limbeck.training.parts import Parts
from limbeck.training.progress import Progress
from limbeck.training.record import Record
from limbeck.training.trainer import Trainer

TEACHER, STUDENT, BATCH, RATE = "wrn_40_2", "wrn_16_2", 128, 0.05
TEMPERATURE, LABEL_SHARE = 4.0, 0.1
PLAIN = {"precision": "fp32", "channels_last": False}
MOVED = {"flip": True, "crop_padding": 4}


def network(name: str) -> torch.nn.Module:
    """A network from one seed."""
    torch.manual_seed(0)
    return build(name, classes=10, channels=1, size=(28, 28))


def trainer(
    networks: dict[str, torch.nn.Module],
    data: Data,
    folder: str,
    *,
    augment: dict[str, Any],
    train: dict[str, Any],
    epochs: int = 1,
    cached: bool = False,
    only_accuracy: bool = False,
) -> Trainer:
    """Limbeck's trainer as a run makes it, on copies of the networks."""
    config = configure(
        {
            "student": STUDENT,
            "methods": [{"name": "kd", "weight": 1 - LABEL_SHARE, "temperature": TEMPERATURE}],
            "label_weight": LABEL_SHARE,
            "teacher": {"cache": "memory" if cached else "none"},
            "augment": augment,
            "train": {"batch_size": BATCH, "epochs": epochs, "optimizer": {"learning_rate": RATE}, **train},
        }
    )
    student, teacher = (copy.deepcopy(networks[name]) for name in (STUDENT, TEACHER))
    parts = Parts(config, student=student, teacher=teacher, data=data)
    record = Record(Path(folder))
    record.open()

    def accuracy(model: torch.nn.Module) -> dict[str, float]:
        logits, labels = parts.predict(model, data.validation)
        return {"accuracy": float((logits.argmax(1) == labels).float().mean())}

    return Trainer(
        config.train,
        Distillation(parts.learner, parts.teacher, parts.accelerator.autocast, parts.calls),
        parts.loader,
        evaluate=accuracy if only_accuracy else lambda model: parts.scores(model, "validation"),
        metric="accuracy",
        record=record,
        seed=0,
        accelerator=parts.accelerator,
        identity=parts.identity(),
        progress=Progress(1, "", quiet=True),
    )


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--samples", type=int, help="images of the epoch (default 2560, with --quick 512)")
    words.add_argument("--pairs", type=int, help="pairs of runs (default 5, with --quick 3)")
    given = parse(words)
    samples = given.samples or (512 if given.quick else 2560)
    pairs = given.pairs or (3 if given.quick else 5)
    data = load(DataConfig(name="fashion-mnist", validation=samples // 9, train_size=samples))
    networks = {name: network(name) for name in (TEACHER, STUDENT)}

    def theirs(augmented: bool) -> Callable[[], None]:
        sets = _torchdistill.datasets(data, augmented)
        return lambda: _torchdistill.train(
            networks[TEACHER],
            networks[STUDENT],
            sets,
            _torchdistill.config(BATCH, RATE, TEMPERATURE, LABEL_SHARE),
        )

    def ours(**settings: Any) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                trainer(networks, data, folder, **settings).fit()

        return run

    def figure(name: str, mine: Callable[[], None], other: Callable[[], None], goal: float) -> Figure:
        found = compare(
            f"vs_torchdistill/{name}", mine, other, goal=goal, better="higher", pairs=pairs, warmup=0, least=0
        )
        speeds = (1e3 * samples / milliseconds for milliseconds in (found.ours, found.reference))
        return replace(found, **dict(zip(("ours", "reference"), speeds)), unit="images/s")

    figures = [
        figure("like_for_like", ours(augment=MOVED, train=PLAIN, only_accuracy=True), theirs(True), 1.0),
        figure("defaults", ours(augment=MOVED, train={}), theirs(True), 2.0),
    ]
    with tempfile.TemporaryDirectory() as folder:
        long = trainer(networks, data, folder, augment={}, train={}, epochs=10**6, cached=True)
        long._epoch()
        figures.append(figure("remembered_teacher", long._epoch, theirs(False), 2.0))
    finish(figures)


if __name__ == "__main__":
    main()
