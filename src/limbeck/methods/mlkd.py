"""Multi-level logit distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..data.strong import StrongViews
from ..losses import kd, label_smoothing, low_confidence, mlkd_batch, mlkd_class
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Ask, Method, Setting, Term, Terms
from .labels import over_labels

Views = tuple[Tensor, Tensor]
"""Logits of student and teacher on one view."""

RELEASED_STRONG = 3
"""Temperatures at which the released code looks at the strong view; at the others it takes the weak one again."""


class MLKD(Method):
    """``0.1 (CE + CE of a strong view) + 0.9 (instances + batch + classes)`` at five temperatures.

    Both networks also see a strongly changed view of each image. ``form="released"`` (default, since the
    published numbers were made with it) is the authors' code to the letter: its masks of unsure samples and
    classes only scale a term by the share of them, and the strong view is used at the first three temperatures,
    the weak one again at the others. ``form="intended"`` masks sample by sample and class by class, and uses
    the strong view at every temperature. With ``standardise`` the Gram matrices keep the raw logits, as in the
    authors' combination with logit standardisation.

    Example:
        >>> MLKD(form="intended").options.temperatures
        (4.0, 3.0, 5.0, 2.0, 6.0)
    """

    name = "mlkd"
    paper = "Jin, Wang, Lin, CVPR 2023 (multi-level logit distillation)"
    status = "verified"
    needs = frozenset({"logits", "exact_views"})
    label_weight = 0.1
    across_batch = True

    class Options(Method.Options):
        """Temperatures, form, weights of the terms, and the strong view."""

        temperatures: tuple[float, ...] = Field(
            (4.0, 3.0, 5.0, 2.0, 6.0), min_length=1, description="each divides the logits once"
        )
        form: Literal["released", "intended"] = Field("released", description="of masks and views, see above")
        strong_label_weight: float = Field(
            0.1, ge=0, description="weight of cross-entropy on the strong view"
        )
        instance_weight: float = Field(0.9, ge=0, description="weight of KD")
        batch_weight: float = Field(0.9, ge=0, description="weight of the Gram matrices of samples")
        class_weight: float = Field(0.9, ge=0, description="weight of the Gram matrices of classes")
        operations: int = Field(2, ge=0, description="random operations that make the strong view")
        magnitude: float = Field(10.0, ge=0, le=30, description="their strength")

    options: Options

    def term_weights(self) -> dict[str, float]:
        o = self.options
        return {
            "strong_labels": o.strong_label_weight,
            "instance": o.instance_weight,
            "batch": o.batch_weight,
            "class": o.class_weight,
        }

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o = self.options
        self.strong = StrongViews(
            len(setting.labels),
            setting.inputs.mean,
            setting.inputs.std,
            seed=int(torch.randint(2**62, ())),
            operations=o.operations,
            magnitude=o.magnitude,
        )

    def second(self, student: Ask, teacher: Ask, batch: Batch) -> Batch:
        return replace(batch, inputs=self.strong(batch.inputs, batch.ids, batch.epoch))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        teacher = self.taught(teacher)
        strong, strong_teacher = student.extra["second"], teacher.extra["second"]
        raw, raw_teacher = _raw(student), _raw(teacher)
        unsure, rare = low_confidence(raw_teacher)
        weak, view = (student.logits, teacher.logits), (strong.logits, strong_teacher.logits)
        makers: dict[str, Callable[[], Tensor]] = {
            "strong_labels": lambda: _cross_entropy(_raw(strong), batch),
            "instance": lambda: self.instances(weak, view, unsure),
            "batch": lambda: self.relations(mlkd_batch, raw, raw_teacher, unsure),
            "class": lambda: self.relations(mlkd_class, raw, raw_teacher, rare),
        }
        return {name: Term(makers[name](), weight) for name, weight in self.term_weights().items() if weight}

    def instances(self, weak: Views, strong: Views, unsure: Tensor) -> Tensor:
        """KD at every temperature: of the weak view for unsure samples, of the strong view for all."""
        parts = []
        for number, temperature in enumerate(self.options.temperatures):
            if self.options.form == "intended":
                rows = kd(*weak, temperature=temperature, reduction="none")
                parts += [(rows * unsure).mean(), kd(*strong, temperature=temperature)]
                continue
            value, again = kd(*weak, temperature=temperature), number >= RELEASED_STRONG
            parts.append(value * (_share(unsure, value) + again))
            if not again:
                parts.append(kd(*strong, temperature=temperature))
        return torch.stack(parts).sum()

    def relations(
        self, loss: Callable[..., Tensor], student: Tensor, teacher: Tensor, mask: Tensor
    ) -> Tensor:
        """Gram matrices of the weak view at every temperature."""
        intended = self.options.form == "intended"
        parts = [
            loss(student, teacher, temperature=temperature, mask=mask if intended else None)
            for temperature in self.options.temperatures
        ]
        value = torch.stack(parts).sum()
        return value if intended else value * _share(mask, value)


def _raw(signals: Signals) -> Tensor:
    """Logits as the network gave them, whether the method sees standardised ones or not."""
    raw: Tensor = signals.extra.get("raw", signals.logits)
    return raw


def _share(mask: Tensor, like: Tensor) -> Tensor:
    """Share of what a mask lets through."""
    return mask.to(like.dtype).mean()


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return over_labels(
        batch,
        lambda labels, reduction: label_smoothing(logits, labels, smoothing=0.0, reduction=reduction),
    )
