"""DarkRank: the order of neighbours."""

from pydantic import Field
from torch.nn import functional as F

from ..losses import darkrank
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod


class DarkRank(FeatureMethod):
    """``CE + darkrank`` on the embedding."""

    name = "darkrank"
    paper = "Chen, Wang, Zhang, AAAI 2018, arXiv:1707.01220"
    status = "verified"
    across_batch = True

    class Options(FeatureMethod.Options):
        """Layers, and options of ``limbeck.losses.darkrank``."""

        alpha: float = Field(3.0, gt=0, description="steepness of the scores")
        beta: float = Field(3.0, gt=0, description="power of the distance")
        length: int = Field(4, ge=1, description="neighbours ranked")
        normalise: bool = Field(True, description="embeddings of length 1, as in metric learning")

    options: Options

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.compare(self.embeddings(student, teacher))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, ((s, t),) = self.options, self.feature_vectors(student, teacher)
        if o.normalise:
            s, t = F.normalize(s.float(), dim=1), F.normalize(t.float(), dim=1)
        return {self.name: Term(darkrank(s, t, alpha=o.alpha, beta=o.beta, length=o.length))}
