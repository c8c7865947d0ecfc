"""Reliability bins: how often a prediction made with a given confidence is right."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15
EDGE = 1e-9
"""A confidence this close to a bin edge lies on it, whatever the rounding of the softmax."""


class Reliability:
    """Counts over 15 equal-width, right-closed bins of the largest probability.

    Bin b holds confidences in ``(b/15, (b+1)/15]``; confidence 1 falls in the last one. Expected
    calibration error: ``ECE = sum_b |sum_{i in b} (correct_i - confidence_i)| / n``.

    Source: Guo et al. 2017 (arXiv 1706.04599, equation 3). torchmetrics and netcal close their bins on
    the left, so they differ for confidences exactly on an edge only.

    Example:
        >>> bins = Reliability()
        >>> bins.add(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([True, True, True, False]))
        >>> round(bins.error(), 4)
        0.15
    """

    def __init__(self) -> None:
        self.count = torch.zeros(BINS, dtype=torch.int64)
        self.confidence = torch.zeros(BINS, dtype=torch.float64)
        self.correct = torch.zeros(BINS, dtype=torch.float64)

    def add(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions: ``confidence (m,)`` in [0, 1] and whether each was ``correct (m,)``."""
        confidence = confidence.to(torch.float64)
        inner = torch.arange(1, BINS, dtype=torch.float64) / BINS
        index = torch.bucketize(confidence, inner + EDGE)
        self.count += torch.bincount(index, minlength=BINS)
        self.confidence += torch.bincount(index, weights=confidence, minlength=BINS)
        self.correct += torch.bincount(index, weights=correct.to(torch.float64), minlength=BINS)

    def error(self) -> float:
        """Expected calibration error, in [0, 1]."""
        return float((self.correct - self.confidence).abs().sum() / self.count.sum())

    def means(self) -> tuple[Tensor, Tensor]:
        """Mean confidence and accuracy per bin, each ``(15,)``; NaN where a bin is empty."""
        return self.confidence / self.count, self.correct / self.count
