"""What is done to the training split on purpose, and what came of it."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .imbalance import Imbalance
from .noise import LabelNoise


class Changes(BaseModel):
    """Label noise, class imbalance and few-shot selection of the training split.

    Attributes:
        noise: wrong training labels; the test split is never touched, validation on request only.
        imbalance: unequal class sizes, by class id.
        per_class: images of each class; with ``imbalance``, of the largest class.
        seed: decides which labels go wrong and which images ``imbalance`` and ``per_class`` keep. It belongs to
            the data, not to the run: teacher and students of one ``data`` section learn from the same labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise: LabelNoise | None = None
    imbalance: Imbalance | None = None
    per_class: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)


def realised(changes: Changes, true: Tensor, given: Tensor, classes: int) -> dict[str, Any]:
    """What the changes came to, for the run record: counts by true class, the share of wrong labels.

    Args:
        changes: what was asked for.
        true, given: class ids of the training split ``(n,)``, before and after noise.
        classes: K.

    Example:
        >>> changes = Changes(noise=LabelNoise(rate=0.4), per_class=2)
        >>> realised(changes, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 2)["noise"]["realised"]
        0.25
    """
    asked = changes.model_dump(include=set(Changes.model_fields), exclude_none=True)
    if asked.keys() <= {"seed"}:
        return {}
    if changes.noise is not None:
        asked["noise"]["realised"] = float((true != given).double().mean())
    counts = torch.bincount(true, minlength=classes)
    if changes.imbalance is not None:
        asked["imbalance"]["realised"] = int(counts.max()) / int(counts[counts > 0].min())
    return {**asked, "class_counts": counts.tolist()}
