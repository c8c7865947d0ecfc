"""DSKD: dual-space distillation of language models."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from ..losses import dual_space, projector_start
from ..models.causal import head_of
from ..shapes import IGNORE
from ..signals import Batch, Signals
from ..taps import Layout
from ..training.gather import total_per_process
from ._aligned import AlignedMethod
from .base import Method, Setting, Term, Terms
from .token_kd import DivergenceName


class DSKD(AlignedMethod):
    """Both distributions from one head, in both spaces; the second version's rules by default.

    The way from the teacher's space to the student's starts at ``pinv(W^s) W^t`` and is trained by the ``projector``
    term alone. The way back is ``pinv(W^t) W^s`` with the student's head as it stands in each step, and never
    trained. Where the tokenizers differ, tokens over the same bytes of the response are compared (exact token
    alignment), projectors start from the shared entries, and tokens whose likeliest one for the teacher the student
    does not have are left out. ``targets="labels", masked=False, start="random"`` and
    ``teacher_divergence="forward_kl"`` are the first version's rules, whose way back is trained too.

    Example:
        >>> DSKD(divergence="adaptive_kl").term_weights()
        {'student_space': 1.0, 'projector': 1.0, 'teacher_space': 1.0}
    """

    name = "dskd"
    paper = "Zhang et al., arXiv:2504.11426 (second version), arXiv:2406.17328 (first)"
    status = "verified"
    label_weight = 0.5
    weight = 0.5
    may_rest = frozenset({"student_space"})  # until the projected teacher says what the teacher says

    class Options(Method.Options):
        """Options of ``limbeck.losses.dual_space``, and how the projectors start."""

        divergence: DivergenceName = Field("forward_kl", description="the distance in both spaces")
        teacher_divergence: DivergenceName | None = Field(
            None, description="another one in the teacher's space"
        )
        temperature: float = Field(2.0, gt=0, description="divides the logits")
        beta: float = Field(0.5, ge=0, le=1, description="teacher's weight, of jsd")
        alpha: float = Field(0.1, ge=0, le=1, description="own share of the mixture, of the skewed ones")
        mu: float = Field(0.5, ge=0, le=1, description="mass of the tail, of adaptive_kl")
        scale: bool = Field(False, description="multiply by the squared temperature")
        targets: str = Field("teacher", pattern="^(teacher|labels)$", description="of the projector term")
        masked: bool = Field(True, description="only tokens at which the projected teacher says the same")
        start: str = Field("pinv", pattern="^(pinv|random)$", description="how the projectors start")

    options: Options

    def term_weights(self) -> dict[str, float]:
        return dict.fromkeys(("student_space", "projector", "teacher_space"), 1.0)

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        assert setting.teacher is not None
        with torch.no_grad():
            own, other = (
                head_of(model, size).weight
                for model, size in zip((setting.student, setting.teacher), _sizes(setting), strict=True)
            )
        if setting.languages is not None:
            relation = setting.languages.relation
            to_student = relation.to_student(len(other))
            self.register_buffer("translate", to_student.where(to_student >= 0, IGNORE), persistent=False)
            self.register_buffer("shared", relation.student_ids, persistent=False)
            own, other = own[relation.student_ids], other[relation.teacher_ids]
        exact = self.options.start == "pinv"
        self.to_student = nn.Linear(other.shape[1], own.shape[1], bias=not exact, device=own.device)
        self.to_teacher = None if exact else nn.Linear(own.shape[1], other.shape[1], device=own.device)
        if exact:
            there, back = projector_start(own, other.to(own.device))
            self.to_student.weight.data.copy_(there)
            self.register_buffer("back", back, persistent=False)
        self.choices = (
            f"projectors between widths {own.shape[1]} and {other.shape[1]}, {self.options.start}",
        )

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o = self.options
        mine, theirs, rows = self.together(student, teacher, batch)
        foreign = batch.reading is not None
        constants: dict[str, Any] = o.model_dump(exclude={"targets", "masked", "start"})
        found = dual_space(
            mine.hidden,
            mine.head,
            theirs.hidden,
            theirs.head,
            self.to_student(theirs.hidden.to(self.to_student.weight.dtype)),
            self._back(
                mine.hidden, mine.head.weight[self.get_buffer("shared")] if foreign else mine.head.weight
            ),
            targets=batch.labels[rows] if o.targets == "labels" else None,
            translate=self.get_buffer("translate") if foreign else None,
            agreement=1.0 if o.masked else -1.0,
            num_items=None if foreign else batch.items,
            total=total_per_process,
            **constants,
        )
        self.told["agreed"] = found.agreed / found.known.clamp(min=1)
        return {name: Term(getattr(found, name)) for name in self.term_weights()}

    def _back(self, hidden: Tensor, head: Tensor) -> Tensor:
        """The student's states in the teacher's space."""
        if self.to_teacher is not None:
            projected: Tensor = self.to_teacher(hidden.to(self.to_teacher.weight.dtype))
            return projected
        back = self.get_buffer("back")
        return linear(hidden.to(back.dtype), back @ head.detach().to(back.dtype))


def _sizes(setting: Setting) -> tuple[int, int]:
    """Entries of both vocabularies."""
    return (setting.classes,) * 2 if setting.languages is None else setting.languages.classes
