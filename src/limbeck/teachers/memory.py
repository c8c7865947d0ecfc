"""A teacher that is asked once per sample and remembered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import BudgetError, ConfigError
from ..signals import Batch, Signals
from .live import LiveTeacher


class MemoryTeacher:
    """Keeps a teacher's logits by sample id.

    Exact only when a sample looks the same in every epoch. Beside augmentation the student sees fresh views,
    and the answer is about the one view that the teacher was asked about.

    Args:
        teacher: who is asked the first time.
        samples: size of the training split.
        ask: gives the logits of all ``ids`` at once, ``(ids, K)``. Then what is remembered does not hang on the
            batch in which a sample came first (rows of another batch differ in the last bits), and a resumed
            run remembers the same.
        ids: the only samples that may be asked about, in rising order, beside ``ask``; None is all of them.
        skip: mark rows of other samples in ``extra["known"]`` (a mask ``(N,)``) instead of refusing them.

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
        self,
        teacher: LiveTeacher,
        samples: int,
        ask: Callable[[], Tensor | None] | None = None,
        *,
        ids: Tensor | None = None,
        skip: bool = False,
    ) -> None:
        if ids is not None and ask is None:
            raise ConfigError("a memory of chosen samples asks about them at once", fix="give ask beside ids")
        self.teacher, self.samples, self.ask = teacher, samples, ask
        self.ids, self.skip = ids, skip
        self._logits: Tensor | None = None
        self._known = torch.zeros(samples, dtype=torch.bool)
        self._allowed = torch.ones(samples, dtype=torch.bool)
        if ids is not None:
            self._allowed = self._known.index_fill(0, ids, True)

    def fetch(self) -> Tensor | None:
        """What is remembered about all ``ids``, ``(ids, K)``, on the CPU; ``ask`` is called if it was not yet."""
        if self._logits is None and self.ask is not None and (logits := self.ask()) is not None:
            self.keep(logits)
        return None if self._logits is None else self._logits[self._allowed].cpu()

    def keep(self, answers: Tensor) -> None:
        """Remember these logits of all ``ids``, ``(ids, K)``."""
        self._logits = answers.new_zeros(self.samples, answers.shape[1])
        self._logits[self._allowed] = answers
        self._known |= self._allowed

    @torch.no_grad()
    def signals(self, batch: Batch) -> Signals:
        """The remembered logits; samples not seen yet are asked of the teacher first, where they may be.

        Raises:
            BudgetError: a sample that may not be asked about.
        """
        if batch.mixing is not None:
            raise ConfigError(
                "a remembered teacher cannot follow mixup or cutmix", fix="set teacher.cache=none"
            )
        ids = batch.ids.cpu()
        allowed = self._allowed[ids]
        if not self.skip and not bool(allowed.all()):
            raise BudgetError(
                f"the teacher may be asked about {int(self._allowed.sum())} training samples (teacher.budget)",
                got=f"sample {int(ids[~allowed][0])}, which is not among them",
                fix="leave it out or train on its label alone: teacher.rest",
            )
        if self._logits is None:
            self.fetch()
        new = (allowed & ~self._known[ids]).nonzero().squeeze(1)
        if len(new):
            asked = batch if len(new) == len(ids) else batch.rows(new.to(batch.ids.device))
            logits = self.teacher.signals(asked).logits
            if self._logits is None:
                self._logits = logits.new_zeros(self.samples, logits.shape[1])
            self._logits[asked.ids] = logits
            self._known[asked.ids.cpu()] = True
        assert self._logits is not None
        if self._logits.device != batch.ids.device:
            self._logits = self._logits.to(batch.ids.device)
        extra = {} if bool(allowed.all()) else {"known": allowed.to(batch.ids.device)}
        return Signals(self._logits[batch.ids], extra=extra)
