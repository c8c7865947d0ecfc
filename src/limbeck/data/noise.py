"""Wrong labels on purpose: seeded, by sample, for the study of learning under label noise."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .streams import generator


class LabelNoise(BaseModel):
    """Which labels go wrong. With K classes and ``rate`` r, the probabilities of a sample of class y are

    - ``symmetric``: ``P(y) = 1 - r``, ``P(k) = r / (K - 1)`` for every other k; a share r is wrong;
    - ``symmetric-all``: drawn from all K classes with probability r, its own among them:
      ``P(y) = 1 - r + r / K``, ``P(k) = r / K``; a share ``r (K - 1) / K`` is wrong;
    - ``pair``: ``P(y) = 1 - r``, ``P((y + 1) mod K) = r``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["symmetric", "symmetric-all", "pair"] = "symmetric"
    rate: float = Field(ge=0, le=1, description="probability that a label is drawn anew")
    validation: bool = Field(False, description="corrupt the validation labels as well")


def corrupt(labels: Tensor, noise: LabelNoise, classes: int, seed: int, part: int = 0) -> Tensor:
    """Labels under noise.

    Every sample tosses its own coin, keyed by its position. So at one seed the samples that are wrong at a low
    rate are wrong at every higher one, in the same way.

    Args:
        labels: true class ids ``(n,)``.
        noise: kind and rate.
        classes: K.
        seed: of the draw.
        part: 0 for the training images of a source, 1 for validation images that it brings itself.

    Returns:
        noisy class ids ``(n,)``, int64.

    Source: Patrini et al. 2017 (arXiv 1609.03683) and Han et al. 2018 (arXiv 1804.06872) for ``symmetric`` and
    ``pair``; Zhang et al. 2017 (arXiv 1611.03530) and Li et al. 2020 (arXiv 2002.07394) for ``symmetric-all``.
    Deviation: some public code makes exactly ``round(r n)`` labels wrong; here the count is random.

    Example:
        >>> labels = torch.arange(6) % 3
        >>> corrupt(labels, LabelNoise(kind="pair", rate=1), 3, seed=0)
        tensor([1, 2, 0, 1, 2, 0])
    """
    draw = generator("noise", seed, part).random((len(labels), 2))
    chosen = torch.from_numpy(draw[:, 0] < noise.rate)
    if noise.kind == "pair":
        steps = torch.ones_like(labels)
    else:
        others = classes - (noise.kind == "symmetric")
        steps = torch.from_numpy((draw[:, 1] * others).astype(np.int64)) + (noise.kind == "symmetric")
    return torch.where(chosen, (labels + steps) % classes, labels)
