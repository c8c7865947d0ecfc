"""Several measurements of one sample, of which any may be missing, as one row of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import ShapeError


@dataclass(frozen=True)
class Modalities:
    """The layout of a multimodal sample: every modality flattened, then one number each that says whether it is there.

    So a sample is a row like any other, for the loader, for accumulation and for every tool that calls a network
    with one tensor; and a modality that is missing is 0, with 0 behind it.

    Attributes:
        shapes: name and shape of each modality, in the order of the row.

    Example:
        >>> layout = Modalities((("sound", (3,)), ("face", (2, 2))))
        >>> layout.width, layout.names
        (9, ('sound', 'face'))
        >>> row = layout.join({"sound": torch.ones(1, 3), "face": torch.ones(1, 2, 2)}, torch.tensor([[True, False]]))
        >>> row
        tensor([[1., 1., 1., 0., 0., 0., 0., 1., 0.]])
        >>> layout.split(row)["face"].shape, layout.present(row)
        (torch.Size([1, 2, 2]), tensor([[ True, False]]))
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names."""
        return tuple(name for name, _ in self.shapes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of each modality."""
        return tuple(math.prod(shape) for _, shape in self.shapes)

    @property
    def width(self) -> int:
        """Length of a row."""
        return sum(self.sizes) + len(self.shapes)

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """The modalities of rows ``(N, width)``, each ``(N, *shape)``.

        Raises:
            ShapeError: rows of another length.
        """
        self._check(rows)
        parts = torch.split(rows[:, : sum(self.sizes)], list(self.sizes), dim=1)
        return {
            name: part.reshape(-1, *shape) if len(shape) > 1 else part
            for (name, shape), part in zip(self.shapes, parts, strict=True)
        }

    def present(self, rows: Tensor) -> Tensor:
        """Which modalities each row has ``(N, M)``, in the order of ``names``."""
        self._check(rows)
        return rows[:, sum(self.sizes) :] > 0.5

    def join(self, parts: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Rows ``(N, width)`` from the modalities and a mask ``(N, M)``; what is missing becomes 0."""
        flat = [
            parts[name].flatten(1).masked_fill(~present[:, i : i + 1], 0.0)
            for i, name in enumerate(self.names)
        ]
        return torch.cat([*flat, present.to(flat[0].dtype)], dim=1)

    def without(self, rows: Tensor, names: Sequence[str]) -> Tensor:
        """The same rows with these modalities missing."""
        present = self.present(rows)
        for name in names:
            present[:, self.names.index(name)] = False
        return self.join(self.split(rows), present)

    def plain(self) -> list[list[Any]]:
        """What a run's card keeps."""
        return [[name, list(shape)] for name, shape in self.shapes]

    @classmethod
    def of(cls, plain: Sequence[Sequence[Any]]) -> Modalities:
        """From what ``plain`` gave."""
        return cls(tuple((str(name), tuple(int(n) for n in shape)) for name, shape in plain))

    def _check(self, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.shape[1] != self.width:
            raise ShapeError(
                "these are no rows of this data's modalities",
                got=tuple(rows.shape),
                expected=f"(N, {self.width}): {', '.join(self.names)} and one flag each",
            )


__all__ = ["Modalities"]
