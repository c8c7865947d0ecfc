"""From what a source holds to the three splits: held-out validation, few-shot subset, normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .changes import Changes, realised
from .config import Data, Share
from .imbalance import keep, sizes
from .noise import corrupt
from .splits import Split
from .streams import generator

STATISTICS_IMAGES = 4096
"""Normalisation is computed on at most this many training images, evenly spaced."""

UNCHANGED = Changes()


def assemble(
    name: str,
    train: Split,
    test: Split,
    validation: Split | None = None,
    *,
    classes: Sequence[str],
    share: Share = 0.1,
    train_size: int | None = None,
    split_seed: int = 0,
    changes: Changes = UNCHANGED,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Data:
    """Make the three splits and check them.

    The order is: hold out validation (unless given), compute mean and std of the rest (unless given), keep the
    images that ``changes`` and ``train_size`` ask for, then give these their noisy labels. So the normalisation
    depends on none of it, a teacher of all the data and a few-shot student see the same inputs, a sample's
    label is equally wrong for both, and every draw of images goes by the true classes.

    Args:
        name: of the data set.
        train, test, validation: the splits of the source; without ``validation`` it is drawn from train.
        classes: class names.
        share: of validation: below 1 a fraction of train, else a number of images.
        train_size: number of training images to keep, stratified.
        split_seed: seed of the two draws.
        changes: label noise, imbalance and few-shot selection of the training split, with their own seed.
        mean, std: normalisation per channel, if known.

    Raises:
        DataError: labels outside the classes, splits that differ in size, an empty or impossible split.
    """
    named = [("train", train), ("test", test)] + ([("validation", validation)] if validation else [])
    for part, split in named:
        check_labels(split.labels, len(classes), f"the {part} split of {name}")
    noise, given = changes.noise, train.labels
    if noise is not None:
        given = corrupt(train.labels, noise, len(classes), changes.seed)
    if validation is None:
        count = resolve_count(share, len(train), "data.validation")
        held = stratified(train.labels, count, generator("validation", split_seed))
        rest = complement(held, len(train))
        train, validation, given, held_labels = (
            train.subset(rest),
            train.subset(held),
            given[rest],
            given[held],
        )
    elif noise is not None:
        held_labels = corrupt(validation.labels, noise, len(classes), changes.seed, part=1)
    if noise is not None and noise.validation:
        validation = validation.relabelled(held_labels)
    train.name, validation.name, test.name = "train", "validation", "test"
    shape = train.fetch(torch.tensor([0]))[0].shape[1:]
    for split in (validation, test):
        other = split.fetch(torch.tensor([0]))[0].shape[1:]
        if other != shape:
            raise DataError(
                f"the {split.name} images of {name} differ from the training images",
                got=f"(channels, height, width) = {tuple(other)}",
                expected=tuple(shape),
            )
    if mean is None or std is None:
        mean, std = statistics(train)
    for ids in _selections(train.labels, changes, train_size, split_seed, len(classes)):
        train, given = train.subset(ids), given[ids]
    true = train.labels
    if noise is not None:
        train = train.relabelled(given)
    channels, height, width = shape
    return Data(
        name,
        train,
        validation,
        test,
        tuple(classes),
        channels,
        (height, width),
        mean,
        std,
        realised(changes, true, given, len(classes)),
    )


def _selections(
    labels: Tensor, changes: Changes, train_size: int | None, split_seed: int, classes: int
) -> Iterator[Tensor]:
    """Positions to keep, one selection after another, by true labels."""
    if changes.imbalance is not None or changes.per_class is not None:
        counts = sizes(torch.bincount(labels, minlength=classes), changes.imbalance, changes.per_class)
        ids = keep(labels, counts, changes.seed)
        labels = labels[ids]
        yield ids
    if train_size is not None and train_size != len(labels):
        yield few_shot(labels, train_size, split_seed)


def few_shot(labels: Tensor, train_size: int, split_seed: int) -> Tensor:
    """A stratified subset of the training split, at least one image of each class that it has."""
    present = len(torch.unique(labels))
    if not present <= train_size <= len(labels):
        raise DataError(
            "data.train_size does not fit the training split",
            got=train_size,
            expected=f"{present} (one per class) to {len(labels)} (all that is left)",
        )
    return stratified(labels, train_size, generator("train_size", split_seed), least=1)


def check_labels(labels: Tensor, classes: int, what: str) -> None:
    """Refuse labels outside ``0..classes-1``."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{what} has labels outside the classes",
            got=f"labels from {low} to {high}",
            expected=f"0 to {classes - 1}, for {classes} classes",
        )


def resolve_count(share: Share, total: int, what: str) -> int:
    """Number of images for a fraction (below 1) or a count; 1 to ``total - 1``."""
    count = round(share * total) if share < 1 else int(share)
    if not 1 <= count < total:
        raise DataError(
            f"{what} leaves an empty split",
            got=f"{share:g} of {total} images",
            expected=f"1 to {total - 1} images",
        )
    return count


def stratified(labels: Tensor, count: int, random: np.random.Generator, least: int = 0) -> Tensor:
    """Sorted ids of a draw that keeps the class shares (largest remainder), random within each class.

    Args:
        labels: ``(n,)`` class ids.
        count: how many to draw.
        random: the generator.
        least: images that every class gets at least, where it has them.

    Example:
        >>> ids = stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 3, np.random.default_rng(0))
        >>> torch.tensor([0, 0, 0, 0, 1, 1])[ids]
        tensor([0, 0, 1])
    """
    known, sizes = np.unique(labels.numpy(), return_counts=True)
    floor = np.minimum(sizes, least)
    exact = (count - floor.sum()) * (sizes - floor) / max(1, (sizes - floor).sum())
    quota = np.floor(exact).astype(np.int64)
    rest = count - int(floor.sum()) - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:rest]] += 1
    key = random.random(len(labels))
    chosen = []
    for label, take in zip(known, quota + floor):
        ids = np.flatnonzero(labels.numpy() == label)
        chosen.append(ids[np.argsort(key[ids], kind="stable")[:take]])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def complement(ids: Tensor, n: int) -> Tensor:
    """The ids of ``0..n-1`` that are not given."""
    keep = torch.ones(n, dtype=torch.bool)
    keep[ids] = False
    return keep.nonzero().squeeze(1)


def statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over all pixels, in float64, of at most 4,096 images."""
    ids = torch.arange(0, len(split), max(1, -(-len(split) // STATISTICS_IMAGES)))
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for part in torch.split(ids, 256):
        pixels = split.fetch(part)[0].to(torch.float64).transpose(0, 1).flatten(1)
        count += pixels.shape[1]
        total, square = total + pixels.sum(1), square + pixels.square().sum(1)
    mean = total / count
    std = (square / count - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std < 1e-6, torch.ones_like(std), std)
    return tuple(mean.tolist()), tuple(std.tolist())
