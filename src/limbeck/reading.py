"""Samples as a teacher with another tokenizer reads them, and which tokens of the two readings belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .shapes import IGNORE
from .vocabulary import Spans, exact_pairs, groups, warp

Places = tuple[Tensor, Tensor]
"""Numbers of supervised tokens that belong together, the student's and the teacher's, ``(P,)`` each."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample as the teacher reads it, with the places of both readings' supervised tokens in the response.

    Attributes:
        ids, labels: what the teacher is fed, one number longer than its inputs, labels of the prompt -100.
        spans: of the supervised tokens in the response's bytes, the student's and the teacher's; None where the
            tokens do not spell one text, and nothing is aligned.
        words: bytes of these tokens, for alignment by edit distance.
    """

    ids: Tensor
    labels: Tensor
    counts: tuple[int, int]
    spans: tuple[Spans, Spans] | None
    words: tuple[list[bytes], list[bytes]]
    _known: dict[str, Places] = field(default_factory=dict)

    def groups(self) -> Places:
        """The group of each supervised token of the student and of the teacher, -1 for none; found once and kept."""
        if "groups" not in self._known:
            found = [np.full(n, -1) for n in self.counts] if self.spans is None else groups(*self.spans)[:2]
            self._known["groups"] = (torch.from_numpy(found[0]), torch.from_numpy(found[1]))
        return self._known["groups"]

    def pairs(self, kind: str) -> Places:
        """Places that belong together; found once and kept."""
        if kind not in self._known:
            self._known[kind] = ALIGNMENTS[kind](self)
        return self._known[kind]


def _exact(sample: Sample) -> Places:
    if sample.spans is None:
        none = torch.zeros(0, dtype=torch.long)
        return none, none
    a, b = exact_pairs(*sample.spans)
    return torch.from_numpy(a), torch.from_numpy(b)


def _position(sample: Sample) -> Places:
    every = torch.arange(min(sample.counts))
    return every, every


def _edit(sample: Sample) -> Places:
    a, b = warp(*sample.words).one_to_one(published=True)
    return torch.from_numpy(a), torch.from_numpy(b)


ALIGNMENTS: Mapping[str, Callable[[Sample], Places]] = {
    "exact": _exact,
    "position": _position,
    "edit": _edit,
}
"""How supervised tokens are paired: the same bytes of the response, the k-th with the k-th, least edit distance."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A batch as the teacher reads it.

    Attributes:
        inputs, labels: of the teacher ``(B, L_t)``, padded on the right, labels already shifted.
        samples: one for each row.
    """

    inputs: Tensor
    labels: Tensor
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Reading:
        """Put samples together."""
        if not samples:
            nothing = torch.zeros(0, 1, dtype=torch.long)
            return cls(nothing, nothing, ())
        return cls(
            pad_sequence([s.ids[:-1] for s in samples], batch_first=True),
            pad_sequence([s.labels[1:] for s in samples], batch_first=True, padding_value=IGNORE),
            tuple(samples),
        )

    def to(self, device: torch.device | str) -> Reading:
        """The same on another device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))

    def rows(self, rows: Tensor) -> Reading:
        """These rows only, by position or mask."""
        chosen = torch.arange(len(self.samples), device=rows.device)[rows].tolist()
        return Reading.of([self.samples[i] for i in chosen]).to(self.inputs.device)

    def pairs(self, kind: str) -> Places:
        """Rows of the student's and of the teacher's signals ``(N, ...)`` that belong together."""
        ours = theirs = 0
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for sample in self.samples:
            a, b = sample.pairs(kind)
            found[0].append(a + ours)
            found[1].append(b + theirs)
            ours, theirs = ours + sample.counts[0], theirs + sample.counts[1]
        device = self.inputs.device
        mine, other = (torch.cat(side) if side else torch.zeros(0, dtype=torch.long) for side in found)
        return mine.to(device), other.to(device)

    @property
    def tokens(self) -> Tensor:
        """The teacher's supervised tokens, row by row ``(N_t,)``."""
        return self.labels[self.labels != IGNORE]

    def groups(self) -> Places:
        """The group of each supervised token of the student ``(N_s,)`` and of the teacher ``(N_t,)``, -1 for none."""
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        total = 0
        for sample in self.samples:
            sides = sample.groups()
            for of, side in zip(found, sides, strict=True):
                of.append(torch.where(side < 0, side, side + total))
            total += 1 + max(sides[0].tolist(), default=-1)
        mine, other = (torch.cat(side) if side else torch.zeros(0, dtype=torch.long) for side in found)
        return mine.to(self.inputs.device), other.to(self.inputs.device)

    def rows_of(self) -> tuple[Tensor, Tensor]:
        """The row of the batch of each supervised token, for the student ``(N_s,)`` and the teacher ``(N_t,)``."""
        device = self.inputs.device
        return tuple(
            torch.repeat_interleave(
                torch.arange(len(self.samples)), torch.tensor([s.counts[side] for s in self.samples])
            ).to(device)
            for side in (0, 1)
        )  # type: ignore[return-value]


__all__ = ["ALIGNMENTS", "Reading", "Sample"]
