"""Sample-wise contrastive KD."""

from __future__ import annotations

from pydantic import Field

from ..losses import sample_ckd
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class SampleCKD(Method):
    """``CE + 10 CKD``: each teacher vector of logits picks its student partner among the batch.

    The authors' weight is 10 to 100 by pair of networks (100 for resnet32x4 to 8x4, 10 for resnet56 to 20),
    over 480 epochs with a cosine schedule. It sees the global batch.

    Example:
        >>> SampleCKD(temperature=0.5).options
        Options(temperature=0.5, chunk_size=None)
    """

    name = "sample_ckd"
    paper = "Zhu et al. 2024, arXiv:2404.14109 (CKD)"
    status = "verified"
    weight = 10.0
    across_batch = True

    class Options(Method.Options):
        """Options of ``limbeck.losses.sample_ckd``."""

        temperature: float = Field(1.0, gt=0, description="divides the cosines")
        chunk_size: int | None = Field(None, ge=1, description="rows of the matrix made at once")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, logits = self.options, self.taught(teacher).logits
        value = sample_ckd(student.logits, logits, temperature=o.temperature, chunk_size=o.chunk_size)
        return {self.name: Term(value)}
