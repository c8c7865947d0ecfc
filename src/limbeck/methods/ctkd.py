"""Curriculum temperature KD."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import nn

from ..losses import ctkd, learned_temperature
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class CTKD(Method):
    """``0.1 CE + 0.9 KD`` at a temperature that is learned against the student, harder and harder.

    The temperature is one trained number, saved with the run. Its gradient is multiplied by a lambda that
    falls from 0 to -1 by a cosine over the first epochs. As released, the run's optimiser and weight decay act
    on it.

    Example:
        >>> round(CTKD().temperature(), 2)
        15.62
    """

    name = "ctkd"
    paper = "Li et al., AAAI 2023, arXiv:2211.16231"
    status = "verified"
    label_weight = 0.1
    weight = 0.9

    class Options(Method.Options):
        """Options of ``limbeck.losses.learned_temperature``, and the curriculum."""

        start: float = Field(1.0, gt=0, description="lowest temperature")
        span: float = Field(20.0, gt=0, description="how far the temperature can rise")
        initial: float = Field(1.0, description="value that the trained number starts from")
        strength: float = Field(1.0, ge=0, description="size of lambda in the end")
        ramp: int = Field(10, ge=0, description="epochs until then; 0: from the beginning")

    options: Options

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.logit = nn.Parameter(torch.tensor(self.options.initial))

    def temperature(self) -> float:
        """The temperature as it stands."""
        return float(
            learned_temperature(self.logit.detach(), start=self.options.start, span=self.options.span)
        )

    def reverse(self) -> float:
        """Lambda in the present epoch, the first counting as 1 as released."""
        o = self.options
        share = min((math.floor(self.epoch) + 1) / o.ramp, 1.0) if o.ramp else 1.0
        return -o.strength * (1 - math.cos(math.pi * share)) / 2

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o = self.options
        temperature = learned_temperature(self.logit, start=o.start, span=o.span, reverse=self.reverse())
        return {self.name: Term(ctkd(student.logits, self.taught(teacher).logits, temperature))}
