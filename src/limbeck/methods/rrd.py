"""RRD."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ..losses.rrd import rrd
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .embedding import EmbeddingMethod, Projection


class RRD(EmbeddingMethod):
    """``CE + RRD`` against a first-in first-out queue of projected teacher embeddings.

    The batch enters the queue before it is scored, as published. The teacher's projection gets no gradient
    from this loss: it stays the random projection that it starts as. Queue and pointer are buffers.

    Two deviations: the queue starts with rows of length 1 (the released code normalises columns), and the
    batch need not divide the queue's length.

    Example:
        >>> RRD().options.student_temperature, RRD().options.teacher_temperature
        (0.1, 0.02)
    """

    name = "rrd"
    paper = "Giakoumoglou, Stathaki 2024, arXiv:2407.12073"
    status = "verified"
    across_batch = True

    queue: Tensor
    queue_ptr: Tensor

    class Options(EmbeddingMethod.Options):
        """The layer, and options of ``limbeck.losses.rrd`` and of its queue."""

        width: int = Field(128, ge=1, description="width of the projected embeddings")
        length: int = Field(16384, ge=1, description="embeddings in the queue")
        student_temperature: float = Field(0.1, gt=0, description="divides the student's similarities")
        teacher_temperature: float = Field(0.02, gt=0, description="divides the teacher's similarities")

    options: Options

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o = self.options
        pair = self.one_pair(student, teacher)
        self.compare([pair], [f"both to width {o.width}"])
        self.embed_s, self.embed_t = (Projection(s, o.width) for s in (pair.source, pair.target))
        self.embed_t.requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(o.length, o.width), dim=1))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))

    def contrast(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of embeddings ``(N, D)`` of both networks; the teacher's enter the queue while training."""
        s, t = self.embed_s(student), self.embed_t(teacher)
        if self.training:
            self._enqueue(t)
        return rrd(
            s,
            t,
            self.queue,
            student_temperature=self.options.student_temperature,
            teacher_temperature=self.options.teacher_temperature,
        )

    @torch.no_grad()
    def _enqueue(self, x: Tensor) -> None:
        x = F.normalize(x.to(self.queue.dtype), dim=1)[-len(self.queue) :]
        places = (self.queue_ptr + torch.arange(len(x), device=x.device)) % len(self.queue)
        self.queue[places] = x
        self.queue_ptr.add_(len(x)).remainder_(len(self.queue))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return {self.name: Term(self.contrast(*self.vectors(student, teacher)))}
