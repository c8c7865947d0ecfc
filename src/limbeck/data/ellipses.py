"""Generated scenes with exact masks, for tests and first looks; nothing in them is real."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .config import Data, DataConfig
from .masks import MaskSplit, masked, present

CLASSES = ("background", "stripes", "checks", "rings")
COUNTS = {"train": 400, "validation": 100, "test": 150}
SIZE = 32
TINTS = np.array([[0.10, 0.0, -0.05], [-0.05, 0.10, 0.0], [0.0, -0.05, 0.10]])
"""What a body adds to the mean colour, weak on purpose: red, green, blue."""


def ellipses(config: DataConfig) -> Data:
    """Scenes of one or two elliptical bodies of three classes on a noisy dark ground.

    A body has a weak tint, and somewhere in it a small patch of high contrast, its head, whose texture gives
    the class away: stripes, checks or rings. A classifier looks at heads; the body has to be found. Always the
    same 400 training, 100 validation and 150 test scenes of ``data.size`` (32) pixels, drawn with seed 0.

    Raises:
        DataError: as ``masked``.

    Example:
        >>> data = ellipses(DataConfig(name="ellipses", size=24))
        >>> len(data.train), data.size, data.classes
        (400, (24, 24), ('background', 'stripes', 'checks', 'rings'))
    """
    size = config.size or SIZE
    splits = {part: _split(count, size, i, part) for i, (part, count) in enumerate(COUNTS.items())}
    train = splits["train"]
    if config.weak:
        train = MaskSplit(train.images, present(train.known, len(CLASSES)), "train")
    return masked("ellipses", train, splits["test"], splits["validation"], classes=CLASSES, config=config)


def _split(count: int, size: int, stream: int, name: str) -> MaskSplit:
    random = np.random.Generator(np.random.Philox(key=[0, stream]))
    images, masks = zip(*(_scene(random, size) for _ in range(count)))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return MaskSplit(pixels, torch.from_numpy(np.stack(masks)), name)


def _scene(random: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rows, columns = np.mgrid[:size, :size] / size
    image = np.full((size, size, 3), 0.2)
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(random.integers(1, 3))):
        kind = int(random.integers(0, 3))
        y, x = random.uniform(0.25, 0.75, 2)
        tall, wide = random.uniform(0.16, 0.3, 2)
        turn = random.uniform(0, np.pi)
        dy, dx = rows - y, columns - x
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        body = (along / wide) ** 2 + (across / tall) ** 2 <= 1
        image[body] = 0.38 + TINTS[kind]
        mask[body] = kind + 1
        place = random.uniform(-0.4, 0.4) * wide
        far = np.hypot(along - place, across)
        head = body & (far < 0.09)
        image[head] = _texture(kind, rows * size, columns * size, far * size)[head][:, None]
    image += random.normal(0, 0.05, image.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8), mask


def _texture(kind: int, rows: Any, columns: Any, far: Any) -> NDArray[np.float64]:
    rows, columns, far = (np.floor(v).astype(int) // 2 for v in (rows, columns, 2 * far))
    parity = (rows, rows + columns, far)[kind] % 2
    return np.where(parity, 0.95, 0.05)
