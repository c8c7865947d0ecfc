"""Deep mutual learning: a cohort of students without a teacher."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from ..errors import ConfigError
from ..losses import kd
from ..signals import Batch, Signals
from ..taps import Layout
from ..tasks import Classification
from .base import Method, Setting, Term, Terms


class DML(Method):
    r"""n students teach each other while they learn: :math:`L_i = CE_i + \frac1{n-1} \sum_{j \ne i} KL(p_j \| p_i)`.

    The peers are networks of this method: one optimiser step moves all of them, which is the same as n
    optimisers with equal settings and a synchronous update. They are in the checkpoint, scored at the end
    (``results.json``, ``networks``) and saved as ``peer-1.safetensors`` and so on.

    Example:
        >>> DML(students=3).options.networks
        ()
    """

    name = "dml"
    paper = "Zhang et al., CVPR 2018, arXiv:1706.00384"
    status = "verified"
    needs = frozenset()

    class Options(Method.Options):
        """Options of mutual learning."""

        students: int = Field(2, ge=2, description="size of the cohort, the student included")
        networks: tuple[str, ...] = Field((), description="peers by name; empty: the student's own kind")
        temperature: float = Field(1.0, gt=0, description="divides the logits")
        average: bool = Field(True, description="mean over peers (the paper); false: sum (its code)")

    options: Options

    def term_weights(self) -> dict[str, float]:
        o = self.options
        labels = {f"labels_{i}": 1.0 for i in range(1, o.students)}
        return {self.name: 1 / (o.students - 1) if o.average else 1.0, **labels}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o = self.options
        if o.networks and len(o.networks) != o.students - 1:
            raise ConfigError(
                f"{self.name}: {o.students} students have {o.students - 1} peers",
                got=f"{len(o.networks)} networks",
                fix="set students, or name as many networks",
            )
        names = o.networks or (None,) * (o.students - 1)
        self.peers = nn.ModuleList(setting.build(name, number=i) for i, name in enumerate(names, 1))
        self.task = Classification(setting.classes)

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        signals.extra["peers"] = [self.task.signals(self.task.call(p, batch)) for p in self.peers]

    def networks(self) -> dict[str, nn.Module]:
        return {f"peer-{i}": peer for i, peer in enumerate(self.peers, 1)}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        weights = self.term_weights()
        cohort = [student, *student.extra["peers"]]
        mutual = [
            kd(own.logits, peer.logits, temperature=self.options.temperature)
            for own in cohort
            for peer in cohort
            if own is not peer
        ]
        terms = {self.name: Term(torch.stack(mutual).sum(), weights[self.name])}
        for i, peer in enumerate(cohort[1:], 1):
            terms[f"labels_{i}"] = Term(self.task.loss(peer, batch))
        return terms
