"""DistiLLM's rule: how often the student writes follows from validation, and what it wrote is used again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..seeds import derive
from ..shapes import IGNORE
from ..signals import Batch
from .base import Update
from .distillation import Distillation
from .sampled import SampledDistillation

MARGIN, STEP = 0.1, 0.1
"""By how much the validation NLL must rise, and what the share rises by then."""


class AdaptiveDistillation(SampledDistillation):
    """Batches of data, of new texts of the student, or of texts that it wrote before.

    With u drawn for each batch, threshold c (0 at first) and the part p of the run that is over: a new text where
    ``u < c (1 - p)``, or where ``u < c`` and the buffer is not full; one from the buffer where ``u < c`` else; the data
    otherwise. At a validation whose NLL is at least 0.1 above the last one that counted, c rises by 0.1, to 1 at most,
    and this NLL counts from then on. The first validation only counts.

    Source: Ko et al., DistiLLM, ICML 2024, arXiv:2402.03898, and its released code.

    Deviation: the released code validates once before training, for the first NLL that counts.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.threshold, self.counted = 0.0, float("nan")
        self.buffer: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.sampling.replay)
        self.turns = {"new": 0, "replayed": 0}

    def validated(self, scores: dict[str, float]) -> None:
        """Hear of a validation."""
        if self.counted != self.counted:
            self.counted = scores["nll"]
        elif scores["nll"] >= self.counted + MARGIN:
            self.threshold, self.counted = min(self.threshold + STEP, 1.0), scores["nll"]

    def step(self, batch: Batch) -> Iterator[Update]:
        """Choose the batch, then the ordinary step."""
        drawn = derive(self.seed, "turn", batch.epoch, int(batch.ids[0])) / 2**63
        left = 1 - self.learner.epoch / self.learner.epochs
        full = len(self.buffer) == self.buffer.maxlen
        if batch.epoch >= self.sampling.after and drawn < self.threshold:
            if drawn < self.threshold * left or not full:
                batch = self._written(batch)
                self._keep(batch)
                self.turns["new"] += 1
            else:
                batch = self._again(batch)
                self.turns["replayed"] += 1
        yield from Distillation.step(self, batch)

    def _keep(self, batch: Batch) -> None:
        for inputs, labels in zip(batch.inputs.cpu(), batch.labels.cpu(), strict=True):
            end = 1 + max((labels != IGNORE).nonzero().flatten().tolist(), default=0)
            self.buffer.append((inputs[:end].clone(), labels[:end].clone()))

    def _again(self, batch: Batch) -> Batch:
        """As many samples of the buffer."""
        draws = torch.Generator().manual_seed(derive(self.seed, "replay", batch.epoch, batch.ids.tolist()))
        chosen = torch.randint(len(self.buffer), (len(batch.ids),), generator=draws).tolist()
        inputs, labels = (
            pad_sequence([self.buffer[i][side] for i in chosen], batch_first=True, padding_value=fill).to(
                batch.inputs.device
            )
            for side, fill in ((0, 0), (1, IGNORE))
        )
        items = float((labels != IGNORE).sum())
        return replace(batch, inputs=inputs, labels=labels, items=items, sampled=True)

    def figures(self) -> dict[str, float]:
        """Beside the others the threshold, and how many samples are kept."""
        return {**super().figures(), "threshold": self.threshold, "kept_texts": float(len(self.buffer))}

    def learned(self) -> dict[str, float]:
        """Beside the others the threshold at the end, and batches of new and of replayed texts."""
        turns = {f"batches_{name}": float(count) for name, count in self.turns.items()}
        return super().learned() | {"threshold": self.threshold} | turns

    def state_dict(self) -> dict[str, Any]:
        """Beside the others threshold, the NLL that counts, and the buffer."""
        sides = {
            name: torch.cat([row[i] for row in self.buffer])
            if self.buffer
            else torch.zeros(0, dtype=torch.long)
            for i, name in enumerate(("inputs", "labels"))
        }
        lengths = torch.tensor([len(row) for row, _ in self.buffer], dtype=torch.long)
        own = {
            "threshold": self.threshold,
            "counted": self.counted,
            "lengths": lengths,
            **sides,
            **self.turns,
        }
        return {**super().state_dict(), "adaptive": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        super().load_state_dict(state)
        own = state["adaptive"]
        self.threshold, self.counted = own["threshold"], own["counted"]
        self.turns = {name: own[name] for name in self.turns}
        sides = (own[name].split(own["lengths"].tolist()) for name in ("inputs", "labels"))
        self.buffer.clear()
        self.buffer.extend(zip(*sides, strict=True))
