"""What methods for two tokenizers share: the tokens that belong together, and heads of the shared entries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..losses import Head
from ..signals import Batch, Signals
from .base import Method, Setting

if TYPE_CHECKING:
    from ..tasks.language import Tokens


class AlignedMethod(Method):
    """A method that compares tokens of two tokenisations; with one tokenizer every token belongs to itself.

    Attributes:
        alignment: key of ``limbeck.reading.ALIGNMENTS``.
    """

    needs = frozenset({"tokens"})
    across_tokenizers = True
    alignment: str = "exact"

    def together(
        self, student: Signals, teacher: Signals | None, batch: Batch
    ) -> tuple[Tokens, Tokens, Tensor]:
        """Both models' tokens, row by row those that belong together, and the student's rows among all of its own."""
        mine, theirs = student.extra["tokens"], self.taught(teacher).extra["tokens"]
        if batch.reading is None:
            return mine, theirs, torch.arange(len(mine.hidden), device=mine.hidden.device)
        a, b = batch.reading.pairs(self.alignment)
        self.told["aligned"] = len(a) / max(len(mine.hidden), 1)
        return replace(mine, hidden=mine.hidden[a]), replace(theirs, hidden=theirs.hidden[b]), a


def entries(head: Head, ids: Tensor) -> Head:
    """The head of these entries of the vocabulary alone."""
    ids = ids.to(head.weight.device)
    return replace(head, weight=head.weight[ids], bias=None if head.bias is None else head.bias[ids])


def shared(method: Method, setting: Setting) -> bool:
    """Keep the ids of shared entries as buffers ``student_ids`` and ``teacher_ids``; False with one vocabulary."""
    if setting.languages is None:
        return False
    relation = setting.languages.relation
    method.register_buffer("student_ids", relation.student_ids, persistent=False)
    method.register_buffer("teacher_ids", relation.teacher_ids, persistent=False)
    return True


__all__ = ["AlignedMethod", "entries", "shared"]
