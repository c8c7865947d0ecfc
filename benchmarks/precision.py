"""What the default precision and memory format are worth on this machine.

    python benchmarks/precision.py [--quick] [--threads N]

ResNet-8x4 taught by ResNet-32x4 (KD, live teacher, batch 128, 32x32x3): images per second of Limbeck's trainer with its
defaults (``precision: auto``, channels last) against the same pair in a plain loop, float32 and contiguous.
"""

from __future__ import annotations

import itertools

import torch
from _networks import BATCH, images, network, trainer
from _pairs import arguments, compare, finish
from torch.nn import functional as F

STUDENT, TEACHER = "resnet8x4", "resnet32x4"


def main() -> None:
    given = arguments(__doc__)
    data = images(1)
    student, teacher = network(STUDENT).train(), network(TEACHER).eval().requires_grad_(False)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    mean, std = torch.tensor(data.mean)[:, None, None], torch.tensor(data.std)[:, None, None]
    pixels, labels = data.train.images, data.train.labels  # type: ignore[attr-defined]

    def plain() -> None:
        for ids in torch.randperm(len(labels)).split(BATCH):
            x = pixels[ids].float().div_(255).sub_(mean).div_(std)
            with torch.no_grad():
                target = F.log_softmax(teacher(x) / 4, 1)
            logits = student(x)
            soft = F.kl_div(F.log_softmax(logits / 4, 1), target, reduction="batchmean", log_target=True)
            (0.1 * F.cross_entropy(logits, labels[ids]) + 0.9 * 16 * soft).backward()
            optimiser.step()
            optimiser.zero_grad()

    loop, epochs = trainer(STUDENT, TEACHER, data), itertools.count()

    def ours() -> None:
        for batch in loop.loader.epoch(next(epochs)):
            loop._one(batch)

    print(f"precision {loop.accelerator.mixed_precision}, {BATCH} images per step")
    figure = compare(
        "precision/resnet32x4-resnet8x4", ours, plain, goal=1.5, better="higher",
        pairs=3 if given.quick else 9, warmup=1, least=0,
    )  # fmt: skip
    finish([figure])


if __name__ == "__main__":
    main()
