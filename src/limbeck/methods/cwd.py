"""CWD: channel-wise distillation for segmentation."""

from __future__ import annotations

from pydantic import Field

from ..losses import cwd
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class CWD(Method):
    """``CE + 3 CWD`` of the score maps, as the networks give them: the published weight for logits.

    Example:
        >>> CWD().weight, CWD().options.temperature
        (3.0, 4.0)
    """

    name = "cwd"
    paper = "Shu et al., ICCV 2021, arXiv:2011.13256"
    status = "transcribed"
    needs = frozenset({"logits", "maps"})
    weight = 3.0

    class Options(Method.Options):
        """Options of ``limbeck.losses.cwd``."""

        temperature: float = Field(4.0, gt=0, description="divides the maps")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        maps = self.taught(teacher).extra["maps"]
        return {self.name: Term(cwd(student.extra["maps"], maps, temperature=self.options.temperature))}
