"""Boundary supporting samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from ..losses import kd
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Ask, Method, Setting, Term, Terms
from .boundary import Scores, boundary_samples, choose_bases, choose_targets


class BSS(Method):
    """``CE + a(e) KD + b(e) KD on attacked images``, KD at T = 3 without its T^2.

    In each step images that both networks have right are pushed to the teacher's decision boundary, and the
    student learns what the teacher says of them. ``a`` falls linearly from ``kd_start`` to ``kd_end`` over the
    run, ``b`` from ``attack_start`` to 0 over its first ``attack_share``; no attack is made after that.

    The authors write both KDs as cross-entropies; the divergence here has the same gradient. They move ``a``
    and ``b`` once an epoch, here they move in every step. Base images are ranked with the student in
    evaluation mode.

    Example:
        >>> BSS().term_weights()
        {'kd': 4.0, 'attack': 2.0}
    """

    name = "bss"
    paper = "Heo et al., AAAI 2019, arXiv:1805.05532"
    status = "verified"
    needs = frozenset({"logits", "exact_views"})

    class Options(Method.Options):
        """Options of the two distances, their schedules and the attack."""

        temperature: float = Field(3.0, gt=0, description="divides the logits")
        kd_start: float = Field(4.0, ge=0, description="weight of KD at the start")
        kd_end: float = Field(1.0, ge=0, description="weight of KD at the end")
        attack_start: float = Field(2.0, ge=0, description="weight of KD on attacked images at the start")
        attack_share: float = Field(0.75, gt=0, le=1, description="share of the run at whose end it is 0")
        attacked: int = Field(64, ge=1, description="images attacked in a step at most")
        steps: int = Field(10, ge=1, description="of the attack at most")
        step_size: float = Field(0.3, gt=0, description="of the attack")
        scores: Scores = Field("logits", description="what the attack compares")
        limit: float | None = Field(
            None, gt=0, description="range of normalised pixels; null: black to white"
        )

    options: Options

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.epochs = 1
        limit = 2.5 if self.options.limit is None else self.options.limit
        self.register_buffer("low", torch.tensor(-limit), persistent=False)
        self.register_buffer("high", torch.tensor(limit), persistent=False)

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.epochs = setting.epochs
        if self.options.limit is None:
            mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (setting.inputs.mean, setting.inputs.std))
            self.low, self.high = (0 - mean) / std, (1 - mean) / std

    def term_weights(self) -> dict[str, float]:
        """The weights where the run stands."""
        o, share = self.options, max(self.epoch, 0.0) / self.epochs
        kd_weight = o.kd_end + (o.kd_start - o.kd_end) * max(1 - share, 0.0)
        return {"kd": kd_weight, "attack": o.attack_start * max(1 - share / o.attack_share, 0.0)}

    def second(self, student: Ask, teacher: Ask, batch: Batch) -> Batch | None:
        if not self.term_weights()["attack"]:
            return None
        o = self.options
        with torch.no_grad():
            own, theirs = student(batch.inputs), teacher(batch.inputs)
            rows = choose_bases(own, theirs, batch.labels, o.attacked)
            if not len(rows):
                return None
            base = batch.rows(rows)
            target = choose_targets(theirs[rows], base.labels)
        moved = boundary_samples(
            teacher,
            base.inputs,
            target,
            scores=o.scores,
            steps=o.steps,
            step_size=o.step_size,
            low=self.low,
            high=self.high,
        )
        return replace(base, inputs=moved)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        taught, weights = self.taught(teacher), self.term_weights()
        terms = {"kd": Term(self._distance(student, taught), weights["kd"])}
        if weights["attack"]:
            on_attacked = self._distance(
                student.extra.get("second", _none(student)), taught.extra.get("second", _none(taught))
            )
            terms["attack"] = Term(on_attacked, weights["attack"])
        return terms

    def _distance(self, student: Signals, teacher: Signals) -> Tensor:
        return kd(student.logits, teacher.logits, temperature=self.options.temperature, scale=False)


def _none(signals: Signals) -> Signals:
    """No rows, still connected: a step without attacked images has the same terms as any other."""
    return Signals(signals.logits[:0])
