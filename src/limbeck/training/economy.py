"""Memory and padding saved in runs on text, where a model can."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..data.packing import packed
from ..errors import ModelError
from ..signals import Batch
from ..tasks import Classification


def recompute(model: Any) -> None:
    """Let a language model compute its layers again in the backward pass instead of keeping what they gave.

    Raises:
        ModelError: it cannot.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ModelError(
            f"{type(model).__name__} has no gradient checkpointing",
            fix="leave train.gradient_checkpointing out",
        )
    how = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:  # before transformers 5.24
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


@torch.no_grad()
def require_packing(model: nn.Module, task: Classification) -> None:
    """Try two samples in one row, and each alone.

    Raises:
        ModelError: the model says something else of a sample when another one stands in its row.
    """
    device = next(model.parameters()).device
    draws = torch.Generator().manual_seed(0)
    samples = [torch.randint(0, task.classes, (n,), generator=draws) for n in (4, 3)]
    rows = torch.arange(2)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:

        def states(batch: Batch) -> torch.Tensor:
            hidden: torch.Tensor = task.call(model, batch.to(device)).extra["tokens"].hidden
            return hidden

        together = states(packed(samples, samples, rows, 0, room=7))
        alone = torch.cat([states(Batch(x[None], x[None], rows[:1])) for x in samples])
    except ModelError as error:
        raise ModelError(
            f"{type(model).__name__} takes no positions of tokens",
            got=str(error.got),
            fix="set data.packing=false",
        ) from None
    finally:
        for module, mode in modes.items():
            module.training = mode
    apart = float((together - alone).abs().max())
    if apart > 1e-3 * max(float(alone.abs().max()), 1.0):
        raise ModelError(
            f"{type(model).__name__} cannot keep samples of one row apart",
            got=f"states that differ by {apart:.3g}",
            expected="attention that ends where positions begin anew, as in llama, qwen2, mistral, gemma or gpt2",
            fix="set data.packing=false",
        )
