"""Data of several modalities per sample, any of which may be missing, with labels for some of the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, DataError, suggest
from ..modalities import Modalities
from ..shapes import IGNORE
from ..signals import Batch
from .assembly import check_labels, resolve_count, stratified
from .changes import Changes
from .config import Data, DataConfig, Share
from .families import hold_out
from .loader import Loader
from .streams import generator, permutation

Array = NDArray[Any]
NOTHING = Modalities(())


@dataclass(frozen=True)
class ModalData(Data):
    """Splits whose samples are rows of ``modalities``; with ``continuous``, ``classes`` are names of the targets."""

    modalities: Modalities = NOTHING
    continuous: bool = False


class ModalSplit:
    """Rows and labels in memory.

    Args:
        rows: ``(n, modalities.width)`` float32.
        labels: class ids ``(n,)``, -100 without one; or targets ``(n, D)``, NaN without.
        name: what messages call it.

    Raises:
        DataError: no sample.
    """

    def __init__(self, rows: Tensor, labels: Tensor, name: str = "split") -> None:
        if not len(rows):
            raise DataError(f"the {name} split is empty", expected="at least one sample")
        self.rows, self.labels, self.name = rows, labels, name

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and labels of the given ids."""
        return self.rows[ids], self.labels[ids]

    def subset(self, ids: Tensor) -> ModalSplit:
        """The split of these samples only."""
        return ModalSplit(self.rows[ids], self.labels[ids], self.name)

    def relabelled(self, labels: Tensor) -> ModalSplit:
        """The same rows under other labels."""
        return ModalSplit(self.rows, labels, self.name)

    @property
    def labelled(self) -> Tensor:
        """Which samples have a label ``(n,)``."""
        known: Tensor = ~torch.isnan(self.labels).any(1) if self.labels.dim() == 2 else self.labels != IGNORE
        return known


class ModalViews:
    """The samples of a split as batches; modalities are not augmented."""

    def __init__(self, split: ModalSplit) -> None:
        self.split = split

    def batch(self, ids: Tensor, epoch: int) -> Batch:
        """Samples by id."""
        rows, labels = self.split.fetch(ids)
        return Batch(rows, labels, ids, epoch)

    def plain(self, ids: Tensor) -> Batch:
        """The same for evaluation."""
        return self.batch(ids, 0)

    def plan(self, epoch: int) -> None:
        """Nothing is drawn."""


