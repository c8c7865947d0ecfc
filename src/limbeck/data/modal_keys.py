"""What a user may say about data of several modalities."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ModalKeys(BaseModel):
    """Keys of data of several modalities; other data refuses them.

    Attributes:
        modalities: which of the file's modalities, in this order (default: all).
        labelled: training samples that keep their label, the same share of each class; the rest are pairs of
            modalities without one (default: all that have one).
        labelled_subjects: training subjects whose samples keep their labels, instead of ``labelled``.
        labelled_per_batch: samples with a label in every training batch, drawn anew for each; the others are those
            without (default: as they come).
        absent: modality -> share of training samples that lose it.
        absent_at_test: the same for validation and test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modalities: tuple[str, ...] = ()
    labelled: int | None = Field(default=None, gt=0)
    labelled_subjects: int | None = Field(default=None, gt=0)
    labelled_per_batch: int | None = Field(default=None, gt=0)
    absent: dict[str, float] = Field(default_factory=dict)
    absent_at_test: dict[str, float] = Field(default_factory=dict)
