"""A data set at half its size, the mean of 2x2 pixels, as one .npz; for studies that must be cheap.

python benchmarks/studies/half_size.py fashion-mnist fashion14.npz
python benchmarks/studies/half_size.py glyph100 glyph36.npz --path glyph100.npz \\
    --classes 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from limbeck.data import DataConfig, load
from limbeck.data.splits import Split
from limbeck.files import write_arrays


def halved(split: Split, wanted: list[int]) -> dict[str, Any]:
    """Images of the wanted classes as 8-bit pixels ``(n, h / 2, w / 2)``, and their labels in that order."""
    place = torch.full((int(split.labels.max()) + 1,), -1)
    place[torch.tensor(wanted)] = torch.arange(len(wanted))
    ids = (place[split.labels] >= 0).nonzero().flatten()
    images, labels = split.fetch(ids)
    small = (255 * F.avg_pool2d(images, 2)).round().to(torch.uint8)[:, 0]
    return {"x": small.numpy(), "y": place[labels].numpy()}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--path")
    parser.add_argument("--classes", help="one character each; default: all")
    given = parser.parse_args()
    data = load(DataConfig(name=given.data, path=given.path, validation=1000))
    names = list(given.classes) if given.classes else list(data.classes)
    wanted = [data.classes.index(name) for name in names]
    found: dict[str, Any] = {"classes": names}
    for name, split in (("train", data.train), ("test", data.test)):
        found |= {f"{key}_{name}": value for key, value in halved(split, wanted).items()}
    write_arrays(given.out, found)
