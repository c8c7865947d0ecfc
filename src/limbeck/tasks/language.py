"""Language modelling: N rows are N supervised tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..losses import Head, chunked_cross_entropy
from ..models.causal import head_of
from ..shapes import IGNORE
from ..signals import Batch, Signals
from .classification import Classification

KNOWN: WeakSet[nn.Module] = WeakSet()
"""Models whose logits were found to be what their head makes of their last states."""


@dataclass(frozen=True)
class Tokens:
    """What a language model says about the supervised tokens of a batch, before it is spelled out as logits.

    Attributes:
        hidden: states that the head reads ``(N, d)``.
        head: the head, in the precision of the model's products.
    """

    hidden: Tensor
    head: Head


class TokenSignals(Signals):
    """Signals whose logits ``(N, V)`` are made when a method asks for them, and not before.

    ``extra["tokens"]`` are the ``Tokens``.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.features, self.extra = {}, {"tokens": tokens}

    @cached_property
    def logits(self) -> Tensor:  # type: ignore[override]
        """Logits ``(N, V)`` in float32 at least."""
        tokens: Tokens = self.extra["tokens"]
        logits = tokens.head(tokens.hidden.to(tokens.head.weight.dtype))  # may be asked outside autocast
        return logits.float() if logits.dtype.itemsize < 4 else logits


class LanguageModelling(Classification):
    """Predict the next token where there is a label; the measure of good is the accuracy of the likeliest token.

    A batch holds token ids ``(B, L)`` padded on the right and labels ``(B, L)``, already shifted.

    Args:
        classes: entries of the vocabulary V. Rows of a head beyond them are padding and are cut off.

    Example:
        >>> from limbeck.models import build
        >>> model = build("causal:gpt2", classes=7, channels=0, size=(0, 0), n_embd=8, n_layer=1, n_head=2)
        >>> task = LanguageModelling(classes=7)
        >>> batch = Batch(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, -100]]), torch.arange(1))
        >>> task.signals(task.call(model, batch)).logits.shape, task.rows(batch).labels
        (torch.Size([2, 7]), tensor([2, 3]))
    """

    name = "language"
    gives = frozenset({"tokens"})

    def call(self, model: nn.Module, batch: Batch) -> Signals:
        """Call a network on a batch.

        Raises:
            ModelError: the network cannot take these inputs, or is no causal language model.
        """
        places = {} if batch.positions is None else {"position_ids": batch.positions}
        try:
            output: Any = model(
                input_ids=batch.inputs, output_hidden_states=True, logits_to_keep=1, use_cache=False, **places
            )
            states = output.hidden_states[-1]
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"the network {type(model).__name__} fails on token ids of shape {tuple(batch.inputs.shape)}",
                got=f"{type(error).__name__}: {error}",
                expected="a causal language model of transformers with room for as many tokens",
                fix="lower data.length, or raise the network's number of positions",
            ) from error
        head = head_of(model, self.classes)
        if model not in KNOWN:
            _same_logits(model, head(states[:, -1:]), output.logits[..., : self.classes])
            KNOWN.add(model)
        return TokenSignals(Tokens(states[batch.labels != IGNORE], head))

    def signals(self, output: Any) -> Signals:
        """What ``call`` gave."""
        found: Signals = output
        return found

    def rows(self, batch: Batch) -> Batch:
        """The batch with one row for each supervised token."""
        given = batch.labels != IGNORE
        ids = batch.ids[:, None].expand_as(given)[given]
        return replace(batch, labels=batch.labels[given], ids=ids)

    def loss(self, signals: Signals, batch: Batch) -> Tensor:
        """Cross-entropy in nats, mean over the supervised tokens of the whole batch of all processes."""
        tokens: Tokens = signals.extra["tokens"]
        return chunked_cross_entropy(tokens.hidden, tokens.head, batch.labels, num_items=batch.items)

    def metrics(
        self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
    ) -> dict[str, float]:
        """The numbers of this task from whole logits; a run sums them up batch by batch instead."""
        from ..evaluation.language import Sums

        sums = Sums()
        sums.add(logits, labels, teacher_logits)
        return sums.metrics()


@torch.no_grad()
def _same_logits(model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """Refuse a model whose logits are not what its head makes of its last hidden states."""
    apart = float((ours.float() - theirs.float()).abs().max())
    if apart > 0.05 * max(float(theirs.float().abs().max()), 1e-3):
        raise ModelError(
            f"{type(model).__name__} makes its logits in another way than from its last states by its head",
            got=f"a difference of {apart:.3g}",
            expected="a linear head, perhaps with a factor and a soft cap",
            fix="take another model, or say how its logits are made: limbeck.models.causal.head_of",
        )
