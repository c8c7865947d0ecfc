"""What a classifier's logits say about it: accuracy, calibration, confidence, fidelity to a teacher."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..shapes import Labels, Logits
from .calibration import BINS, Reliability
from .rows import pieces

Array = np.ndarray[Any, np.dtype[Any]]

MOST_CLASSES = 4096
"""Above this many classes the K x K arrays are left out: each would take more than 128 MB."""


@torch.no_grad()
def classification_metrics(
    logits: Logits, labels: Labels, teacher_logits: Logits | None = None
) -> dict[str, float]:
    """Scalar figures of one network on one split, in float64, at temperature 1.

    With ``p = softmax(logits)``, label y, and means over the n labelled rows:

    - ``accuracy``: share of rows whose first largest logit is the label's; ``top5`` (only if K > 5): label
      among the five largest, equal logits ranked by class id;
    - ``nll = mean(-log p_y)`` in nats; ``brier = mean(sum_k (p_k - [k = y])^2)``, in [0, 2];
    - ``ece``: 15 equal-width right-closed bins of ``max_k p_k``, see `Reliability`;
    - ``entropy = mean(-sum_k p_k log p_k)`` in nats; ``entropy_fraction = entropy / log K``;
      ``confidence = mean(max_k p_k)``;
    - ``macro_recall``: unweighted mean of per-class recall over the classes that occur in ``labels``;
    - ``class_orthogonality``: mean cosine over all pairs of different columns of p ``(n, K)``; 0 when the
      classes' columns are orthogonal; a column that is zero counts as orthogonal to every other;
    - with a teacher q: ``agreement``: share of rows with the same prediction;
      ``teacher_kl = mean(sum_k q_k (log q_k - log p_k))`` in nats.

    Args:
        logits: ``(n, K)``, K >= 2, any floating dtype and device.
        labels: ``(n,)`` class ids; rows with -100 are left out.
        teacher_logits: ``(n, K)`` of the teacher on the same rows.

    Raises:
        ShapeError: shapes do not fit each other.
        DataError: no labelled row, a label outside 0..K-1, NaN or infinite logits.

    Source: Guo et al. 2017 (ECE), Brier 1950; checked against torchmetrics, netcal and scikit-learn.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
        >>> figures = classification_metrics(logits, torch.tensor([0, 1, 1]))
        >>> round(figures["accuracy"], 4), round(figures["confidence"], 4)
        (0.6667, 0.7539)
    """
    classes = logits.shape[-1]
    sums: dict[str, float] = {}
    bins = Reliability()
    occurring = torch.zeros(classes, dtype=torch.int64)
    recalled = torch.zeros(classes, dtype=torch.int64)
    squares = torch.zeros(classes, dtype=torch.float64)
    for piece in pieces(logits, labels, teacher_logits):
        log_p, y = piece.log_probabilities, piece.labels
        p = log_p.exp()
        confidence = p.amax(dim=1)
        correct = piece.predictions == y
        bins.add(confidence, correct)
        occurring += torch.bincount(y, minlength=classes)
        recalled += torch.bincount(y[correct], minlength=classes)
        squares += p.square().sum(dim=0)
        p_label = p.gather(1, y[:, None])[:, 0]
        figures: dict[str, Tensor] = {
            "accuracy": correct,
            "nll": -log_p.gather(1, y[:, None]),
            "brier": p.square().sum(dim=1) - p_label.square() + (1 - p_label).square(),
            "entropy": -(p * log_p).sum(dim=1),
            "confidence": confidence,
        }
        if classes > 5:
            figures["top5"] = _rank(log_p, y) < 5
        if piece.teacher_log_probabilities is not None and piece.teacher_predictions is not None:
            log_q = piece.teacher_log_probabilities
            figures["agreement"] = piece.predictions == piece.teacher_predictions
            figures["teacher_kl"] = (log_q.exp() * (log_q - log_p)).sum(dim=1)
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + float(value.sum(dtype=torch.float64))
    n = int(bins.count.sum())
    result = {name: value / n for name, value in sums.items()}
    present = occurring > 0
    result["ece"] = bins.error()
    result["entropy_fraction"] = result["entropy"] / math.log(classes)
    result["macro_recall"] = float((recalled[present].double() / occurring[present]).mean())
    result["class_orthogonality"] = _mean_cosine(logits, labels, squares)
    return result


@torch.no_grad()
def classification_arrays(
    logits: Logits, labels: Labels, teacher_logits: Logits | None = None
) -> dict[str, Array]:
    """Arrays behind the figures and the report's plots, ready for ``numpy.savez``.

    - ``reliability_count`` ``(15,)`` int, ``reliability_confidence`` and ``reliability_accuracy`` ``(15,)``:
      bins as in ``ece``; NaN where a bin is empty;
    - ``recall`` ``(K,)``: share of a class's rows predicted as it; NaN for a class without rows;
    - ``confusion`` ``(K, K)`` int: rows true, columns predicted;
    - ``class_cosine`` ``(K, K)``: cosines between the columns of ``softmax(logits)``; a zero column has 0;
    - with a teacher: ``teacher_reliability_*``, ``teacher_class_cosine``, and ``teacher_student`` ``(K, K)``
      int: rows teacher's prediction, columns student's.

    For K > 4096 the ``(K, K)`` arrays are left out. Arguments and errors as in `classification_metrics`.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
        >>> classification_arrays(logits, torch.tensor([0, 1, 1]))["confusion"].tolist()
        [[1, 0], [1, 1]]
    """
    classes = logits.shape[-1]
    small = classes <= MOST_CLASSES
    shape = (classes, classes) if small else (0, 0)
    bins, teacher_bins = Reliability(), Reliability()
    confusion, against = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    gram, teacher_gram = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    occurring = torch.zeros(classes, dtype=torch.int64)
    recalled = torch.zeros(classes, dtype=torch.int64)
    for piece in pieces(logits, labels, teacher_logits):
        p, y, predicted = piece.log_probabilities.exp(), piece.labels, piece.predictions
        bins.add(p.amax(dim=1), predicted == y)
        occurring += torch.bincount(y, minlength=classes)
        recalled += torch.bincount(y[predicted == y], minlength=classes)
        if small:
            confusion += _pairs(y, predicted, classes)
            gram.addmm_(p.T, p)
        if piece.teacher_log_probabilities is not None and piece.teacher_predictions is not None:
            q = piece.teacher_log_probabilities.exp()
            teacher_bins.add(q.amax(dim=1), piece.teacher_predictions == y)
            if small:
                against += _pairs(piece.teacher_predictions, predicted, classes)
                teacher_gram.addmm_(q.T, q)
    result = _reliability("reliability", bins) | {"recall": recalled.double() / occurring}
    if small:
        result |= {"confusion": confusion, "class_cosine": _cosine(gram)}
    if teacher_logits is not None:
        result |= _reliability("teacher_reliability", teacher_bins)
        if small:
            result |= {"teacher_class_cosine": _cosine(teacher_gram), "teacher_student": against}
    return {name: value.numpy() for name, value in result.items()}


def _rank(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the label's: larger scores, then equal ones with a smaller id."""
    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(dim=1)


