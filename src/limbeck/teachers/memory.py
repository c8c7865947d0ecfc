"""A teacher that is asked once per sample and remembered."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..signals import Batch, Signals
from .live import LiveTeacher


class MemoryTeacher:
    """Keeps a teacher's logits by sample id, for training without augmentation.

    Correct only when a sample looks the same in every epoch, so the trainer refuses it beside augmentation.

    Args:
        teacher: who is asked the first time.
        samples: size of the training split.
    """

    capabilities = frozenset({"logits"})

    def __init__(self, teacher: LiveTeacher, samples: int) -> None:
        self.teacher, self.samples = teacher, samples
        self._logits: Tensor | None = None
        self._known = torch.zeros(samples, dtype=torch.bool)

    @torch.no_grad()
    def signals(self, batch: Batch) -> Signals:
        """The remembered logits; samples not seen yet are asked of the teacher first."""
        if batch.mixing is not None:
            raise ConfigError(
                "a remembered teacher cannot follow mixup or cutmix", fix="set teacher.cache=none"
            )
        ids = batch.ids.cpu()
        if self._logits is None or not bool(self._known[ids].all()):
            logits = self.teacher.signals(batch).logits
            if self._logits is None:
                self._logits = logits.new_zeros(self.samples, logits.shape[1])
            self._logits[batch.ids] = logits
            self._known[ids] = True
            return Signals(logits=logits)
        return Signals(logits=self._logits[batch.ids])
