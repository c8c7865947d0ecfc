"""Class sizes on purpose: long tails, steps, and so many images of each class."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from ..errors import DataError
from .streams import generator


class Imbalance(BaseModel):
    """How class sizes fall with the class id c = 0 .. K-1:

    - ``exponential``: ``n_c = n_max ratio^(-c / (K - 1))``;
    - ``step``: ``n_c = n_max`` for the first classes, ``n_max / ratio`` for the last ``round(minority K)``;
    - ``power``: ``n_c = n_max (c + 1)^(-exponent)``, Zipf's law.

    Source: Cui et al. 2019 (arXiv 1901.05555) and Cao et al. 2019 (arXiv 1906.07413), exponential;
    Buda et al. 2018 (arXiv 1710.05381), step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["exponential", "step", "power"]
    ratio: float | None = Field(None, ge=1, description="largest class over smallest (exponential, step)")
    minority: float = Field(0.5, ge=0, le=1, description="share of the classes that are small (step)")
    exponent: float | None = Field(None, ge=0, description="of the power law")

    @model_validator(mode="after")
    def _complete(self) -> Imbalance:
        needed, other = ("exponent", "ratio") if self.kind == "power" else ("ratio", "exponent")
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"kind {self.kind} is told by its {needed}")
        return self

    def shares(self, classes: int) -> list[float]:
        """``n_c / n_max`` of every class.

        Example:
            >>> Imbalance(kind="exponential", ratio=100).shares(3)
            [1.0, 0.1, 0.01]
        """
        if self.kind == "power":
            return [(c + 1) ** -(self.exponent or 0.0) for c in range(classes)]
        ratio = self.ratio or 1.0
        if self.kind == "exponential":
            return [ratio ** (-c / max(1, classes - 1)) for c in range(classes)]
        large = classes - round(self.minority * classes)
        return [1.0 if c < large else 1 / ratio for c in range(classes)]


def sizes(available: Tensor, imbalance: Imbalance | None, per_class: int | None) -> list[int]:
    """How many images each class keeps: ``floor(n_max share_c)``, at least one.

    Args:
        available: images of each class ``(K,)``; classes without any are left out of account.
        imbalance: the shape; None for classes of equal size.
        per_class: n_max; by default the largest that every class can follow.

    Raises:
        DataError: a class has fewer images than it would need.

    Example:
        >>> sizes(torch.tensor([100, 100, 100]), Imbalance(kind="exponential", ratio=100), None)
        [100, 10, 1]
        >>> sizes(torch.tensor([100, 100, 60]), None, 20)
        [20, 20, 20]
    """
    shares = [1.0] * len(available) if imbalance is None else imbalance.shares(len(available))
    have = available.tolist()
    most = min(n / share for n, share in zip(have, shares, strict=True) if n)
    if per_class is not None and per_class > most:
        raise DataError(
            "data.per_class asks for more images than a class has",
            got=per_class,
            expected=f"at most {math.floor(most)}",
        )
    largest = math.floor(most) if per_class is None else per_class
    return [max(1, math.floor(largest * share + 1e-9)) if n else 0 for n, share in zip(have, shares)]


def keep(labels: Tensor, counts: list[int], seed: int) -> Tensor:
    """Sorted positions of so many samples of each class.

    Every sample has one random rank, so at one seed a smaller selection is part of every larger one.

    Args:
        labels: class ids ``(n,)``.
        counts: samples to keep of each class.
        seed: of the ranks.

    Example:
        >>> keep(torch.tensor([0, 0, 0, 1, 1]), [1, 2], seed=0)[1:]
        tensor([3, 4])
    """
    rank = torch.from_numpy(generator("keep", seed).random(len(labels)))
    chosen = []
    for label, count in enumerate(counts):
        ids = (labels == label).nonzero().squeeze(1)
        chosen.append(ids[rank[ids].argsort(stable=True)[:count]])
    return torch.cat(chosen).sort().values
