"""What a user may say about data, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from .splits import Split

Share = int | float
"""Below 1 a fraction, else a number of images."""


class DataConfig(BaseModel):
    """Which data, from where, and how they are split.

    Attributes:
        name: an entry of ``limbeck.data.SOURCES``: digits, fashion-mnist, cifar10, cifar100, folder or npz.
        path: folder or file to read; needed by ``folder`` and ``npz``, optional for the others.
        validation: share (below 1) or number of training images held out for model selection, by a seeded
            stratified draw; ignored where the source brings its own validation split. 0 is refused: a run
            must not select on the test set.
        train_size: keep only so many training images (stratified), drawn after validation is held out.
        split_seed: seed of both draws.
        download: allow the network, for fashion-mnist and cifar.
        test: share or number of test images for a ``folder`` or ``npz`` that brings none (the draw is always
            seeded with 0, so that no setting moves the test set).
        size: height and width to which ``folder`` images are resized (default: they must all be alike).
        channels: 1 (grey) or 3 (colour) for ``folder`` images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "digits"
    path: str | None = None
    validation: Share = Field(default=0.1, gt=0)
    train_size: int | None = Field(default=None, gt=0)
    split_seed: int = 0
    download: bool = False
    test: Share = Field(default=0.2, gt=0)
    size: int | None = Field(default=None, gt=0)
    channels: int = 3


@dataclass(frozen=True)
class Data:
    """Three splits and what a network must know about them.

    Attributes:
        name: the data set's name.
        train, validation, test: the splits; the test split is never drawn from.
        classes: class names, position = label.
        channels: image channels.
        size: height and width in pixels.
        mean, std: one number per channel for normalisation, in [0, 1] pixel units.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
