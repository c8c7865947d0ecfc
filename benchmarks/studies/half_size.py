"""Fashion-MNIST at 14x14, the mean of 2x2 pixels, as one file: python benchmarks/studies/half_size.py fashion14.npz"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from limbeck.data import DataConfig, load
from limbeck.data.splits import Split
from limbeck.files import write_arrays


def halved(split: Split) -> dict[str, torch.Tensor]:
    """Images ``(n, 14, 14)`` as 8-bit pixels, and labels."""
    images, labels = split.fetch(torch.arange(len(split)))
    small = (255 * F.avg_pool2d(images, 2)).round().to(torch.uint8)[:, 0]
    return {"x": small.numpy(), "y": labels.numpy()}


if __name__ == "__main__":
    data = load(DataConfig(name="fashion-mnist", validation=1000))
    found = {"classes": list(data.classes)}
    for name, split in (("train", data.train), ("test", data.test)):
        found |= {f"{key}_{name}": value for key, value in halved(split).items()}
    write_arrays(Path(sys.argv[1]), found)
