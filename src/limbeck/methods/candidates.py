"""Whom a sample is contrasted with: random samples of other classes, the same ones after a resume."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..seeds import derive

Mode = Literal["exact", "relax"]
ROWS = 4
"""Rows whose negatives are picked at once."""


class Candidates(nn.Module):
    """Draws a positive and negatives for samples given by id.

    Negatives of a sample are distinct; where some class has fewer than ``count`` samples of other classes,
    they are drawn with replacement for all. Each draw has a generator of its own, from a seed and the number
    of the draw; both are in the state dict.

    Args:
        labels: label of each sample ``(samples,)``; samples without one are nobody's negative.
        count: negatives of each sample.
        mode: the positive is the sample itself (``exact``) or any of its class (``relax``).

    Raises:
        DataError: fewer than two classes have samples.

    Example:
        >>> draw = Candidates(torch.tensor([0, 0, 1, 2]), count=2)
        >>> draw(torch.tensor([2])).shape, sorted(draw(torch.tensor([0]))[0].tolist())
        (torch.Size([1, 3]), [0, 2, 3])
    """

    labels: Tensor
    pool: Tensor
    first: Tensor
    sizes: Tensor
    state: Tensor

    def __init__(self, labels: Tensor, count: int, mode: Mode = "exact") -> None:
        super().__init__()
        self.count, self.mode = count, mode
        pool = (labels >= 0).nonzero().flatten()
        pool = pool[labels[pool].argsort(stable=True)]
        sizes = torch.bincount(labels[pool], minlength=1)
        if (sizes > 0).sum() < 2:
            raise DataError(
                "there are no negatives: the training samples are of one class",
                fix="train on two classes at least",
            )
        self.largest = int(sizes.max())
        known = {"labels": labels, "pool": pool, "first": sizes.cumsum(0) - sizes, "sizes": sizes}
        for name, tensor in known.items():
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("state", torch.stack([torch.randint(2**62, ()), torch.tensor(0)]))

    def forward(self, ids: Tensor) -> Tensor:
        """Sample ids ``(N, 1 + count)`` for samples ``(N,)``, the positive first; every call draws anew."""
        seed, number = self.state.tolist()
        self.state[1] += 1
        generator = torch.Generator(ids.device).manual_seed(derive(seed, "candidates", number))
        labels = self.labels[ids]
        positives = ids
        if self.mode == "relax":
            positives = self._members(labels, self._uniform((len(ids),), self.sizes[labels], generator))
        drawn = self.pool.new_empty((len(ids), 1 + self.count))
        drawn[:, 0] = positives
        if self.count <= len(self.pool) - self.largest:
            self._distinct(labels, generator, drawn[:, 1:])
        else:
            others = (len(self.pool) - self.sizes[labels])[:, None]
            place = self._uniform((len(ids), self.count), others, generator)
            place += (place >= self.first[labels][:, None]) * self.sizes[labels][:, None]
            drawn[:, 1:] = self.pool[place]
        return drawn

    def _members(self, labels: Tensor, number: Tensor) -> Tensor:
        return self.pool[self.first[labels] + number]

    def _uniform(self, shape: tuple[int, ...], bound: Tensor, generator: torch.Generator) -> Tensor:
        """Whole numbers from 0 to below a bound."""
        part = torch.rand(shape, generator=generator, device=bound.device, dtype=torch.float64)
        return (part * bound).long()

    def _distinct(self, labels: Tensor, generator: torch.Generator, out: Tensor) -> None:
        """The next ``count`` samples of other classes from a random place on in one random order of all.

        One order serves all rows: each row's negatives are a uniform sample without replacement, and a step
        shuffles the data once instead of once for every row. A few rows at a time keep the masks small.
        """
        n = len(self.pool)
        order = self.pool[torch.randperm(n, generator=generator, device=labels.device)]
        reach = self.count + self.largest
        start = torch.randint(n, (len(labels),), generator=generator, device=labels.device)
        order = torch.cat([order, order[: reach - 1]])
        of_order = self.labels[order]
        for first in range(0, len(labels), ROWS):
            rows = slice(first, first + ROWS)
            other = of_order.unfold(0, reach, 1)[start[rows]] != labels[rows, None]
            other &= other.cumsum(1, dtype=torch.int32) <= self.count
            out[rows] = order.unfold(0, reach, 1)[start[rows]][other].view(-1, self.count)
