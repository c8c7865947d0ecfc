"""PKDOT: transport between the similarity rows of a teacher that sees more and a student."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ..errors import ConfigError
from ..losses.gram_ot import (
    RECOMMENDED,
    RELEASED,
    Anchor,
    Backend,
    Coupling,
    Shift,
    centroid,
    gram_ot,
)
from ..losses.gram_ot import (
    Layout as RowLayout,
)
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Status, Term, Terms
from .embedding import EmbeddingMethod

PRESETS: dict[str, dict[str, Any]] = {
    "pkdot_released": {**RELEASED, "weight": 0.6},
    "recommended": {**RECOMMENDED, "weight": 1.0},
}
"""Options of ``gram_ot`` and the weight of the method, by name."""


class GramOptions(EmbeddingMethod.Options):
    """A preset of ``limbeck.losses.gram_ot``, and what differs from it."""

    preset: Literal["pkdot_released", "recommended"] = Field(
        "recommended", description="what null stands for"
    )
    anchor: Anchor | None = Field(None, description="similarities of a row that are kept")
    k: int | None = Field(None, ge=1, description="number of anchors, below the batch size")
    layout: RowLayout | None = Field(None, description="gather the anchors, or mask the others")
    shift: Shift | None = Field(None, description="subtract the smallest similarity")
    blur: float | None = Field(None, gt=0, description="square root of epsilon")
    debias: bool | None = Field(None, description="subtract the self terms")
    plan: Coupling | None = Field(None, description="transport, or every row with its partner")
    backend: Backend = Field("native", description="who solves the transport")
    centroid: float = Field(0.0, ge=0, description="weight of the distance of the mean rows")

    def resolved(self) -> dict[str, Any]:
        """The preset with what was set."""
        preset = PRESETS[self.preset]
        chosen = {key: getattr(self, key) for key in preset if key != "weight"}
        given = {key: value for key, value in chosen.items() if value is not None}
        return {**preset, **given, "backend": self.backend}


class GramMethod(EmbeddingMethod):
    """What methods on rows of similarities share."""

    across_batch = True
    continuous = True

    class Options(GramOptions):
        """Options of ``limbeck.losses.gram_ot``."""

    options: Options

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.chosen = self.options.resolved()
        self.weight = float(self.chosen.pop("weight"))

    def fits(self, setting: Setting) -> None:
        """Refuse more anchors than a batch has other samples.

        Raises:
            ConfigError: k is not below the batch size.
        """
        if self.chosen["anchor"] != "all" and 0 < setting.batch_size <= self.chosen["k"]:
            raise ConfigError(
                f"{self.name} takes the k={self.chosen['k']} {self.chosen['anchor']} samples of a batch",
                got=f"batches of {setting.batch_size}",
                fix="lower k, or raise train.batch_size above it",
            )

    def compared(self, student: Tensor, teacher: Tensor, gram: Tensor | None = None) -> Terms:
        """The terms for two sets of vectors."""
        terms = {self.name: Term(gram_ot(student, teacher, teacher_gram=gram, **self.chosen))}
        if weight := self.options.centroid:
            terms["centroid"] = Term(centroid(student, teacher, teacher_gram=gram), weight)
        return terms


class PKDOT(GramMethod):
    """``CE + w OT`` between the rows of similarities of the fused features.

    Presets: ``pkdot_released`` (weight 0.6, the 30 farthest samples gathered side by side, shifted), and
    ``recommended`` (whole rows). Samples of which the teacher does not see everything are in neither cloud.

    Example:
        >>> method = PKDOT(preset="pkdot_released")
        >>> method.weight, method.chosen["anchor"], method.chosen["k"]
        (0.6, 'farthest', 30)
    """

    name = "pkdot"
    paper = "Aslam et al., FG 2024, arXiv:2401.15489"
    status: ClassVar[Status] = "transcribed"

    def term_weights(self) -> dict[str, float]:
        weights = {self.name: 1.0}
        return weights | ({"centroid": self.options.centroid} if self.options.centroid else {})

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.fits(setting)
        self.compare((self.one_pair(student, teacher),))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return self.compared(*self.vectors(student, teacher))
