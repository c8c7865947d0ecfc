"""CC: correlation congruence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from ..connectors import width
from ..losses import cc, cc_neighbours
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod

WEIGHTS = {"kernel": 100.0, "neighbours": 0.02}


class CC(FeatureMethod):
    """``CE + 100 CC`` on the embedding, with the paper's kernel.

    ``form="neighbours"`` is what RepDistiller trains under this name: two trained embeddings and products of
    neighbouring samples' differences, weight 0.02. It has no kernel and depends on the order of the batch.

    Example:
        >>> CC().weight, CC(form="neighbours").weight
        (100.0, 0.02)
    """

    name = "cc"
    paper = "Peng et al., ICCV 2019, arXiv:1904.01802"
    continuous = True
    status = "verified"
    across_batch = True

    class Options(FeatureMethod.Options):
        """Layers, the form, and options of ``limbeck.losses.cc``."""

        form: Literal["kernel", "neighbours"] = Field("kernel", description="the paper's, or RepDistiller's")
        gamma: float = Field(0.4, gt=0, description="of the Gaussian kernel")
        order: int = Field(2, ge=1, description="last power of the kernel's series")
        width: int = Field(128, ge=1, description="of the trained embeddings of neighbours")

    options: Options
    embeddings_s: nn.ModuleList
    embeddings_t: nn.ModuleList

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.weight = WEIGHTS[self.options.form]

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pairs, size = self.embeddings(student, teacher), self.options.width
        self.compare(pairs)
        if self.options.form == "neighbours":
            self.embeddings_s = nn.ModuleList(nn.Linear(width(pair.source), size) for pair in pairs)
            self.embeddings_t = nn.ModuleList(nn.Linear(width(pair.target), size) for pair in pairs)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, pairs = self.options, self.feature_vectors(student, teacher)
        if o.form == "kernel":
            values = [cc(s, t, gamma=o.gamma, order=o.order) for s, t in pairs]
        else:
            embeddings = zip(self.embeddings_s, self.embeddings_t, pairs, strict=True)
            values = [cc_neighbours(one(s), other(t)) for one, other, (s, t) in embeddings]
        return {self.name: Term(sum(values[1:], values[0]))}
