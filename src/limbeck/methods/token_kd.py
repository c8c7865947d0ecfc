"""Token-level distillation of language models under any divergence."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..losses import chunked_divergence
from ..signals import Batch, Signals
from .base import Method, Term, Terms

DivergenceName = Literal[
    "forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "adaptive_kl", "total_variation", "uld"
]


class TokenKD(Method):
    """A divergence per supervised token, from hidden states and heads: no whole logits are held.

    The mean is over the tokens of the whole batch, however it is cut into pieces and processes.

    Example:
        >>> TokenKD(divergence="jsd", beta=0.3).options.beta
        0.3
    """

    name = "token_kd"
    paper = (
        "Hinton et al. 2015; Agarwal et al. (GKD), arXiv:2306.13649; Ko et al. (DistiLLM), arXiv:2402.03898"
    )
    status = "verified"
    needs = frozenset({"tokens"})
    label_weight = 0.5
    weight = 0.5

    class Options(Method.Options):
        """Options of ``limbeck.losses.token_divergence``."""

        divergence: DivergenceName = Field("forward_kl", description="the distance")
        temperature: float = Field(1.0, gt=0, description="divides the logits")
        beta: float = Field(0.5, ge=0, le=1, description="teacher's weight, of jsd")
        alpha: float = Field(0.1, ge=0, le=1, description="own share of the mixture, of the skewed ones")
        mu: float = Field(0.5, ge=0, le=1, description="mass of the tail, of adaptive_kl")
        scale: bool = Field(False, description="multiply by the squared temperature")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        theirs: Any = self.taught(teacher).extra["tokens"]
        mine: Any = student.extra["tokens"]
        value = chunked_divergence(
            mine.hidden,
            mine.head,
            theirs.hidden,
            theirs.head,
            num_items=batch.items,
            **self.options.model_dump(),
        )
        return {self.name: Term(value)}
