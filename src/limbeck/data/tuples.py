"""Tuples of samples: drawn once, without repetition, and walked through in a replayable order."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .streams import generator, permutation


class Tuples:
    """Unique tuples of a split's samples, and the order in which training walks through them.

    A tuple is a group of ``size - size // 2`` samples followed by a group of ``size // 2``. No sample is in it
    twice, the order within a group does not matter, and which group comes first does. If there are at least
    five times as many tuples as wanted they are drawn, otherwise all are listed and some of them chosen.
    Training walks through all of them in a new order each time round; epochs are sections of that walk.

    Args:
        samples: size of the training split.
        size: samples in a tuple.
        count: tuples at most.
        seed: of the draw and of the order.

    Raises:
        ConfigError: the split has fewer samples than a tuple.

    Source:
        The sampler of comparative KD (Wilf et al., WACV 2025, arXiv:2311.02253, alextxu/ckd).

    Example:
        >>> tuples = Tuples(4, 2, 100, seed=0)
        >>> len(tuples.members), tuples.order(0, samples=6).shape
        (12, torch.Size([6]))
    """

    def __init__(self, samples: int, size: int, count: int, *, seed: int) -> None:
        if samples < size:
            raise ConfigError(
                f"a tuple takes {size} samples", got=f"a training split of {samples}",
                fix="lower the method's group_size",
            )  # fmt: skip
        self.size, self.seed = size, seed
        possible = comb(samples, size) * comb(size, size // 2)
        members = self._drawn(samples, count) if possible >= 5 * count else self._listed(samples, count)
        self.members = torch.from_numpy(members)

    def order(self, epoch: int, samples: int) -> Tensor:
        """Sample ids ``(samples,)`` of an epoch, tuple after tuple.

        Args:
            epoch: counted from 0.
            samples: ids in every epoch, a multiple of the tuples' size.
        """
        length, count = samples // self.size, len(self.members)
        places = torch.arange(epoch * length, (epoch + 1) * length)
        turns = places // count
        parts = []
        for turn in range(int(turns[0]), int(turns[-1]) + 1):
            walk = torch.from_numpy(permutation("tuple_order", self.seed, turn, count))
            parts.append(walk[places[turns == turn] % count])
        return self.members[torch.cat(parts)].flatten()

    def _drawn(self, samples: int, count: int) -> np.ndarray:
        random, size = generator("tuples", self.seed), self.size
        found = np.empty((0, size), dtype=np.int64)
        while len(found) < count:
            fresh = (random.random((count, size)) * samples).astype(np.int64)
            ordered = np.sort(fresh, axis=1)
            fresh = self._grouped(fresh[(ordered[:, 1:] != ordered[:, :-1]).all(1)])
            found = np.concatenate([found, fresh])
            found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
        return found[:count]

    def _listed(self, samples: int, count: int) -> np.ndarray:
        size = self.size
        sets = np.array(list(combinations(range(samples), size)), dtype=np.int64)
        firsts = combinations(range(size), size - size // 2)
        orders = [[*first, *(i for i in range(size) if i not in first)] for first in firsts]
        found = np.concatenate([sets[:, order] for order in orders])
        chosen: np.ndarray = found[permutation("tuples", self.seed, 0, len(found))[:count]]
        return chosen

    def _grouped(self, tuples: np.ndarray) -> np.ndarray:
        """Each group in rising order, so that equal tuples look equal."""
        border = self.size - self.size // 2
        return np.concatenate([np.sort(tuples[:, :border], 1), np.sort(tuples[:, border:], 1)], axis=1)
