"""ITRD."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from ..connectors import width
from ..losses.itrd import itrd_correlation, itrd_mutual
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .embedding import EmbeddingMethod, Projection


class ITRD(EmbeddingMethod):
    """``CE + 2 correlation + mutual`` of embeddings, the student's projected to the teacher's width.

    As published, the mutual term sees the student's own embedding where the widths are equal, and the
    projected one where they are not.

    Example:
        >>> ITRD().term_weights()
        {'correlation': 2.0, 'mutual': 1.0}
    """

    name = "itrd"
    paper = "Miles, Lopez Rodriguez, Mikolajczyk 2021, arXiv:2112.00459"
    status = "verified"
    across_batch = True

    class Options(EmbeddingMethod.Options):
        """The layer, and options of the two terms."""

        alpha: float = Field(1.5, gt=0, description="order of Rényi's entropy in the correlation term")
        correlation_weight: float = Field(2.0, ge=0, description="weight of the correlation term")
        mutual_weight: float = Field(1.0, ge=0, description="weight of the mutual-information term")

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {"correlation": self.options.correlation_weight, "mutual": self.options.mutual_weight}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pair = self.one_pair(student, teacher)
        self.embed = Projection(pair.source, width(pair.target))
        self.compare([pair], [f"student to width {width(pair.target)}"])

    def relate(self, student: Tensor, teacher: Tensor) -> Terms:
        """The terms of embeddings ``(N, D)`` and ``(N, E)`` of the two networks."""
        projected, weights = self.embed(student), self.term_weights()
        terms = {}
        if weights["correlation"]:
            value = itrd_correlation(projected, teacher, alpha=self.options.alpha)
            terms["correlation"] = Term(value, weights["correlation"])
        if weights["mutual"]:
            value = itrd_mutual(student if student.shape == teacher.shape else projected, teacher)
            terms["mutual"] = Term(value, weights["mutual"])
        return terms

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return self.relate(*self.vectors(student, teacher))
