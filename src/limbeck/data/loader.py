"""Batches of views in a replayable order, shared out to ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError
from ..signals import Batch
from .splits import TensorSplit
from .streams import permutation
from .tuples import Tuples


@runtime_checkable
class Source(Protocol):
    """Where batches come from: ``Views`` of images, or text."""

    split: Any

    def batch(self, ids: Tensor, epoch: int) -> Batch:
        """Samples as they are trained on in an epoch."""

    def plain(self, ids: Tensor) -> Batch:
        """Samples as they are evaluated."""

    def plan(self, epoch: int) -> Any:
        """Draw an epoch's parameters before worker processes ask for them."""


class Loader:
    """Iterates over a split once per epoch.

    Training: the order is a permutation keyed by (seed, epoch); every global batch is cut into ``world``
    contiguous equal shares, so the union over ranks is the batch that one process would see. With more than
    one rank the last, partial batch is cut to a multiple of ``world`` (at most ``world - 1`` images of an
    epoch are left out; another permutation brings them back).
    Evaluation (``train=False``): plain views in the split's order, every sample exactly once over all ranks;
    shares of the last batch may differ by one and may be empty, so that all ranks take as many steps.

    Args:
        views: where batches come from.
        batch_size: global, over all ranks; a multiple of ``world`` when training.
        seed: of the order.
        shuffle: permute (training) or keep the split's order.
        train: augmented views, or plain ones.
        rank, world: this process and how many there are.
        drop_last: leave out a last batch that is not full.
        tuples: training batches are made of these, all of them full: as many whole tuples as fit into the
            batch size and can be shared out.
        workers: processes that decode and augment ahead, for splits that are not in memory (those in memory
            are faster without).

    Raises:
        ConfigError: a batch size that cannot be shared out or that leaves no step.

    Example:
        >>> from limbeck.data import AugmentConfig, DataConfig, Views, load
        >>> data = load(DataConfig())
        >>> views = Views(AugmentConfig(), data.train, 0, data.mean, data.std)
        >>> loader = Loader(views, 64, seed=0, shuffle=True, train=True)
        >>> len(loader), next(loader.epoch(0)).inputs.shape
        (21, torch.Size([64, 1, 8, 8]))
    """

    def __init__(
        self,
        views: Source,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        train: bool,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        workers: int = 0,
        tuples: Tuples | None = None,
    ) -> None:
        if batch_size < 1 or (train and batch_size % world):
            raise ConfigError(
                "the batch size cannot be shared out equally",
                got=f"{batch_size} over {world} processes",
                expected=f"a positive multiple of {world}",
            )
        if tuples is not None:
            batch_size -= batch_size % (tuples.size * world)
            if not batch_size:
                raise ConfigError(
                    f"a batch does not hold a tuple of {tuples.size} samples for each process",
                    fix=f"raise train.batch_size to a multiple of {tuples.size * world}",
                )
        self.views, self.batch_size = views, batch_size
        self.seed, self.shuffle, self.train = seed, shuffle, train
        self.rank, self.world, self.workers = rank, world, workers
        self.tuples = tuples
        n = len(views.split)
        if train:
            n -= n % (batch_size if drop_last else world)
        self._used = n
        if n == 0:
            raise ConfigError(
                "the training split does not fill one batch",
                got=f"{len(views.split)} images, batch size {batch_size}, {world} processes",
                fix="lower the batch size or set drop_last to false",
            )

    def __len__(self) -> int:
        return -(-self._used // self.batch_size)

    def ids(self, epoch: int) -> list[Tensor]:
        """This rank's sample ids of every step of the epoch."""
        return [batch.tensor_split(self.world)[self.rank] for batch in self.batches(epoch)]

    def batches(self, epoch: int) -> list[Tensor]:
        """All ranks' sample ids of every step of the epoch."""
        if self.tuples is not None:
            order = self.tuples.order(epoch, len(self) * self.batch_size)
        elif self.shuffle:
            order = torch.from_numpy(permutation("shuffle", self.seed, epoch, len(self.views.split)))[
                : self._used
            ]
        else:
            order = torch.arange(self._used)
        return list(torch.split(order, self.batch_size))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, exactly as if the earlier ones had been taken."""
        plans = self.ids(epoch)[start:]
        steps = _Steps(self.views, plans, epoch if self.train else None)
        if self.workers and plans and not isinstance(self.views.split, TensorSplit):
            if self.train:
                self.views.plan(epoch)
            yield from DataLoader(steps, batch_size=None, num_workers=min(self.workers, len(plans)))
        else:
            for step in range(len(plans)):
                yield steps[step]


class _Steps(Dataset[Batch]):
    def __init__(self, views: Source, plans: list[Tensor], epoch: int | None) -> None:
        self.views, self.plans, self.epoch = views, plans, epoch

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, step: int) -> Batch:
        ids = self.plans[step]
        return self.views.plain(ids) if self.epoch is None else self.views.batch(ids, self.epoch)
