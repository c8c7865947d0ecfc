"""Knowledge distillation."""

from __future__ import annotations

from pydantic import Field

from ..losses import kd
from ..losses.kd import Form
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class KD(Method):
    """``0.1 CE + 0.9 T^2 KL``, the setting of the CIFAR-100 literature.

    Example:
        >>> KD(temperature=2.0).options
        Options(temperature=2.0, form='kl', scale=True)
    """

    name = "kd"
    paper = "Hinton, Vinyals, Dean 2015, arXiv:1503.02531"
    status = "verified"
    label_weight = 0.1
    weight = 0.9

    class Options(Method.Options):
        """Options of ``limbeck.losses.kd``."""

        temperature: float = Field(4.0, gt=0, description="divides the logits")
        form: Form = Field("kl", description="the distance")
        scale: bool = Field(True, description="multiply by the squared temperature")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o = self.options
        value = kd(
            student.logits,
            self.taught(teacher).logits,
            temperature=o.temperature,
            form=o.form,
            scale=o.scale,
        )
        return {self.name: Term(value)}
