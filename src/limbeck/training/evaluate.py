"""Predictions on a split, from all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data.loader import Loader
from ..signals import Batch, Signals
from ..tasks import Classification
from .gather import world


@torch.no_grad()
def predict(
    ask: Callable[[Batch], Signals],
    loader: Loader,
    task: Classification,
    device: torch.device,
    memory_format: torch.memory_format | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits ``(N, K)`` in float32 and labels ``(N,)`` of a whole split, in sample order, on the CPU.

    Args:
        ask: a network as a function from batch to signals.
        loader: plain views of the split, each sample once over all processes.
        task: says which rows count.
        device: where to compute.
        memory_format: of the images.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in loader.epoch(0):
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
