"""A teacher that is asked once per sample and remembered."""

from __future__ import annotations

from collections.abc import Callable

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
        ask: gives the logits ``(samples, K)`` of the whole split at once. Then what is remembered does not hang
            on the batch in which a sample came first (rows of another batch differ in the last bits), and a
            resumed run remembers the same.

    Example:
        >>> from torch import nn
        >>> from limbeck.tasks import Classification
        >>> teacher = MemoryTeacher(LiveTeacher(nn.Linear(4, 3), Classification(classes=3)), samples=5)
        >>> batch = Batch(torch.zeros(2, 4), torch.zeros(2).long(), torch.tensor([4, 0]))
        >>> torch.equal(teacher.signals(batch).logits, teacher.signals(batch).logits)
        True
    """

    capabilities = frozenset({"logits"})

    def __init__(
        self, teacher: LiveTeacher, samples: int, ask: Callable[[], Tensor | None] | None = None
    ) -> None:
        self.teacher, self.samples, self.ask = teacher, samples, ask
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
        if self._logits is None and self.ask is not None and (logits := self.ask()) is not None:
            self._logits = logits.to(batch.inputs.device)
            self._known[:] = True
        if self._logits is None or not bool(self._known[ids].all()):
            logits = self.teacher.signals(batch).logits
            if self._logits is None:
                self._logits = logits.new_zeros(self.samples, logits.shape[1])
            self._logits[batch.ids] = logits
            self._known[ids] = True
            return Signals(logits=logits)
        return Signals(logits=self._logits[batch.ids])
