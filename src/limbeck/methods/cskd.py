"""Cosine-similarity KD with cosine-weighted temperatures."""

from __future__ import annotations

from pydantic import Field

from ..losses import cosine_similarity_kd, cswt
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class CSKD(Method):
    """``CE + cosine-similarity KD + the same with a temperature per sample (CSWT)``.

    The two losses share one weight; alpha = 2 is inside them. The authors' code adds the two views and Gram
    matrices of multi-level distillation, which are not part of the method's description and left out.

    Example:
        >>> CSKD().term_weights()
        {'cosine': 1.0, 'cswt': 1.0}
    """

    name = "cskd"
    paper = "Ham et al. 2023, arXiv:2311.14307"
    status = "transcribed"
    across_batch = True

    class Options(Method.Options):
        """Options of ``limbeck.losses.cosine_similarity_kd`` and ``cswt``."""

        temperature: float = Field(4.0, gt=0, description="divides the logits of the first loss")
        low: float = Field(2.0, gt=0, description="temperature where the networks agree most")
        high: float = Field(6.0, gt=0, description="temperature where they agree least")
        alpha: float = Field(2.0, ge=0, description="factor inside both losses")
        cosine_weight: float = Field(1.0, ge=0, description="weight of the first loss")
        cswt_weight: float = Field(1.0, ge=0, description="weight of the loss with a temperature per sample")

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {"cosine": self.options.cosine_weight, "cswt": self.options.cswt_weight}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, a, b = self.options, student.logits, self.taught(teacher).logits
        terms: Terms = {}
        if o.cosine_weight:
            value = cosine_similarity_kd(a, b, temperature=o.temperature, alpha=o.alpha)
            terms["cosine"] = Term(value, o.cosine_weight)
        if o.cswt_weight:
            terms["cswt"] = Term(cswt(a, b, low=o.low, high=o.high, alpha=o.alpha), o.cswt_weight)
        return terms
