"""Pseudo labels from class activation maps, and the losses that they are learned by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import IGNORE


def scaled_cams(cams: Tensor, present: Tensor) -> Tensor:
    """Activation maps ``(B, K - 1, h, w)`` of the classes present ``(B, K - 1)``, each divided by its maximum.

    Example:
        >>> scaled_cams(torch.tensor([[[[2.0, 4.0]], [[1.0, 1.0]]]]), torch.tensor([[1, 0]])).round()
        tensor([[[[0., 1.]],
        <BLANKLINE>
                 [[0., 0.]]]])
    """
    cams = cams.float() * present[:, :, None, None]
    return cams / (cams.amax((2, 3), keepdim=True) + 1e-5)


def with_background(cams: Tensor, exponent: float) -> Tensor:
    """Scores ``(B, K, h, w)``: the background's is ``(1 - max_c A_c) ^ exponent``."""
    ground = (1 - cams.amax(1, keepdim=True)).clamp(min=0) ** exponent
    return torch.cat([ground, cams], 1)


def reliable_labels(
    cams: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    exponent: float,
    confidence: float,
    percentile: float = 0.6,
    floor: float = 0.1,
) -> Tensor:
    """Labels where two random fields and the activation map agree; the first teacher's.

    A pixel is background where even the field with little background (``high``) says so and is sure, and the map's
    own background score is above ``confidence``. It is of class c where even the field with much background
    (``low``) says so and is sure, the map itself points to c, and its activation is above the given percentile of
    the class's activations above ``floor`` in this image. All others have no label.

    Args:
        cams: maps of the classes present, at most 1, ``(B, K - 1, h, w)``.
        low, high: probabilities ``(B, K, h, w)`` from fields over backgrounds of a low exponent, which makes much
            background, and of a high one.
        exponent: the high one.
        confidence: least probability, and least background score.
        percentile, floor: of the activations of a class that count.

    Returns:
        class numbers ``(B, h, w)``, -100 where there is none.

    Source: ASDT's released code (``compute_seg_label``, inherited from RRM, arXiv:1911.08039). A class that wins a
    field without an activation above ``floor`` has no reliable pixel here (the published code fails).
    """
    if not cams.numel():
        return cams.new_full((len(cams), *cams.shape[2:]), IGNORE, dtype=torch.long)
    first, second = low.argmax(1), high.argmax(1)
    labels = torch.where(first == 0, IGNORE, first)
    labels = torch.where(second == 0, 0, labels)
    sure = torch.maximum(high[:, 0], low[:, 1:].amax(1)) >= confidence
    own = with_background(cams, exponent)
    strong = cams.flatten(2)
    least = torch.where(strong > floor, strong, torch.nan).nanquantile(percentile, dim=2)
    above = cams > least.nan_to_num(torch.inf)[:, :, None, None]
    index = (labels - 1).clamp(min=0)[:, None]
    points = (own.argmax(1) == labels) & above.gather(1, index)[:, 0]
    seen = torch.where(labels == 0, own[:, 0] > confidence, points & (labels > 0))
    return torch.where(sure & seen, labels, IGNORE)


def split_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``CE*``: the mean over background pixels plus the mean over the others, so that neither drowns the other.

    A side without pixels counts 0, connected to the graph (the published code gives NaN).

    Args:
        logits: ``(B, K, h, w)``.
        labels: ``(B, h, w)``, -100 where there is none.

    Example:
        >>> split_cross_entropy(torch.zeros(1, 4, 1, 3), torch.tensor([[[0, 2, 3]]]))
        tensor(2.7726)
    """
    rows = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    ground, body = labels == 0, labels > 0
    return (rows * ground).sum() / ground.sum().clamp(min=1) + (rows * body).sum() / body.sum().clamp(min=1)


def plain_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over labelled pixels; 0 connected to the graph without any."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def dense_energy(probabilities: Tensor, kernel: Tensor, labels: Tensor) -> Tensor:
    r"""How much pixels that belong together disagree, up to a constant: the less the better.

    .. math:: DE = -\frac1B \sum_b \sum_k S_k^\top (G \circ (W S_k))

    The gate G is 1 where there is no label and ``1 - max_k S_k`` elsewhere, and is not differentiated.

    Args:
        probabilities: S, ``(B, K, h, w)``.
        kernel: W, affinities ``(B, P, P)`` as they are.
        labels: ``(B, h, w)``, -100 where there is none.

    Source: Tang et al. 2018, arXiv:1803.09569, in the gated form of RRM's and ASDT's released code; there the sum
    over places is weighted by 1e-7 for 160 x 160 places.

    Example:
        >>> one = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
        >>> dense_energy(one, 1 - torch.eye(2)[None], torch.full((1, 1, 2), -100))
        tensor(-2.)
    """
    flat = probabilities.float().flatten(2)
    free = (labels == IGNORE).flatten(1)
    gate = torch.where(free, 1.0, 1 - flat.detach().amax(1))[:, None]
    return -(flat * gate * torch.bmm(flat, kernel)).sum() / max(len(flat), 1)
