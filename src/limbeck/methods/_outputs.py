"""The task's own loss from outputs and labels, for methods that weigh it themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..losses import ccc
from ..shapes import IGNORE


def labelled(labels: Tensor) -> Tensor:
    """Which rows have a label ``(N,)``: class ids other than -100, or targets without NaN."""
    return ~torch.isnan(labels).any(1) if labels.is_floating_point() else labels != IGNORE


def outputs_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy for class ids, ``1 - CCC`` for numbers, over the rows with labels; 0 where there are none.

    Example:
        >>> outputs_loss(torch.zeros(2, 2), torch.tensor([0, -100])).round(decimals=4)
        tensor(0.6931)
    """
    outputs = outputs.float() if outputs.dtype.itemsize < 4 else outputs
    if labels.is_floating_point():
        return ccc(outputs, labels)
    total = F.cross_entropy(outputs, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def each_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss of each row ``(N,)``: cross-entropy, or half the squared error; infinite without a label."""
    known = labelled(labels)
    outputs = outputs.float() if outputs.dtype.itemsize < 4 else outputs
    if labels.is_floating_point():
        found = (outputs - labels).square().sum(1) / 2
    else:
        found = F.cross_entropy(outputs, labels.clamp(min=0), reduction="none")
    return found.masked_fill(~known, torch.inf)
