"""Walk over many rows of logits in pieces, checked and in float64, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, ShapeError
from ..shapes import IGNORE

PIECE = 2**20
"""Most elements of one piece; a float64 copy of it takes 8 MB."""


class Piece(NamedTuple):
    """A few labelled rows: log-probabilities ``(m, K)`` in float64, labels and first-maximum predictions."""

    log_probabilities: Tensor
    labels: Tensor
    predictions: Tensor
    teacher_log_probabilities: Tensor | None
    teacher_predictions: Tensor | None


def pieces(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Iterator[Piece]:
    """Labelled rows in order, a piece at a time, on the CPU; rows labelled -100 are left out.

    Raises:
        ShapeError: logits are not ``(n, K)`` with K >= 2, or labels or teacher do not match them.
        DataError: no row has a label, a label is no class, or logits are NaN or infinite.
    """
    _check_shapes(logits, labels, teacher_logits)
    step = max(1, PIECE // logits.shape[1])
    seen = 0
    for start in range(0, logits.shape[0], step):
        end = start + step
        target = labels[start:end].detach().to("cpu", torch.int64)
        kept = target != IGNORE
        target = target[kept]
        if len(target) == 0:
            continue
        _check_labels(target, logits.shape[1])
        seen += len(target)
        scores = _rows(logits[start:end], kept, "logits")
        teacher = None if teacher_logits is None else _rows(teacher_logits[start:end], kept, "teacher logits")
        yield Piece(
            torch.log_softmax(scores, dim=1),
            target,
            scores.argmax(dim=1),
            None if teacher is None else torch.log_softmax(teacher, dim=1),
            None if teacher is None else teacher.argmax(dim=1),
        )
    if seen == 0:
        raise DataError(
            "there is nothing to evaluate",
            got=f"{logits.shape[0]} rows, none with a label",
            expected="at least one labelled row",
            fix="give a split that is not empty and has labels other than -100",
        )


def _rows(x: Tensor, kept: Tensor, name: str) -> Tensor:
    rows = x.detach().to("cpu")[kept].to(torch.float64)
    if not bool(torch.isfinite(rows).all()):
        bad = int((~torch.isfinite(rows)).any(dim=1).sum())
        raise DataError(
            f"{name} contain NaN or infinity",
            got=f"{bad} such rows",
            expected="finite numbers",
            fix="the network has diverged or its inputs are not finite: lower the learning rate, "
            "clip gradients, or check the data",
        )
    return rows


def _check_shapes(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> None:
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ShapeError(
            "logits are not one row of class scores per sample",
            got=tuple(logits.shape),
            expected="(n, K) with K >= 2 classes",
        )
    if labels.shape != logits.shape[:1]:
        raise ShapeError(
            "labels do not match the logits", got=tuple(labels.shape), expected=tuple(logits.shape[:1])
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError("labels are not class ids", got=labels.dtype, expected="an integer tensor")
    if teacher_logits is not None and teacher_logits.shape != logits.shape:
        raise ShapeError(
            "teacher logits do not match the student's",
            got=tuple(teacher_logits.shape),
            expected=tuple(logits.shape),
            fix="evaluate both networks on the same rows and the same classes",
        )


def _check_labels(labels: Tensor, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise DataError(
            "a label is not one of the network's classes",
            got=int(wrong[0]),
            expected=f"0 to {classes - 1}, or {IGNORE} for no label",
            fix="build the network with as many classes as the data set has",
        )
