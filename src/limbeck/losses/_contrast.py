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
    """How vectors are contrasted; the fields are the options of ``bickd``.

    ``bounded`` says that the logits are known to be small enough for their plain exponentials: one of each
    entry then serves both directions. Otherwise sums are taken in the log domain.
    """

    tau: float
    form: Form
    direction: Direction
    mu: float
    own_negatives: bool
    chunk: int | None
    bounded: bool

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

    def mass(self, x: Tensor) -> Tensor:
        """Logits to what is summed: exponentials, or themselves when the sums are logarithms."""
        return x.exp_() if self.how.bounded else x

    def total(self, mass: Tensor, dim: int) -> Tensor:
        """Sum of masses."""
        return mass.sum(dim) if self.how.bounded else mass.logsumexp(dim)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """Sum of two totals."""
        return a + b if self.how.bounded else torch.logaddexp(a, b)

    def share(self, mass: Tensor, total: Tensor) -> Tensor:
        """Softmax: each mass over its total; ``mass`` is overwritten."""
        return mass.div_(total) if self.how.bounded else mass.sub_(total).exp_()

    def slope(self, mass: Tensor, of_t: Tensor | None, of_s: Tensor | None) -> Tensor:
        """Softmax of the teacher's anchors over rows plus that of the student's over columns."""
        if of_t is None or of_s is None:
            total = of_s if of_t is None else of_t
            assert total is not None
            return self.share(mass, total)
        if self.how.bounded:
            return mass.mul_(of_t.reciprocal() + of_s.reciprocal())
        return self.share(mass.clone(), of_t).add_(self.share(mass, of_s))

    def own_mass(self, vectors: Tensor, block: slice) -> Tensor:
        """Masses of the negatives of the anchors' own side."""
        return self.mass(self.logits(vectors, vectors, block, own=True))

    def infonce(self, differentiate: bool) -> tuple[Tensor, Tensor | None]:
        """Two passes over the blocks: the totals of both directions, then the gradient."""
        s, t, how = self.s, self.t, self.how
        from_t, from_s = how.direction != "student", how.direction != "teacher"
        sides = from_t + from_s
        pulls, parts_t, of_s, mass = [], [], None, s
        for block in self.blocks:
            x = self.logits(t, s, block, own=False)
            weights = self.positives(block)
            pulls.append((self.diagonal(x, block) if weights is None else x * weights).sum())
            mass = self.mass(x)
            if from_t:
                total = self.total(mass, 1)
                own = how.own_negatives
                parts_t.append(self.join(total, self.total(self.own_mass(t, block), 1)) if own else total)
            if from_s:
                total = self.total(mass, 0)
                of_s = total if of_s is None else self.join(of_s, total)
        if of_s is not None and how.own_negatives:
            own_totals = [self.total(self.own_mass(s, block), 1) for block in self.blocks]
            of_s = self.join(of_s, torch.cat(own_totals))
        of_t = torch.cat(parts_t) if len(parts_t) > 1 else parts_t[0] if from_t else None
        norms = [total.log() if how.bounded else total for total in (of_t, of_s) if total is not None]
        norm = norms[0].sum() if sides == 1 else (norms[0] + norms[1]).sum()
        pull = torch.stack(pulls).sum() if len(pulls) > 1 else pulls[0]
        value = norm.div_(sides * self.n).sub_(pull, alpha=1 / self.n)
        if not differentiate:
            return value, None

        gradient = s
        for number, block in enumerate(self.blocks):
            if number or len(self.blocks) > 1:
                mass = self.mass(self.logits(t, s, block, own=False))
            slope = self.slope(mass, None if of_t is None else of_t[block, None], of_s)
            weights = self.positives(block)
            if weights is None:
                self.diagonal(slope, block).sub_(sides)
            else:
                slope.sub_(weights, alpha=sides)
            if number == 0:
                gradient = torch.mm(slope.T, t[block], out=torch.empty_like(s))
            else:
                gradient.addmm_(slope.T, t[block])
            if of_s is not None and how.own_negatives:
                slope = self.share(self.own_mass(s, block), of_s[block, None])
                gradient.addmm_(slope.T, s[block])
                gradient[block] += slope @ s
        return value, gradient.div_(self.n * how.tau * sides)

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
