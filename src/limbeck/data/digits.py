"""The handwritten digits that ship inside scikit-learn."""

from __future__ import annotations

import torch

from .assembly import assemble, complement, stratified
from .config import Data, DataConfig
from .splits import TensorSplit
from .streams import generator

TEST_IMAGES = 360


def digits(config: DataConfig) -> Data:
    """1,797 grey 8×8 images in 10 classes, no file needed.

    The test split is 360 images (a fifth of each class), the same for every setting; pixels are the data's
    16 grey levels divided by 16; mean and std are computed on the training split.
    Source: UCI "Optical Recognition of Handwritten Digits", as in ``sklearn.datasets.load_digits``.

    Example:
        >>> data = digits(DataConfig())
        >>> len(data.train), len(data.validation), len(data.test), data.size
        (1293, 144, 360, (8, 8))
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).to(torch.float32).div_(16).reshape(-1, 1, 8, 8)
    every = TensorSplit(images, torch.from_numpy(labels), "digits")
    test = stratified(every.labels, TEST_IMAGES, generator("test", 0))
    return assemble(
        "digits",
        every.subset(complement(test, len(every))),
        every.subset(test),
        classes=[str(k) for k in range(10)],
        share=config.validation,
        train_size=config.train_size,
        split_seed=config.split_seed,
        changes=config,
    )
