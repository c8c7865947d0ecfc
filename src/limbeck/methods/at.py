"""AT: attention transfer."""

from __future__ import annotations

from pydantic import Field

from ..losses import at
from ..losses.at import Form
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod


class AT(FeatureMethod):
    """``CE + 1000 sum over stages of AT``, RepDistiller's weight of the authors' released form.

    The paper's own equation is ``form="norm"``: it is 16 to 130 times larger, so lower the weight with it.

    Example:
        >>> AT(form="norm").options.form
        'norm'
    """

    name = "at"
    paper = "Zagoruyko, Komodakis, ICLR 2017, arXiv:1612.03928"
    status = "verified"
    weight = 1000.0

    class Options(FeatureMethod.Options):
        """Layers, and options of ``limbeck.losses.at``."""

        power: float = Field(2.0, gt=0, description="of the features before the mean over channels")
        form: Form = Field(
            "mean_square", description="the distance: the released code's, or the paper's norm"
        )

    options: Options

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.compare(self.maps(self.stages(student, teacher)))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o = self.options
        values = [at(s, t, power=o.power, form=o.form) for s, t in self.feature_maps(student, teacher)]
        return {self.name: Term(sum(values[1:], values[0]))}
