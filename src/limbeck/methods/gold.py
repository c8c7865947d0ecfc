"""GOLD: groups of tokens that spell the same bytes, compared by rank and by shared entries."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from ..losses import gold
from ..signals import Batch, Signals
from ._aligned import AlignedMethod, shared
from .base import Method, Setting, Term, Terms


class GOLD(AlignedMethod):
    """ULD on groups: the finest runs of tokens that spell the same bytes in both tokenisations.

    Where ULD compares the k-th token with the k-th, here every byte of the response is compared, also where one
    tokenizer cuts finer. ``hybrid`` compares shared entries with each other and only the rest by rank.

    Example:
        >>> GOLD(hybrid=True).options.hybrid
        True
    """

    name = "gold"
    paper = "TRL 1.16, GOLD (general online logit distillation); ULD: Boizard et al. 2024, arXiv:2402.12030"
    status = "verified"

    class Options(Method.Options):
        """Options of the loss."""

        temperature: float = Field(1.0, gt=0, description="divides both models' logits")
        merge: Literal["bayesian", "observed"] = Field(
            "bayesian",
            description="whose distribution a group has: its last token's (chain rule), or its first's",
        )
        hybrid: bool = Field(False, description="shared entries by a divergence, only the rest by rank")
        weights: tuple[float, float] | None = Field(
            None, description="of shared entries and of the rest; null: by the shared part of the teacher's"
        )
        beta: float = Field(0.5, ge=0, le=1, description="teacher's weight in the divergence")

    options: Options

    def prepare(self, student: object, teacher: object, setting: Setting) -> None:
        if not shared(self, setting):
            every = torch.arange(setting.classes)
            self.register_buffer("student_ids", every, persistent=False)
            self.register_buffer("teacher_ids", every, persistent=False)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        theirs, reading = self.taught(teacher).extra["tokens"], batch.reading
        if reading is None:
            each = torch.arange(len(batch.labels), device=batch.labels.device)
            tokens, groups = (batch.labels, batch.labels), (each, each)
        else:
            tokens, groups = (batch.labels, reading.tokens), reading.groups()
            self.told["grouped"] = float((groups[0] >= 0).sum()) / max(len(batch.labels), 1)
        options = self.options.model_dump()
        entries = (self.get_buffer("student_ids"), self.get_buffer("teacher_ids"))
        value = gold(
            student.logits, theirs.head(theirs.hidden), tokens, groups,
            shared=entries if options.pop("hybrid") else None, **options,
        )  # fmt: skip
        return {self.name: Term(value)}
