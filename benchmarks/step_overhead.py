"""What the trainer's step costs over a loop that one writes by hand.

    python benchmarks/step_overhead.py [--quick] [--threads N]

Both sides take 8-bit images from memory, normalise them, and train ResNet-20 (batch 128, 32x32x3) at the same
precision and in the same memory format: on labels, and by KD under a live teacher (ResNet-32).
The trainer also checks every loss, schedules, counts, and writes its metrics. One measurement is a few steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from _networks import BATCH, images, network, trainer
from _pairs import Figure, arguments, compare, finish
from torch.nn import functional as F

from limbeck.data import Data
from limbeck.training.precision import resolve

STUDENT, TEACHER, STEPS = "resnet20", "resnet32", 3


def by_hand(data: Data, teacher: str | None) -> Callable[[], None]:
    """The loop that one would write without Limbeck."""
    low = resolve("auto", torch.device("cpu")) == "bf16"
    student = network(STUDENT).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    taught = None
    if teacher is not None:
        taught = network(teacher).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    mean, std = torch.tensor(data.mean)[:, None, None], torch.tensor(data.std)[:, None, None]
    pixels, labels = data.train.images, data.train.labels  # type: ignore[attr-defined]

    def epoch() -> None:
        for ids in torch.randperm(len(labels)).split(BATCH):
            x = pixels[ids].float().div_(255).sub_(mean).div_(std)
            x, y = x.contiguous(memory_format=torch.channels_last), labels[ids]
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                if taught is not None:
                    with torch.no_grad():
                        target = taught(x)
                logits = student(x)
            loss = F.cross_entropy(logits.float(), y)
            if taught is not None:
                soft = F.log_softmax(logits.float() / 4, 1), F.log_softmax(target.float() / 4, 1)
                loss = 0.1 * loss + 0.9 * 16 * F.kl_div(*soft, reduction="batchmean", log_target=True)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return epoch


def ours(data: Data, teacher: str | None) -> Callable[[], None]:
    """The same work through the trainer."""
    loop, epochs = trainer(STUDENT, teacher, data), itertools.count()

    def epoch() -> None:
        for batch in loop.loader.epoch(next(epochs)):
            loop._one(batch)

    return epoch


def main() -> None:
    given = arguments(__doc__)
    pairs, data = (9 if given.quick else 31), images(STEPS)
    figures: list[Figure] = []
    for name, teacher in (("supervised", None), ("kd", TEACHER)):
        sides = ours(data, teacher), by_hand(data, teacher)
        figures.append(compare(f"step_overhead/{name}", *sides, goal=1.03, pairs=pairs, warmup=2, least=0))
    finish(figures)


if __name__ == "__main__":
    main()
