"""Numbers of a language model, summed up over batches of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..losses import token_divergence


class Sums:
    """What has been seen so far: sums over tokens, so that no logits are kept.

    Example:
        >>> sums = Sums()
        >>> sums.add(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        >>> {name: round(value, 3) for name, value in sums.metrics().items()}
        {'accuracy': 1.0, 'nll': 0.127, 'perplexity': 1.135, 'entropy': 0.365, 'confidence': 0.881}
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.sums: dict[str, float] = {}

    def add(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Count a batch: logits ``(N, V)``, labels ``(N,)``, and the teacher's logits where there is one."""
        self.tokens += len(labels)
        log = torch.log_softmax(logits.float(), 1)
        p = log.exp()
        found = {
            "accuracy": (log.argmax(1) == labels).sum(),
            "nll": cross_entropy(logits.float(), labels, reduction="sum"),
            "entropy": -(p * log).sum(),
            "confidence": p.amax(1).sum(),
        }
        if teacher is not None:
            found["agreement"] = (log.argmax(1) == teacher.argmax(1)).sum()
            found["teacher_kl"] = token_divergence(logits, teacher, reduction="sum")
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def merge(self, others: list[tuple[int, dict[str, float]]]) -> None:
        """Take the sums of all processes instead of one's own."""
        self.tokens = sum(tokens for tokens, _ in others)
        self.sums = {name: sum(sums.get(name, 0.0) for _, sums in others) for name in others[0][1]}

    def metrics(self) -> dict[str, float]:
        """Means per token, and the perplexity ``exp(nll)``; fractions in [0, 1], the rest in nats."""
        means = {name: value / max(self.tokens, 1) for name, value in self.sums.items()}
        first = {"accuracy": means.pop("accuracy"), "nll": means["nll"]}
        return first | {"perplexity": math.exp(min(means.pop("nll"), 700.0))} | means
