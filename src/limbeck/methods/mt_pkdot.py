"""MT-PKDOT: the best of several teachers, one for each modality and the joint one."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..errors import ConfigError
from ..losses.gram_ot import cosines
from ..signals import Batch, Signals
from ..taps import Layout
from ._outputs import each_loss, labelled, outputs_loss
from .base import Setting, Status, Term, Terms
from .pkdot import GramMethod, GramOptions

ADAPTER, HEAD = "adapters.", "heads."


class MTPKDOT(GramMethod):
    """``0.8 CE + w OT``, the teacher chosen for every batch or sample by its loss on the labels.

    With ``preset=pkdot_released`` it is ``0.8 CE + 0.2 (OT + centroid)``, the whole objective of the authors' code,
    whose active line leaves the centroids out.

    The teacher is a ``fusion`` network with ``streams``, trained with ``mt_alignment``: each modality has an adapter to
    the joint representation and a head. The candidates are the adapted modalities and the joint features; of a batch
    the one with the smallest loss over the samples with labels is taken, the joint one where it is as good, and where
    no sample has a label. ``select=sample`` takes each row of similarities from the candidate with the smallest
    loss for that sample. ``margin`` asks of a modality to be better than the joint teacher by so much.

    Records the share of batches or samples whose teacher was the joint one as the term ``joint``, of weight 0.

    Example:
        >>> MTPKDOT(select="sample").options.select
        'sample'
    """

    name = "mt_pkdot"
    paper = "Aslam et al. 2024, arXiv:2408.09035"
    status: ClassVar[Status] = "transcribed"
    needs = frozenset({"features", "logits"})
    label_weight = 0.8
    may_rest = frozenset({"joint"})

    class Options(GramOptions):
        """Options of ``limbeck.losses.gram_ot``, and how the teacher is chosen."""

        select: Literal["batch", "sample", "joint"] = Field(
            "batch", description="what a teacher is chosen for"
        )
        margin: float = Field(
            0.0, ge=0, description="by how much a modality must be better than the joint teacher"
        )
        centroid: float | None = Field(  # type: ignore[assignment]
            None, ge=0, description="weight of the distance of the mean rows; null: 1 as released, else 0"
        )

    options: Options  # type: ignore[assignment]

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        released = self.options.preset == "pkdot_released"
        if released:
            self.weight = 0.2
        if self.options.centroid is None:
            self.options = self.options.model_copy(update={"centroid": 1.0 if released else 0.0})
        self.streams: tuple[str, ...] = ()

    def term_weights(self) -> dict[str, float]:
        weights = {self.name: 1.0, "joint": 0.0}
        return weights | ({"centroid": self.options.centroid} if self.options.centroid else {})

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.fits(setting)
        self.compare((self.one_pair(student, teacher),))
        layers = self.network(teacher).layers
        found = [
            x.name.removeprefix(HEAD) for x in layers if x.name.startswith(HEAD) and x.name.count(".") == 1
        ]
        self.streams = tuple(found)
        if not found:
            raise ConfigError(
                "mt_pkdot needs a teacher with a stream for each modality",
                fix="train a fusion network with streams=true under the method mt_alignment",
            )
        self.teacher_taps += tuple(kind + name for name in found for kind in (ADAPTER, HEAD))
        self.choices += (
            f"{self.name}: teachers {', '.join(found)} and joint, one for each {self.options.select}",
        )

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        t = self.taught(teacher)
        mine, joint = self.vectors(student, t)
        features = [joint, *(t.features[ADAPTER + name] for name in self.streams)]
        outputs = [t.logits, *(t.features[HEAD + name] for name in self.streams)]
        gram, share = self._teacher_of(features, outputs, batch.labels)
        terms = self.compared(mine, joint, gram)
        terms["joint"] = Term(share, 0.0)
        return terms

    def _teacher_of(
        self, features: list[Tensor], outputs: list[Tensor], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The chosen similarities, and the share of the joint teacher in the choice."""
        grams = [cosines(x.detach()) for x in features]
        known = labelled(labels)
        if self.options.select == "joint" or not bool(known.any()):
            return grams[0], torch.ones((), device=labels.device)
        if self.options.select == "batch":
            losses = torch.stack([outputs_loss(x, labels).detach() for x in outputs])
            losses[1:] += self.options.margin
            best = int(losses.argmin())
            return grams[best], torch.tensor(float(best == 0), device=labels.device)
        each = torch.stack([each_loss(x, labels).detach() for x in outputs])
        each[1:] += self.options.margin
        chosen = each.argmin(0).where(known, 0)
        rows = torch.arange(len(chosen), device=chosen.device)
        return torch.stack(grams)[chosen, rows], (chosen == 0).float().mean()
