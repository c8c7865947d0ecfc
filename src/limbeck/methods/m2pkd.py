"""M2PKD: cosine matching of mid-level features, weighed against the labels by the teacher's error."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from ..connectors import width
from ..losses import flat_cosine
from ..losses.m2pkd import Rule, trust
from ..signals import Batch, Signals
from ..taps import Layout
from ._outputs import outputs_loss
from .base import Setting, Status, Term, Terms
from .embedding import EmbeddingMethod, Projection


class M2PKD(EmbeddingMethod):
    """``(1 - b) L + b (1 - cos(F_t, F_s))``, L the task's own loss and b by the teacher's loss on the batch.

    The default rule for b is **reconstructed** (a worse teacher counts less); ``rule=released`` is that of the authors'
    code, under which a mediocre teacher switches the labels off. A student of another width gets a projection.

    Example:
        >>> M2PKD().options
        Options(student_layers=(), teacher_layers=(), rule='clipped', threshold=1.0, most=0.5)
    """

    name = "m2pkd"
    paper = "Aslam et al., CVPRW 2023, pp. 3338-3347"
    status: ClassVar[Status] = "reconstructed"
    needs = frozenset({"features", "logits"})
    label_weight = 0.0
    continuous = True
    may_rest = frozenset({"labels", "m2pkd"})

    class Options(EmbeddingMethod.Options):
        """How the weight follows the teacher's error."""

        rule: Rule = Field("clipped", description="released: that of the authors' code")
        threshold: float = Field(
            1.0, gt=0, description="error at which clipped trusts no more; released: 0.2"
        )
        most: float = Field(0.5, ge=0, le=1, description="largest weight of clipped")

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {"labels": 1.0, self.name: 1.0}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pair = self.one_pair(student, teacher)
        same = width(pair.source) == width(pair.target)
        self.project: nn.Module = nn.Identity() if same else Projection(pair.source, width(pair.target))
        self.compare((pair,))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, t = self.options, self.taught(teacher)
        mine, theirs = self.vectors(student, t)
        b = trust(outputs_loss(t.logits, batch.labels), rule=o.rule, threshold=o.threshold, most=o.most)
        return {
            "labels": Term((1 - b) * outputs_loss(student.logits, batch.labels)),
            self.name: Term(b * flat_cosine(self.project(mine), theirs)),
        }
