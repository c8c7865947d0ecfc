"""What a user may say about a Bayesian teacher."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from .errors import suggest
from .sections import Section

Kind = Literal["vi", "dropout", "ensemble", "swag", "sgld", "laplace"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "vi": ("kl_weight", "anneal", "initial_sd", "largest_sd", "prior_sd"),
    "dropout": ("rate",),
    "ensemble": ("members",),
    "swag": ("start", "snapshots", "rank"),
    "sgld": ("start", "posterior_temperature"),
    "laplace": ("structure", "precision", "link"),
}
"""Which keys belong to which kind, beside ``samples``."""


class BayesConfig(Section):
    """How a distribution over networks is had, and how many of them are averaged.

    A kind may stand alone, and has its own keys.

    Example:
        >>> BayesConfig.model_validate("vi").samples
        16
        >>> BayesConfig.model_validate({"name": "dropout", "rank": 3})
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: ...
    """

    name: Kind
    samples: int = Field(
        16, ge=0, description="networks whose probabilities are averaged; 0: the mean network"
    )
    kl_weight: float = Field(1.0, ge=0, description="vi: factor on the divergence from the prior")
    anneal: tuple[float, float] = Field(
        (0.5, 0.75), description="vi: shares of the epochs between which that factor rises from 0"
    )
    initial_sd: float = Field(1e-3, gt=0, description="vi: standard deviation of weights at the start")
    largest_sd: float = Field(0.1, gt=0, description="vi: and at most")
    prior_sd: float | None = Field(None, gt=0, description="vi: of the prior; null: 1/sqrt(inputs of a unit)")
    rate: float | None = Field(
        None, gt=0, lt=1, description="dropout before every layer but the first; null: the network's own"
    )
    members: int = Field(5, ge=2, description="ensemble: networks")
    start: float = Field(0.5, ge=0, lt=1, description="swag, sgld: share of the steps before it collects")
    snapshots: int = Field(20, ge=2, description="swag: weights that its moments are made of")
    rank: int = Field(20, ge=2, description="swag: of them, the last so many span the low-rank part")
    posterior_temperature: float = Field(1.0, gt=0, description="sgld: below 1 is a cold posterior")
    structure: Literal["kron", "diag", "full"] = Field("kron", description="laplace: of the curvature")
    precision: Literal["marglik"] | float = Field(
        "marglik",
        description="laplace: of the prior; marglik: by the marginal likelihood of the training data",
    )
    link: Literal["probit", "mc"] = Field("probit", description="laplace: closed form, or sampled")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _own_keys(self) -> BayesConfig:
        mine = OPTIONS[self.name]
        if strange := sorted(self.model_fields_set - {"name", "samples", *mine} - _defaults(self)):
            raise ValueError(
                f"{self.name} has no {strange[0]!r}, nearest is {suggest(strange[0], [*mine, 'samples'])}"
            )
        low, high = self.anneal
        if not 0 <= low <= high <= 1:
            raise ValueError("anneal is a rising pair of shares between 0 and 1")
        if isinstance(self.precision, float) and self.precision <= 0:
            raise ValueError("precision is above 0, or marglik")
        return self


def _defaults(config: BayesConfig) -> set[str]:
    """Keys that say what they would say anyway, as in a saved configuration."""
    return {n for n, f in BayesConfig.model_fields.items() if n != "name" and getattr(config, n) == f.default}
