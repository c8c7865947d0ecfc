"""DCD."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ..losses import kd
from ..losses.dcd import dcd
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .embedding import EmbeddingMethod, Projection


class DCD(EmbeddingMethod):
    """``CE + contrast + 0.5 consistency`` of projected embeddings, with a trained temperature; optional KD.

    The similarities are multiplied by ``min(exp(tau), max_scale)``. Here ``tau`` really is trained: it is a
    parameter like the projections (and, like them, subject to weight decay). The released trainers of 2025
    leave it out of the optimiser. The additive ``bias`` is kept for its checkpoints: a constant cancels in
    both softmaxes, so its gradient is zero whatever the data.

    The paper's "DCD + KD" is ``kd_weight=1``.

    Example:
        >>> DCD().term_weights(), DCD(kd_weight=1).term_weights()
        ({'dcd': 1.0}, {'dcd': 1.0, 'kd': 1.0})
    """

    name = "dcd"
    paper = "Giakoumoglou, Stathaki 2024, arXiv:2407.11802"
    status = "verified"
    across_batch = True

    class Options(EmbeddingMethod.Options):
        """The layer, and options of ``limbeck.losses.dcd``, its temperature, and of KD beside it."""

        width: int = Field(128, ge=1, description="width of the projected embeddings")
        alpha: float = Field(0.5, ge=0, description="weight of the consistency term")
        learnable: bool = Field(True, description="train the temperature; else `temperature` is fixed")
        tau: float = Field(1.0, description="initial logarithm of the inverse temperature")
        bias: float = Field(0.0, description="initial additive bias of the similarities; inert")
        max_scale: float = Field(
            10.0, gt=0, description="the inverse temperature's bound; past it, tau rests"
        )
        temperature: float = Field(0.07, gt=0, description="divides the similarities when not learnable")
        literal: bool = Field(
            False, description="multiply by `temperature` instead of dividing, as the released code does"
        )
        kd_weight: float = Field(0.0, ge=0, description="weight of KD beside it; 1 is the paper's DCD + KD")
        kd_temperature: float = Field(4.0, gt=0, description="temperature of that KD")

    options: Options

    def term_weights(self) -> dict[str, float]:
        weights = {"dcd": 1.0, "kd": self.options.kd_weight}
        return {name: weight for name, weight in weights.items() if weight}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o = self.options
        pair = self.one_pair(student, teacher)
        self.compare([pair], [f"both to width {o.width}"])
        self.embed_s, self.embed_t = (Projection(s, o.width) for s in (pair.source, pair.target))
        if o.learnable:
            self.tau, self.bias = (nn.Parameter(torch.tensor(x)) for x in (o.tau, o.bias))

    def contrast(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of embeddings ``(N, D)`` of both networks."""
        o = self.options
        s, t = self.embed_s(student), self.embed_t(teacher)
        if o.learnable:
            return dcd(s, t, self.tau.exp().clamp(max=o.max_scale), bias=self.bias, alpha=o.alpha)
        return dcd(s, t, o.temperature if o.literal else 1 / o.temperature, alpha=o.alpha)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        taught, o = self.taught(teacher), self.options
        terms = {self.name: Term(self.contrast(*self.vectors(student, teacher)))}
        if o.kd_weight:
            value = kd(student.logits, taught.logits, temperature=o.kd_temperature)
            terms["kd"] = Term(value, o.kd_weight)
        return terms
