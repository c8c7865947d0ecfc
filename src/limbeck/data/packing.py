"""Several samples in one row, so that less of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..shapes import IGNORE
from ..signals import Batch


def layout(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows of samples, longest first, each put into the first row that has room for it.

    Args:
        lengths: tokens of each sample.
        room: tokens of a row; a longer sample gets a row of its own.

    Example:
        >>> layout([3, 6, 2, 4], 8)
        [[1, 2], [3, 0]]
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, free in enumerate(left) if free >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(i)
        left[row] -= lengths[i]
    return rows


def packed(inputs: Sequence[Tensor], targets: Sequence[Tensor], ids: Tensor, epoch: int, room: int) -> Batch:
    """A batch of the same samples in fewer rows ``(B', L)``.

    ``positions`` begin anew at each sample, which tells models where attention ends; padding goes on with the
    last one's. ``ids`` are those of each row's first sample.

    Args:
        inputs, targets: of each sample, ``(length,)``.
        ids: of the samples.
        epoch: of the batch.
        room: tokens of a row.
    """
    rows = layout([len(x) for x in inputs], room)

    def joined(parts: Sequence[Tensor], filling: int) -> Tensor:
        return pad_sequence(
            [torch.cat([parts[i] for i in row]) for row in rows], batch_first=True, padding_value=filling
        )

    found, lengths = joined(inputs, 0), [sum(len(inputs[i]) for i in row) for row in rows]
    positions = joined([torch.arange(len(x)) for x in inputs], 0)
    for row, length in enumerate(lengths):
        last = positions[row, length - 1]
        positions[row, length:] = last + 1 + torch.arange(found.shape[1] - length)
    first = torch.tensor([row[0] for row in rows])
    return Batch(found, joined(targets, IGNORE), ids[first], epoch, positions=positions)
