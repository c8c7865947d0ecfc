"""Distillation on the entries that two vocabularies share."""

from __future__ import annotations

from typing import Any

from ..losses import chunked_divergence
from ..signals import Batch, Signals
from ._aligned import AlignedMethod, entries, shared
from .base import Setting, Term, Terms
from .token_kd import TokenKD


class Overlap(AlignedMethod):
    """A divergence of both distributions over the shared entries, each softmax anew over these alone.

    Tokens are compared where both tokenizers have one over the same bytes of the response.

    Example:
        >>> Overlap(divergence="reverse_kl").options.divergence
        'reverse_kl'
    """

    name = "overlap"
    paper = "the baseline called simple cross-tokenizer KD in Zhang et al. 2026, arXiv:2603.01875 (KDFlow)"
    status = "transcribed"
    label_weight = 0.5
    weight = 0.5

    class Options(TokenKD.Options):
        """Options of ``limbeck.losses.token_divergence``."""

    options: Options
    restricted = False

    def prepare(self, student: object, teacher: object, setting: Setting) -> None:
        self.restricted = shared(self, setting)
        if self.restricted:
            self.choices = (f"{len(self.get_buffer('student_ids')):,} shared entries",)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        mine, theirs, _ = self.together(student, teacher, batch)
        heads = (mine.head, theirs.head)
        if self.restricted:
            ids = (self.get_buffer("student_ids"), self.get_buffer("teacher_ids"))
            heads = (entries(heads[0], ids[0]), entries(heads[1], ids[1]))
        constants: dict[str, Any] = self.options.model_dump()
        items = batch.items if batch.reading is None else None
        value = chunked_divergence(
            mine.hidden, heads[0], theirs.hidden, heads[1], num_items=items, **constants
        )
        return {self.name: Term(value)}
