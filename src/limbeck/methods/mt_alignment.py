"""MT-PKDOT's first stage: modality streams of one network aligned with its joint representation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch.nn import functional as F

from ..errors import ConfigError
from ..signals import Batch, Signals
from ..taps import EMBEDDING, Layout
from ._outputs import outputs_loss
from .base import Method, Setting, Status, Term, Terms
from .mt_pkdot import ADAPTER, HEAD


class MTAlignment(Method):
    """``0.5 sum_m mean_i (1 - cos(a_m(z_m), h)) + 0.5 (CE + 0.5 sum_m CE(c_m(a_m(z_m))))``.

    For a ``fusion`` network with ``streams``: adapters a, heads c, joint features h. As released, the alignment also
    pulls the joint features towards the adapters (``detach_joint=False``). A constant h would minimise it, and with few
    labels it goes a good part of the way: the teacher is as accurate as before, and its similarities say less. The
    default keeps that gradient away.

    Example:
        >>> MTAlignment().term_weights()
        {'align': 1.0, 'heads': 0.5}
    """

    name = "mt_alignment"
    paper = "Aslam et al. 2024, arXiv:2408.09035"
    status: ClassVar[Status] = "transcribed"
    needs = frozenset()
    label_weight = 0.5
    weight = 0.5
    continuous = True

    class Options(Method.Options):
        """Where gradients go."""

        detach_joint: bool = Field(
            True, description="keep the alignment's gradient away from the joint features"
        )

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {"align": 1.0, "heads": 0.5}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        names = [x.name for x in student.layers if x.name.startswith(HEAD) and x.name.count(".") == 1]
        self.streams = tuple(name.removeprefix(HEAD) for name in names)
        if not names:
            raise ConfigError(
                "mt_alignment trains a network with a stream for each modality",
                fix="set its option streams=true",
            )
        self.student_taps = (EMBEDDING, *(kind + name for name in self.streams for kind in (ADAPTER, HEAD)))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        joint = student.features[EMBEDDING].float()
        joint = joint.detach() if self.options.detach_joint else joint
        weights = self.term_weights()
        align = [
            (1 - F.cosine_similarity(student.features[ADAPTER + name].float(), joint)).mean()
            for name in self.streams
        ]
        heads = [outputs_loss(student.features[HEAD + name], batch.labels) for name in self.streams]
        return {
            "align": Term(sum(align[1:], align[0]), weights["align"]),
            "heads": Term(sum(heads[1:], heads[0]), weights["heads"]),
        }
