"""MinED: tokens and vocabularies matched by edit distance."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ..losses import mined
from ..signals import Batch, Signals
from ..vocabulary import nearest
from ._aligned import AlignedMethod
from .base import Method, Setting, Term, Terms


class MinED(AlignedMethod):
    """Forward KL from the re-indexed teacher where its token is the student's, the label elsewhere.

    Both answers are warped onto each other so that edit distances are least; a student's token that is warped to one
    teacher's token which stands for it is matched. A teacher's id stands for the student's id of the same bytes, or
    of the least edit distance.

    Example:
        >>> MinED().term_weights()
        {'mined': 1.0}
    """

    name = "mined"
    paper = "Wan et al. 2024, arXiv:2401.10491 (FuseLLM), as in Zhang et al. 2024, arXiv:2406.17328"
    status = "verified"
    label_weight = 0.5
    weight = 0.5
    alignment = "edit"

    class Options(Method.Options):
        """Options of the loss."""

        temperature: float = Field(1.0, gt=0, description="divides both models' logits")

    options: Options

    def prepare(self, student: object, teacher: object, setting: Setting) -> None:
        if setting.languages is None:
            every = torch.arange(setting.classes)
            self.register_buffer("to_student", every, persistent=False)
            self.register_buffer("columns", every, persistent=False)
            return
        languages = setting.languages
        to_student, close = nearest(languages.student, languages.teacher, languages.relation)
        columns = torch.full((languages.classes[0],), -1)
        known = (to_student >= 0).nonzero().flatten().flip(0)
        columns[to_student[known]] = known  # of several, the first
        self.register_buffer("to_student", to_student, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        how = "by edit distance" if close else "by their bytes alone: the vocabularies are large"
        self.choices = (
            f"{int((columns >= 0).sum()):,} of {len(columns):,} entries have one of the teacher's, {how}",
        )

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        mine, theirs = student.extra["tokens"], self.taught(teacher).extra["tokens"]
        a, b = self._matched(batch, len(mine.hidden))
        self.told["matched"] = len(a) / max(len(mine.hidden), 1)
        value = mined(
            student.logits, theirs.head(theirs.hidden[b]), batch.labels, a, self.get_buffer("columns"),
            temperature=self.options.temperature,
        )  # fmt: skip
        return {self.name: Term(value)}

    def _matched(self, batch: Batch, rows: int) -> tuple[Tensor, Tensor]:
        """Rows of both sides where the teacher's token stands for the student's."""
        if batch.reading is None:
            every = torch.arange(rows, device=batch.labels.device)
            return every, every
        a, b = batch.reading.pairs(self.alignment)
        same = self.get_buffer("to_student")[batch.reading.tokens[b]] == batch.labels[a]
        return a[same], b[same]
