"""Comparative knowledge distillation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import one_hot

from ..losses import comparative_kd, kd
from ..losses.comparative import Form
from ..seeds import derive
from ..shapes import IGNORE
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class ComparativeKD(Method):
    """``relation + labels``: differences between samples match the teacher's and those of the one-hot labels.

    Nothing in the two terms fixes class offsets: the last layer's bias gets no gradient from them. The
    authors train so; cross-entropy (``label_weight``) or plain KD (``kd_weight``) beside them is an anchor.

    ``sampler="batch"`` cuts the shuffled batch into disjoint tuples, ``draws`` times. ``sampler="tuples"`` is
    the released one: unique tuples are drawn once, and a batch is 64 of them for ``batch_size`` 64 k. An epoch
    still is as many images as the training split holds, where the released code takes as many *tuples*. Both
    groups go through the student in one forward pass, where the released code takes two, so that BatchNorm
    normalises each by itself.

    Example:
        >>> ComparativeKD(group_size=3, form="kl", kd_weight=0.5).term_weights()
        {'relation': 1.0, 'labels': 1.0, 'kd': 0.5}
    """

    name = "comparative_kd"
    paper = "Wilf et al., WACV 2025, arXiv:2311.02253"
    status = "transcribed"
    label_weight = 0.0
    across_batch = True

    class Options(Method.Options):
        """Options of ``limbeck.losses.comparative_kd``, the weights of the terms, and the sampler."""

        form: Form = Field("mse", description="mse: the released code; kl: the first version of the paper")
        group_size: int = Field(2, ge=2, description="samples in a tuple, k")
        temperature: float = Field(4.0, gt=0, description="divides the differences, of form kl")
        draws: int | Literal["all"] = Field(1, description="groupings of a batch; all: every tuple, form mse")
        mix: Literal["difference", "mean", "mixup"] = Field("difference", description="how groups are mixed")
        relation_weight: float = Field(1.0, ge=0, description="weight of the teacher's term")
        labels_weight: float = Field(1.0, ge=0, description="weight of the labels' term")
        kd_weight: float = Field(0.0, ge=0, description="weight of plain KD, an anchor of class offsets")
        kd_temperature: float = Field(4.0, gt=0, description="temperature of plain KD")
        sampler: Literal["batch", "tuples"] = Field("batch", description="where tuples come from")
        tuples: int = Field(100_000, ge=1, description="tuples drawn once, of sampler tuples")

        @model_validator(mode="after")
        def _possible(self) -> ComparativeKD.Options:
            if isinstance(self.draws, int) and self.draws < 1:
                raise ValueError("draws is a number of at least 1, or 'all'")
            if self.draws == "all" and (self.form, self.mix) != ("mse", "difference"):
                raise ValueError("draws=all has a closed form only for form=mse and mix=difference")
            if self.sampler == "tuples" and self.draws != 1:
                raise ValueError("sampler=tuples brings its own tuples: leave draws at 1")
            return self

    options: Options

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.options.sampler == "tuples":
            self.tuples = (self.options.group_size, self.options.tuples)

    def term_weights(self) -> dict[str, float]:
        o = self.options
        anchor = {"kd": o.kd_weight} if o.kd_weight else {}
        return {"relation": o.relation_weight, "labels": o.labels_weight} | anchor

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, answers, weights = self.options, self.taught(teacher).logits, self.term_weights()
        share = {"difference": None, "mean": 0.5, "mixup": _uniform(batch)}[o.mix]

        def compared(logits: Tensor, others: Tensor) -> Tensor:
            return comparative_kd(
                logits, others, group_size=o.group_size, form=o.form, temperature=o.temperature,
                draws=o.draws, share=share,
            )  # fmt: skip

        rows = self._labelled(batch.labels)
        values = {
            "relation": lambda: compared(student.logits, answers),
            "labels": lambda: compared(student.logits[rows], _vectors(batch, answers.shape[1])[rows]),
            "kd": lambda: kd(student.logits, answers, temperature=o.kd_temperature),
        }
        return {name: Term(values[name](), weight) for name, weight in weights.items() if weight}

    def _labelled(self, labels: Tensor) -> Tensor:
        """Rows of tuples whose every row has a label; with all tuples, every row that has one."""
        given = labels != IGNORE
        if self.options.draws == "all":
            return given
        whole = given[: len(given) // self.options.group_size * self.options.group_size]
        whole = whole.view(-1, self.options.group_size).all(1).repeat_interleave(self.options.group_size)
        return whole.nonzero().squeeze(1)


def _vectors(batch: Batch, classes: int) -> Tensor:
    """Labels as rows of probabilities ``(N, C)``."""
    vectors = one_hot(batch.labels.clamp(min=0), classes).float()
    if batch.mixing is None or batch.mixed_labels is None:
        return vectors
    other = one_hot(batch.mixed_labels.clamp(min=0), classes).float()
    return torch.lerp(other, vectors, batch.mixing[:, None])


def _uniform(batch: Batch) -> float:
    """A number in [0, 1) from what the batch holds: the same on every rank and after a restart."""
    return derive(batch.epoch, "mixup", *batch.ids[:8].tolist()) / 2**63
