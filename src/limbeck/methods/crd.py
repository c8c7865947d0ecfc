"""CRD."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses.crd import crd, crd_batch
from ..shapes import IGNORE
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .candidates import Candidates
from .embedding import EmbeddingMethod, Projection


class CRD(EmbeddingMethod):
    """``CE + 0.8 CRD``: contrast with a memory of every training sample, or with the batch.

    Two projections of the embeddings are trained. The memories, the constants of the first batch and the
    place in the stream of negatives are buffers: a resumed run draws and remembers what an unbroken one does.

    With ``bank="none"`` the candidates are the batch's own embeddings: no memory, nothing to draw, and
    negatives that are never stale; it wants batches of some hundred samples.

    Example:
        >>> CRD().term_weights(), CRD().weight
        ({'crd': 1.0}, 0.8)
    """

    name = "crd"
    paper = "Tian, Krishnan, Isola, ICLR 2020, arXiv:1910.10699"
    status = "verified"
    weight = 0.8
    across_batch = True

    class Options(EmbeddingMethod.Options):
        """The layer, and options of ``limbeck.losses.crd`` and of its memory."""

        bank: Literal["memory", "none"] = Field(
            "memory", description="contrast with a memory of all samples, or with the batch"
        )
        width: int = Field(128, ge=1, description="width of the projected embeddings")
        negatives: int = Field(16384, ge=1, description="negatives of each sample, with a memory")
        mode: Literal["exact", "relax"] = Field(
            "exact", description="the positive is the sample itself, or any of its class"
        )
        temperature: float = Field(0.07, ge=0.02, description="divides the similarities")
        momentum: float = Field(0.5, ge=0, lt=1, description="share of the old value when memory is updated")

    options: Options

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o = self.options
        pair = self.one_pair(student, teacher)
        self.compare([pair], [f"both to width {o.width}"])
        self.embed_s, self.embed_t = (Projection(s, o.width) for s in (pair.source, pair.target))
        self.memory: Memory | None = None
        if o.bank == "none":
            self.register_buffer("constants", torch.full((2,), -1.0))
        else:
            self.memory = Memory(len(setting.labels), o.width, o.negatives, o.temperature, o.momentum)
            self.candidates = Candidates(setting.labels, o.negatives, o.mode)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        s, t = self.vectors(student, teacher)
        if (labelled := batch.labels != IGNORE).all():
            return {self.name: Term(self.contrast(s, t, batch.ids, batch.labels))}
        ids, labels = batch.ids[labelled], batch.labels[labelled]
        return {self.name: Term(self.contrast(s[labelled], t[labelled], ids, labels))}

    def contrast(
        self, student: Tensor, teacher: Tensor, ids: Tensor, labels: Tensor, candidates: Tensor | None = None
    ) -> Tensor:
        """The loss of embeddings ``(N, D)`` of both networks; updates the memory while training.

        Args:
            student: of the student.
            teacher: of the teacher.
            ids: sample ids ``(N,)``.
            labels: class ids ``(N,)``.
            candidates: sample ids ``(N, 1 + K)`` to contrast with, the positive first; drawn by default.
        """
        s, t = self.embed_s(student), self.embed_t(teacher)
        if self.memory is not None:
            chosen = self.candidates(ids) if candidates is None else candidates
            found: Tensor = self.memory(s, t, ids, chosen)
            return found
        known = self.get_buffer("constants")
        value, constants = crd_batch(
            s, t, labels, constants=settled(known), temperature=self.options.temperature
        )
        if self.training and len(s):
            keep(known, constants)
        return value


class Memory(nn.Module):
    """A remembered embedding of every sample for both networks, and the constants of the first batch.

    Buffers have the published names and layout: ``params`` is K, temperature, the two constants (-1 before
    the first batch) and momentum, and is what is computed with; ``memory_v1`` is the student's, ``memory_v2``
    the teacher's.
    """

    params: Tensor
    memory_v1: Tensor
    memory_v2: Tensor

    def __init__(self, samples: int, width: int, negatives: int, temperature: float, momentum: float) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width / 3)
        self.register_buffer("params", torch.tensor([negatives, temperature, -1, -1, momentum]))
        for name in ("memory_v1", "memory_v2"):
            self.register_buffer(name, torch.empty(samples, width).uniform_(-bound, bound))

    def forward(self, student: Tensor, teacher: Tensor, ids: Tensor, candidates: Tensor) -> Tensor:
        """Score against what was remembered before, then remember."""
        _, temperature, _, _, momentum = self.params.tolist()
        known = self.params[2:4]
        value, constants = crd(
            student,
            teacher,
            self.memory_v1,
            self.memory_v2,
            candidates,
            constants=settled(known),
            temperature=temperature,
        )
        if self.training and len(ids):
            keep(known, constants)
            remember(self.memory_v1, ids, student, momentum)
            remember(self.memory_v2, ids, teacher, momentum)
        return value


@torch.no_grad()
def remember(memory: Tensor, ids: Tensor, x: Tensor, momentum: float) -> None:
    """Move remembered unit vectors towards new ones."""
    old = memory[ids] * momentum
    new = F.normalize(x.to(memory.dtype), dim=1)
    memory[ids] = F.normalize(old.add_(new, alpha=1 - momentum), dim=1)


def settled(constants: Tensor) -> Tensor | None:
    """The constants, or None before the first batch."""
    return None if bool((constants < 0).any()) else constants


@torch.no_grad()
def keep(known: Tensor, constants: Tensor) -> None:
    """Keep the constants of the first batch; once settled they are written over by themselves."""
    known.copy_(constants)
