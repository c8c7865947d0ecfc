"""Universal logit distillation: sorted probabilities, whatever the vocabularies."""

from __future__ import annotations

from pydantic import Field

from ..losses import chunked_divergence
from ..signals import Batch, Signals
from ._aligned import AlignedMethod
from .base import Method, Setting, Term, Terms


class ULD(AlignedMethod):
    """L1 distance of the two sorted distributions, per pair of tokens.

    The published pairs are the k-th supervised token with the k-th; ``align: exact`` pairs tokens of the same bytes.

    Example:
        >>> ULD(align="exact").options.align
        'exact'
    """

    name = "uld"
    paper = "Boizard et al. 2024, arXiv:2402.12030 (universal logit distillation)"
    status = "verified"

    class Options(Method.Options):
        """Options of the loss."""

        temperature: float = Field(1.0, gt=0, description="divides both models' logits")
        align: str = Field("position", pattern="^(position|exact)$", description="which tokens are compared")

    options: Options

    def prepare(self, student: object, teacher: object, setting: Setting) -> None:
        self.alignment = self.options.align

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        mine, theirs, _ = self.together(student, teacher, batch)
        value = chunked_divergence(
            mine.hidden, mine.head, theirs.hidden, theirs.head,
            divergence="uld", temperature=self.options.temperature,
            num_items=batch.items if batch.reading is None else None,
        )  # fmt: skip
        return {self.name: Term(value)}
