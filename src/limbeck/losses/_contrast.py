"""Contrast two lists of vectors: partners attract, others repel. The engine of BicKD, in blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["both", "teacher", "student"]
Form = Literal["infonce", "orthogonal"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """How vectors are contrasted; the fields are the options of ``bickd``."""

    tau: float
    form: Form
    direction: Direction
    mu: float
    own_negatives: bool
    chunk: int | None

    def __call__(
        self, student: Tensor, teacher: Tensor, groups: Tensor | None, together: bool, differentiate: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Mean value over anchors, and its gradient for the student's vectors.

        Args:
            student: ``(n, d)`` vectors.
            teacher: ``(n, d)`` partners, row for row.
            groups: ``(n,)`` ids; vectors of one group are not each other's negatives. None: no groups.
            together: vectors of one group are each other's positives.
            differentiate: whether the gradient is wanted.
        """
        with torch.autocast(student.device.type, enabled=False):
            work = _Work(self, student, teacher, groups, together)
            return (
                work.orthogonal(differentiate) if self.form == "orthogonal" else work.infonce(differentiate)
            )


class _Work:
    """One evaluation. Blocks are ``(rows, n)`` slices of the similarity matrix, made when needed."""

    def __init__(
        self, how: Contrast, student: Tensor, teacher: Tensor, groups: Tensor | None, together: bool
    ) -> None:
        self.how, self.s, self.t, self.groups, self.together = how, student, teacher, groups, together
        self.n = len(student)
        chunk = how.chunk or (self.n if self.n <= 4096 else max(1, 2**24 // self.n))
        self.blocks = [slice(i, min(i + chunk, self.n)) for i in range(0, self.n, chunk)]
        self.anchors_t = {"both": 0.5, "teacher": 1.0, "student": 0.0}[how.direction]
        self.anchors_s = 1 - self.anchors_t

    def same(self, block: slice) -> Tensor | None:
        """Which pairs are of one group."""
        return None if self.groups is None else self.groups[block, None] == self.groups

    def diagonal(self, matrix: Tensor, block: slice) -> Tensor:
        """The view of a block on the pairs of partners."""
        return matrix[:, block].diagonal()

    def positives(self, block: slice) -> Tensor | None:
        """Weights of each anchor's positives, rows adding up to 1; None means the partner alone."""
        if not self.together or self.groups is None:
            return None
        weights = (self.groups[block, None] == self.groups).to(self.s.dtype)
        return weights.div_(weights.sum(1, keepdim=True))

    def logits(self, a: Tensor, b: Tensor, block: slice, own: bool) -> Tensor:
        """Similarities over tau with the pairs that do not count at minus infinity."""
        x = a[block] @ b.T
        x /= self.how.tau
        same = None if self.together and not own else self.same(block)
        if same is not None:
            self.diagonal(same, block).fill_(own)
            x.masked_fill_(same, -torch.inf)
        elif own:
            self.diagonal(x, block).fill_(-torch.inf)
        return x

    def infonce(self, differentiate: bool) -> tuple[Tensor, Tensor | None]:
        """Two passes over the blocks: the normalisers of both directions, then the gradient."""
        s, t, single = self.s, self.t, len(self.blocks) == 1
        norm_t = s.new_empty(self.n)
        norm_s = s.new_full((self.n,), -torch.inf)
        attraction = s.new_zeros(())
        x = s
        for block in self.blocks:
            x = self.logits(t, s, block, own=False)
            weights = self.positives(block)
            attraction += (self.diagonal(x, block) if weights is None else x * weights).sum()
            if self.anchors_t:
                norm_t[block] = x.logsumexp(1)
                if self.how.own_negatives:
                    norm_t[block] = self.with_own(norm_t, t, block)
            if self.anchors_s:
                norm_s = x.logsumexp(0) if single else torch.logaddexp(norm_s, x.logsumexp(0))
        if self.anchors_s and self.how.own_negatives:
            for block in self.blocks:
                norm_s[block] = self.with_own(norm_s, s, block)
        value = -attraction
        if self.anchors_t:
            value += self.anchors_t * norm_t.sum()
        if self.anchors_s:
            value += self.anchors_s * norm_s.sum()
        if not differentiate:
            return value / self.n, None

        gradient = torch.zeros_like(s)
        for block in self.blocks:
            x = x if single else self.logits(t, s, block, own=False)
            slope = self.slopes(x, norm_t[block], norm_s)
            weights = self.positives(block)
            if weights is None:
                self.diagonal(slope, block).sub_(1)
            else:
                slope -= weights
            gradient.addmm_(slope.T, t[block])
            if self.anchors_s and self.how.own_negatives:
                x = self.logits(s, s, block, own=True)
                slope = x.sub_(norm_s[block, None]).exp_().mul_(self.anchors_s)
                gradient.addmm_(slope.T, s[block])
                gradient[block] += slope @ s
        return value / self.n, gradient.div_(self.n * self.how.tau)

    def with_own(self, norm: Tensor, vectors: Tensor, block: slice) -> Tensor:
        """Normalisers that also count the negatives of the anchor's own side."""
        return torch.logaddexp(norm[block], self.logits(vectors, vectors, block, own=True).logsumexp(1))

    def slopes(self, x: Tensor, norm_t: Tensor, norm_s: Tensor) -> Tensor:
        """Weighted softmax over rows plus that over columns; ``x`` is overwritten."""
        if not self.anchors_s:
            return x.sub_(norm_t[:, None]).exp_()
        if not self.anchors_t:
            return x.sub_(norm_s).exp_()
        rows = torch.sub(x, norm_t[:, None]).exp_()
        return rows.add_(x.sub_(norm_s).exp_()).mul_(0.5)

    def orthogonal(self, differentiate: bool) -> tuple[Tensor, Tensor | None]:
        """Partners at 1, others at 0, in squares."""
        s, t, value = self.s, self.t, self.s.new_zeros(())
        gradient = torch.zeros_like(s)
        for block in self.blocks:
            x = t[block] @ s.T
            weights, same = self.positives(block), self.same(block)
            if weights is None:
                weights = torch.zeros_like(x)
                self.diagonal(weights, block).fill_(1)
            apart = weights == 0 if same is None else ~same
            slope = (x - 1) * weights + self.how.mu * x * apart
            value += ((x - 1).square() * weights).sum() + self.how.mu * (x.square() * apart).sum()
            gradient.addmm_(slope.T, t[block])
            if self.how.own_negatives:
                x = (s[block] @ s.T).mul_(apart)
                value += self.how.mu * x.square().sum()
                gradient[block] += 2 * self.how.mu * (x @ s)
        return value / self.n, gradient.mul_(2 / self.n) if differentiate else None