def _mean_cosine(logits: Tensor, labels: Tensor, squares: Tensor) -> float:
    """Mean off-diagonal cosine, ``(|sum_k u_k|^2 - sum_k |u_k|^2) / (K (K - 1))``, with no K x K matrix."""
    scale = torch.where(squares > 0, squares.rsqrt(), 0.0)
    total = sum(float((p.log_probabilities.exp() @ scale).square().sum()) for p in pieces(logits, labels))
    classes = len(squares)
    return max(0.0, total - float((squares > 0).sum())) / (classes * (classes - 1))


def _cosine(gram: Tensor) -> Tensor:
    norm = gram.diagonal().sqrt()
    scale = torch.where(norm > 0, 1 / norm, 0.0)
    return (gram * scale[:, None] * scale).clamp(0, 1)


def _pairs(rows: Tensor, columns: Tensor, classes: int) -> Tensor:
    return torch.bincount(rows * classes + columns, minlength=classes**2).view(classes, classes)


def _reliability(name: str, bins: Reliability) -> dict[str, Tensor]:
    confidence, accuracy = bins.means()
    return {f"{name}_count": bins.count, f"{name}_confidence": confidence, f"{name}_accuracy": accuracy}


__all__ = ["BINS", "MOST_CLASSES", "classification_arrays", "classification_metrics"]
