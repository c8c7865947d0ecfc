"""DSKD with cross-model attention: two tokenizers, aligned by what is learnt."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ..errors import ConfigError
from ..losses import cross_attention, cross_space
from ..models.causal import embedded, head_of
from ..signals import Batch, Signals
from .base import Method, Setting, Term, Terms
from .token_kd import DivergenceName


class DSKDCMA(Method):
    """Dual-space KD of the first version for two tokenizers.

    Queries are the student's embeddings of each token and the one it should predict, keys the teacher's; the
    attention reads the teacher's states at the student's tokens and back. Only supervised tokens of the same sample
    attend to each other. Deviation: standard deviations are over supervised tokens, not over padding too.

    Example:
        >>> DSKDCMA(teacher_temperature=0.5).options.teacher_temperature
        0.5
    """

    name = "dskd_cma"
    paper = "Zhang et al., EMNLP 2024, arXiv:2406.17328"
    status = "verified"
    needs = frozenset({"tokens"})
    label_weight = 0.5
    weight = 0.5
    across_tokenizers = True
    may_rest = frozenset({"student_space"})

    class Options(Method.Options):
        """Options of ``limbeck.losses.cross_space``."""

        divergence: DivergenceName = Field("forward_kl", description="the distance in the student's space")
        temperature: float = Field(2.0, gt=0, description="divides the logits")
        teacher_temperature: float = Field(1.0, gt=0, description="further divides the attended teacher's")
        beta: float = Field(0.5, ge=0, le=1, description="teacher's weight, of jsd")
        alpha: float = Field(0.1, ge=0, le=1, description="own share of the mixture, of the skewed ones")
        mu: float = Field(0.5, ge=0, le=1, description="mass of the tail, of adaptive_kl")

    options: Options

    def term_weights(self) -> dict[str, float]:
        return dict.fromkeys(("student_space", "projector", "teacher_space"), 1.0)

    def prepare(self, student: object, teacher: object, setting: Setting) -> None:
        if setting.languages is None or setting.teacher is None:
            raise ConfigError(
                f"{self.name} is for two tokenizers, and these models share one", fix="use dskd"
            )
        with torch.no_grad():
            heads = [
                head_of(model, size).weight
                for model, size in zip(
                    (setting.student, setting.teacher), setting.languages.classes, strict=True
                )
            ]
        (d, wide), device = (head.shape[1] for head in heads), heads[0].device
        inside = [
            network.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
            for network in (setting.student, setting.teacher)
        ]
        if inside != [d, wide]:
            raise ConfigError(
                f"{self.name} needs embeddings as wide as hidden states",
                got=f"{inside}",
                expected=f"{[d, wide]}",
            )
        self.query = nn.Linear(2 * d, 2 * wide, device=device)
        self.to_student = nn.Linear(wide, d, device=device)
        self.to_teacher = nn.Linear(d, wide, device=device)
        self.choices = (f"attention of width {2 * wide} between widths {d} and {wide}",)

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        signals.extra["embedded"] = embedded(student, batch)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        mine, other, reading = student.extra["tokens"], self.taught(teacher), batch.reading
        theirs: Any = other.extra["tokens"]
        assert reading is not None
        rows = reading.rows_of()
        fed, asked = student.extra["embedded"], other.extra["embedded"]
        kind = self.query.weight.dtype
        hidden = theirs.hidden.to(kind)
        values = self.to_student(hidden / _spread(hidden) + asked[1].to(kind) / _spread(asked[1].to(kind)))
        keys = torch.cat(asked, 1).to(kind)
        (q, known), (k, there) = (
            _padded(self.query(torch.cat(fed, 1).to(kind)), rows[0], len(reading.samples)),
            _padded(keys / _spread(keys), rows[1], len(reading.samples)),
        )
        v_s, v_t = (
            _padded(x, r, len(reading.samples))[0]
            for x, r in ((self.to_teacher(mine.hidden.to(kind)), rows[0]), (values, rows[1]))
        )
        u, v = cross_attention(q, k, v_s, v_t, known, there)
        found = cross_space(
            mine.hidden, mine.head, theirs.hidden, theirs.head, u[known], v[there],
            batch.labels, reading.labels[reading.labels >= 0], **self.options.model_dump(),
        )  # fmt: skip
        self.told["agreed"] = found.agreed / max(len(batch.labels), 1)
        return {name: Term(getattr(found, name)) for name in self.term_weights()}


def _spread(x: Tensor) -> Tensor:
    return x.std().clamp(min=1e-6) if x.numel() > 1 else x.new_ones(())


def _padded(x: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows ``(N, w)`` of sorted samples as ``(B, n, w)``, and which places are filled."""
    places = one_hot(rows, max(count, 1)).cumsum(0).gather(1, rows[:, None])[:, 0] - 1
    width = int(places.max()) + 1 if len(places) else 1
    out, filled = x.new_zeros(count, width, x.shape[1]), rows.new_zeros(count, width, dtype=torch.bool)
    filled[rows, places] = True
    return out.index_put((rows, places), x), filled
