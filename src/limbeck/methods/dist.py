"""DIST."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..losses import dist
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class DIST(Method):
    """``CE + 2 beta (rows) + 2 gamma (columns)``, each ``T^2 (1 - correlation)``.

    The 2 is the weight of the authors' trainer (``kd_loss_weight``); it stands in the weights of the two
    terms, so that this method's own weight is 1. The authors take T = 4 on CIFAR-100 and 1 on ImageNet, and
    correlate columns over each process's own batch; here they see the global batch.

    Example:
        >>> DIST().term_weights()
        {'inter': 2.0, 'intra': 2.0}
    """

    name = "dist"
    paper = "Huang et al., NeurIPS 2022, arXiv:2205.10536"
    status = "verified"
    across_batch = True

    class Options(Method.Options):
        """Options of ``limbeck.losses.dist``."""

        beta: float = Field(1.0, ge=0, description="weight of the rows, doubled")
        gamma: float = Field(1.0, ge=0, description="weight of the columns, doubled")
        temperature: float = Field(4.0, gt=0, description="divides the logits")
        scale: bool = Field(True, description="multiply by the squared temperature")
        eps_form: Literal["added", "clamped"] = Field("added", description="where eps goes")

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {"inter": 2 * self.options.beta, "intra": 2 * self.options.gamma}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, logits = self.options, self.taught(teacher).logits
        return {
            name: Term(
                dist(
                    student.logits,
                    logits,
                    beta=float(name == "inter"),
                    gamma=float(name == "intra"),
                    temperature=o.temperature,
                    scale=o.scale,
                    eps_form=o.eps_form,
                ),
                weight,
            )
            for name, weight in self.term_weights().items()
            if weight
        }
