"""A run without data has steps all the same: this stands where a loader of images would."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import DataError
from ..shapes import IGNORE
from ..signals import Batch


class Unseen:
    """A training split that gives nothing, in the place of the real one.

    Example:
        >>> Unseen().fetch(torch.tensor([0]))
        Traceback (most recent call last):
        limbeck.errors.DataError: a data-free run reads no training images
    """

    name = "no data"
    labels = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return 0

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Refused."""
        raise DataError("a data-free run reads no training images")

    def subset(self, ids: Tensor) -> Unseen:
        """The same."""
        return self

    def relabelled(self, labels: Tensor) -> Unseen:
        """The same."""
        return self


class Steps:
    """Batches that hold no image, only how many are wanted and where the run stands.

    Args:
        batch_size: images of a batch.
        iterations: steps of an epoch.

    Example:
        >>> [int(batch.ids[0]) for batch in Steps(4, 3).epoch(0, start=1)]
        [4, 8]
    """

    def __init__(self, batch_size: int, iterations: int) -> None:
        self.batch_size, self.iterations = batch_size, iterations

    def __len__(self) -> int:
        return self.iterations

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The steps of an epoch from ``start`` on; ids count images."""
        b = self.batch_size
        for step in range(start, self.iterations):
            yield Batch(
                torch.empty(b, 0), torch.full((b,), IGNORE), torch.arange(step * b, (step + 1) * b), epoch
            )
