"""Predictions on a split, from all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..signals import Batch, Signals
from ..tasks import Classification
from .gather import world


@torch.no_grad()
def predict(
    ask: Callable[[Batch], Signals],
    batches: Iterable[Batch],
    task: Classification,
    device: torch.device,
    memory_format: torch.memory_format | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits ``(N, K)`` in float32 and labels ``(N,)`` of all samples, in the order of ids, on the CPU.

    Args:
        ask: a network as a function from batch to signals.
        batches: each sample once over all processes, and equally many batches on each.
        task: says which rows count.
        device: where to compute.
        memory_format: of the images.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in batches:
        moved = batch.to(device, memory_format)
        logits = ask(moved).logits
        found.append((batch.ids, logits.float().cpu(), task.rows(moved).labels.cpu()))
    if world() > 1:
        from accelerate.utils import gather_object

        gathered: list[Any] = gather_object(found)
        found = gathered
    order = torch.argsort(torch.cat([ids for ids, _, _ in found]), stable=True)
    logits = torch.cat([logits for _, logits, _ in found])[order]
    return logits, torch.cat([labels for _, _, labels in found])[order]
