"""BicKD, reconstructed."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..losses import bickd_class, bickd_sample, kd
from ..losses._contrast import Direction
from ..losses._contrast import Form as ContrastForm
from ..losses.bickd import Classes, Similarity
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import main_labels


class BicKD(Method):
    """``0.1 CE + 0.9 T^2 KL + sample contrast + class contrast``, **reconstructed**.

    The paper's formula could not be had; ``docs/bickd.md`` argues for this reading and lists the others, all
    of them options here.

    Example:
        >>> BicKD(sample_weight=0.0).term_weights()  # class side only
        {'kd': 0.9, 'sample': 0.0, 'class': 1.0}
    """

    name = "bickd"
    paper = "Zhu et al. 2026, arXiv:2602.01265"
    status = "reconstructed"
    label_weight = 0.1
    across_batch = True

    class Options(Method.Options):
        """Options of ``limbeck.losses.bickd``, and those of the KL term."""

        kd_weight: float = Field(0.9, ge=0, description="weight of the KL term; 0 leaves it out")
        kd_temperature: float = Field(4.0, gt=0, description="divides the logits of the KL term")
        sample_weight: float = Field(1.0, ge=0, description="weight of the contrast of samples (rows)")
        class_weight: float = Field(1.0, ge=0, description="weight of the contrast of classes (columns)")
        temperature: float = Field(4.0, gt=0, description="divides the logits of the contrasts")
        contrast_temperature: float = Field(0.1, gt=0, description="divides the similarities")
        similarity: Similarity = Field("cosine", description="of two probability vectors")
        form: ContrastForm = Field("infonce", description="InfoNCE, or squared orthogonality")
        direction: Direction = Field("both", description="whose vectors are anchors")
        mask_same_label: bool = Field(True, description="rows of one class are not negatives")
        multi_positive: bool = Field(False, description="rows of one class are positives")
        student_negatives: bool = Field(False, description="negatives from the anchor's own network too")
        classes: Classes = Field("all", description="columns to contrast")
        mu: float = Field(1.0, ge=0, description="weight of orthogonality (form: orthogonal)")
        chunk_size: int | None = Field(None, ge=1, description="similarity rows held at once; null: auto")

    options: Options

    def term_weights(self) -> dict[str, float]:
        o = self.options
        return {"kd": o.kd_weight, "sample": o.sample_weight, "class": o.class_weight}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, a, b = self.options, student.logits, self.taught(teacher).logits
        labels = main_labels(batch)
        shared: dict[str, Any] = {
            "temperature": o.temperature,
            "contrast_temperature": o.contrast_temperature,
            "similarity": o.similarity,
            "form": o.form,
            "direction": o.direction,
            "student_negatives": o.student_negatives,
            "mu": o.mu,
            "chunk_size": o.chunk_size,
        }
        terms: Terms = {}
        if o.kd_weight:
            terms["kd"] = Term(kd(a, b, temperature=o.kd_temperature), o.kd_weight)
        if o.sample_weight:
            value = bickd_sample(
                a, b, labels, mask_same_label=o.mask_same_label, multi_positive=o.multi_positive, **shared
            )
            terms["sample"] = Term(value, o.sample_weight)
        if o.class_weight:
            terms["class"] = Term(bickd_class(a, b, labels, classes=o.classes, **shared), o.class_weight)
        return terms
