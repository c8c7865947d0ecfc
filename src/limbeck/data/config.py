"""What a user may say about data, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from .changes import Changes
from .modal_keys import ModalKeys
from .splits import Split

Share = int | float
"""Below 1 a fraction, else a number of images."""


class DataConfig(ModalKeys, Changes):
    """Which data, from where, how they are split, and what is changed in the training split (see ``Changes``).

    Keys for data of several modalities are in ``ModalKeys``.

    Attributes:
        name: an entry of ``limbeck.data.SOURCES``: digits, fashion-mnist, cifar10, cifar100,
            glyph100, folder, npz, text, segmentation, scenes or ellipses.
        path: folder or file to read; needed by ``folder``, ``npz`` and ``text``, optional for the others.
        validation: share (below 1) or number of training images held out for model selection, by a seeded
            stratified draw; ignored where the source brings its own validation split. 0 is refused: a run
            must not select on the test set.
        train_size: keep only so many training images (stratified), drawn after validation is held out and after
            ``imbalance``; not beside ``per_class``.
        split_seed: seed of the draws of ``validation`` and ``train_size``; in a run, null is the run's seed.
        download: allow the network, for fashion-mnist and cifar.
        test: share or number of test images for a ``folder`` or ``npz`` that brings none (the draw is always
            seeded with 0, so that no setting moves the test set).
        size: height and width to which ``folder`` images are resized (default: they must all be alike).
        crop: share of the shorter side of ``folder`` images that a central square keeps before it is resized to
            ``size`` (ImageNet: 0.875); default: the whole image, squeezed into a square.
        channels: 1 (grey) or 3 (colour) for ``folder`` images.
        tokenizer: of ``text``: a folder, a ``tokenizer.json``, or a name on the hub.
        length: tokens of a ``text`` sample that a model is fed; longer ones are cut.
        train_from: of ``text``: JSON lines to train on instead of the training rows, such as a teacher's texts.
        packing: of ``text``: short training samples share rows of ``length`` tokens; same numbers, less padding.
        responses: test prompts of ``text`` that student and teacher answer at the end, greedily.
        new_tokens: tokens of the longest such answer.
        weak: of ``segmentation`` and the like: train from the classes that are somewhere in an image, without masks.
        stride: of ``segmentation`` and the like: methods compare every so many-th pixel in both directions.
    """

    name: str = "digits"
    path: str | None = None
    validation: Share = Field(default=0.1, gt=0)
    train_size: int | None = Field(default=None, gt=0)
    split_seed: int = 0
    download: bool = False
    test: Share = Field(default=0.2, gt=0)
    size: int | None = Field(default=None, gt=0)
    crop: float | None = Field(default=None, gt=0, le=1)
    channels: int = 3
    tokenizer: str | None = None
    length: int = Field(default=512, gt=1)
    train_from: str | None = None
    packing: bool = False
    responses: int = Field(default=0, ge=0)
    new_tokens: int = Field(default=64, gt=0)
    weak: bool = False
    stride: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_size(self) -> DataConfig:
        if self.train_size is not None and self.per_class is not None:
            raise ValueError("give either data.train_size or data.per_class, not both")
        if self.crop is not None and self.size is None:
            raise ValueError("data.crop needs data.size, the side of what it cuts out")
        return self


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
        changes: what was done to the training split, with the realised figures; empty if nothing was.
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
    changes: dict[str, Any] = field(default_factory=dict)