class LabelledLoader(Loader):
    """Batches of which a fixed number has labels: drawn anew without replacement for every step, while the samples
    without labels are gone through once an epoch. Every process gets its share of both.

    Args:
        views, batch_size, given: as for ``Loader``.
        per_batch: samples with a label in each batch; at most as many as there are.
        labelled: which samples have one.
    """

    def __init__(
        self, views: ModalViews, batch_size: int, per_batch: int, labelled: Tensor, **given: Any
    ) -> None:
        super().__init__(views, batch_size, **given)
        self.known, self.pool = labelled.nonzero().squeeze(1), (~labelled).nonzero().squeeze(1)
        self.per_batch = min(per_batch, len(self.known))
        self.rest = batch_size - self.per_batch
        if not len(self.pool):
            raise ConfigError("data.labelled_per_batch needs samples without labels", fix="leave it out")
        if self.rest <= 0 or self.per_batch % self.world or self.rest % self.world or not self.per_batch:
            raise ConfigError(
                "batches cannot be made of samples with and without labels",
                got=f"{self.per_batch} with a label of {batch_size}, over {self.world} processes",
                expected="some of both, multiples of the processes",
                fix="set data.labelled_per_batch below train.batch_size",
            )

    def __len__(self) -> int:
        return max(len(self.pool) // self.rest, 1)

    def batches(self, epoch: int) -> list[Tensor]:
        """All processes' sample ids of every step; what does not fill a batch is left for another epoch."""
        order = self.pool[torch.from_numpy(permutation("shuffle", self.seed, epoch, len(self.pool)))]
        found = []
        for step in range(len(self)):
            drawn = permutation("labelled", self.seed, epoch * len(self) + step, len(self.known))
            known = self.known[torch.from_numpy(drawn[: self.per_batch])]
            rest = order[step * self.rest : (step + 1) * self.rest]
            rest = rest[: len(rest) - len(rest) % self.world]
            shares = zip(known.chunk(self.world), rest.chunk(self.world), strict=True)
            found.append(torch.cat([part for share in shares for part in share]))
        return found


def assemble_modal(
    name: str,
    arrays: Mapping[str, Array],
    labels: Array,
    parts: dict[str, Array],
    config: DataConfig,
    *,
    classes: Sequence[str],
    subjects: Array | None = None,
) -> ModalData:
    """From aligned arrays to normalised splits with labels for some of the training samples.

    Each modality is standardised by the training samples that have it, over everything but its first axis; targets
    of a regression by the training samples that keep theirs.

    Args:
        name: of the data set.
        arrays: modality -> ``(n, ...)``; a sample of NaN alone is missing.
        labels: class ids ``(n,)``, -100 without one, or targets ``(n, D)``, NaN without.
        parts: positions of the ``train``, ``validation`` and ``test`` samples.
        config: says which modalities, how many labels, what is absent.
        classes: names of the classes, or of the targets.
        subjects: whom each sample is of ``(n,)``, for ``labelled_subjects``.

    Raises:
        DataError: arrays that do not fit, a modality that no training sample has, constant targets, too few labels.
        ConfigError: a modality that the file does not have, or keys that this data does not know.
    """
    _only_known(config)
    chosen = config.modalities or tuple(arrays)
    for wanted in (*chosen, *config.absent, *config.absent_at_test):
        if wanted not in arrays:
            raise ConfigError(f"the data has no modality {wanted!r}", expected=suggest(wanted, list(arrays)))
    layout = Modalities(tuple((key, tuple(arrays[key].shape[1:])) for key in chosen))
    train = parts["train"]
    if config.train_size is not None:
        train = _smaller(train, labels, config)
    kept = _labels(labels, train, config, subjects)
    rows, mean, std = _rows(arrays, layout, parts | {"train": train}, config)
    y = torch.from_numpy(kept)
    if y.dim() == 2:
        y = _standardised_targets(y.to(torch.float32), train, classes)
    else:
        for part in ("train", "validation", "test"):
            known = y[parts[part]]
            check_labels(known[known != IGNORE], len(classes), f"the {part} split of {name}")
    splits = {}
    for part, ids in (parts | {"train": train}).items():
        at = torch.from_numpy(np.sort(ids))
        splits[part] = ModalSplit(rows[at], y[at], part)
        if part != "train" and not bool(splits[part].labelled.all()):
            lacking = int((~splits[part].labelled).sum())
            raise DataError(
                f"{lacking} samples of the {part} split have no label", expected="a label for each"
            )
    pairs = int(splits["train"].labelled.sum())
    changes: dict[str, Any] = {"labelled": pairs, "of": len(train)} if pairs < len(train) else {}
    for key, shares in (("absent", config.absent), ("absent_at_test", config.absent_at_test)):
        changes |= {key: dict(shares)} if shares else {}
    return ModalData(
        name, splits["train"], splits["validation"], splits["test"], tuple(classes), 0, (0, 0), mean, std,
        changes, layout, y.dim() == 2,
    )  # fmt: skip


def divide(
    n: int,
    labels: Array,
    config: DataConfig,
    *,
    subjects: Array | None = None,
    test_seed: int = 0,
) -> dict[str, Array]:
    """Draw test and validation from the samples with labels: whole subjects where they are known, else stratified by
    class. Samples without a label are trained on, unless their subject is held out."""
    known = _known(labels)
    every = np.arange(n)

    def draw(left: Array, share: Share, stream: str, seed: int) -> Array:
        count = resolve_count(share, len(left), f"data.{stream}")
        if subjects is not None:
            return np.asarray(left[hold_out(subjects[left], count, generator(stream, seed))])
        if labels.ndim == 1:
            return np.asarray(
                left[stratified(torch.from_numpy(labels[left]), count, generator(stream, seed)).numpy()]
            )
        return np.asarray(left[np.sort(permutation(stream, seed, 0, len(left))[:count])])

    test = draw(every[known], config.test, "test", test_seed)
    left = np.setdiff1d(every[known], test)
    validation = draw(left, config.validation, "validation", config.split_seed)
    train = np.setdiff1d(every, np.concatenate([test, validation]))
    if subjects is not None:
        train = train[~np.isin(subjects[train], subjects[np.concatenate([test, validation])])]
    return {"train": train, "validation": validation, "test": test}


def _known(labels: Array) -> Array:
    """Which samples have a label."""
    return np.asarray(~np.isnan(labels).any(1) if labels.ndim == 2 else labels != IGNORE)


def _only_known(config: DataConfig) -> None:
    plain = {key: getattr(config, key) for key in Changes.model_fields if key != "seed"}
    if given := [key for key, value in plain.items() if value is not None]:
        raise ConfigError(f"data of several modalities has no {', '.join(given)}", fix="use data.labelled")
    if config.labelled is not None and config.labelled_subjects is not None:
        raise ConfigError("give either data.labelled or data.labelled_subjects, not both")


def _smaller(train: Array, labels: Array, config: DataConfig) -> Array:
    if config.train_size is None or not 2 <= config.train_size <= len(train):
        raise DataError(
            "data.train_size does not fit the training split",
            got=config.train_size,
            expected=f"2 to {len(train)}",
        )
    if labels.ndim == 1:
        ids = stratified(
            torch.from_numpy(labels[train]), config.train_size, generator("train_size", config.split_seed)
        )
        return np.asarray(train[ids.numpy()])
    return np.asarray(
        train[np.sort(permutation("train_size", config.split_seed, 0, len(train))[: config.train_size])]
    )


def _labels(labels: Array, train: Array, config: DataConfig, subjects: Array | None) -> Array:
    """The labels, those of the training samples that shall not keep theirs taken away."""
    kept = labels.astype(np.float32) if labels.ndim == 2 else labels.astype(np.int64)
    none: Any = np.nan if labels.ndim == 2 else IGNORE
    known = _known(kept)
    having = train[known[train]]
    keep = having
    if config.labelled is not None:
        if not 2 <= config.labelled <= len(having):
            raise DataError(
                "data.labelled does not fit the training split",
                got=config.labelled,
                expected=f"2 to {len(having)}",
            )
        if labels.ndim == 1:
            drawn = stratified(
                torch.from_numpy(kept[having]), config.labelled, generator("labelled", config.split_seed)
            )
            keep = having[drawn.numpy()]
        else:
            keep = having[permutation("labelled", config.split_seed, 0, len(having))[: config.labelled]]
    if config.labelled_subjects is not None:
        if subjects is None:
            raise DataError("data.labelled_subjects needs data with subjects", fix="use data.labelled")
        known_subjects = np.unique(subjects[having])
        if config.labelled_subjects > len(known_subjects):
            raise DataError(
                "there are not so many training subjects",
                got=config.labelled_subjects,
                expected=f"at most {len(known_subjects)}",
            )
        order = permutation("labelled", config.split_seed, 0, len(known_subjects))
        keep = having[np.isin(subjects[having], known_subjects[order[: config.labelled_subjects]])]
    if len(keep) < 2:
        raise DataError("hardly a training sample has a label", got=len(keep), expected="at least 2")
    kept = kept.copy()
    kept[np.setdiff1d(train, keep)] = none
    return kept


def _rows(
    arrays: Mapping[str, Array], layout: Modalities, parts: Mapping[str, Array], config: DataConfig
) -> tuple[Tensor, tuple[float, ...], tuple[float, ...]]:
    """Standardised rows of all samples, and the numbers that they were standardised by."""
    tensors: dict[str, Tensor] = {}
    masks, mean, std = [], [], []
    n = len(next(iter(arrays.values())))
    for number, (name, shape) in enumerate(layout.shapes):
        array = np.asarray(arrays[name], dtype=np.float32)
        if len(array) != n or not shape:
            raise DataError(f"modality {name} does not fit", got=array.shape, expected=f"({n}, ...)")
        flat = array.reshape(n, -1)
        missing = np.asarray(np.isnan(flat).all(1))
        if not np.isfinite(flat[~missing]).all():
            row = int(np.flatnonzero(~np.isfinite(flat).all(1) & ~missing)[0])
            raise DataError(
                f"sample {row} of modality {name} holds NaN or infinite values",
                expected="numbers, or NaN throughout where the modality is missing",
            )
        there = ~missing
        for key, ids in (
            ("absent", parts["train"]),
            ("absent_at_test", np.concatenate([parts["validation"], parts["test"]])),
        ):
            share = getattr(config, key).get(name, 0.0)
            if not 0 <= share <= 1:
                raise ConfigError(f"data.{key}.{name} is no share", got=share, expected="0 to 1")
            drawn = permutation(
                "absent", config.split_seed, number + 1000 * (key == "absent_at_test"), len(ids)
            )
            there[ids[drawn[: round(share * len(ids))]]] = False
        seen = parts["train"][there[parts["train"]]]
        if not len(seen):
            raise DataError(
                f"the modality {name} is missing in every training sample",
                fix=f"leave it out with data.modalities, or give training samples that have {name}",
            )
        values = torch.from_numpy(np.nan_to_num(array, nan=0.0))
        over = [0, *range(2, values.dim())]
        centre = values[seen].mean(over, keepdim=True)
        scale = values[seen].std(over, keepdim=True, correction=0)
        scale = torch.where(scale < 1e-6, torch.ones_like(scale), scale)
        tensors[name] = (values - centre) / scale
        masks.append(torch.from_numpy(there))
        mean += centre.flatten().tolist()
        std += scale.flatten().tolist()
    return layout.join(tensors, torch.stack(masks, 1)), tuple(mean), tuple(std)


def _standardised_targets(y: Tensor, train: Array, names: Sequence[str]) -> Tensor:
    known = y[torch.from_numpy(train)]
    known = known[~torch.isnan(known).any(1)]
    spread = known.std(0, correction=0)
    if bool((spread < 1e-6).any()):
        constant = ", ".join(name for name, s in zip(names, spread.tolist(), strict=True) if s < 1e-6)
        raise DataError(
            f"the target {constant} is constant over the training samples with labels",
            expected="numbers that differ: CCC is not defined for a constant",
            fix="leave it out, or label more samples",
        )
    return (y - known.mean(0)) / spread


__all__ = ["LabelledLoader", "ModalData", "ModalSplit", "ModalViews", "assemble_modal", "divide"]
