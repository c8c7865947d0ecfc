"""T-Net: learn to supply the features of a modality that the student does not have."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch.nn import functional as F

from ..errors import ConfigError
from ..losses import mmd
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Method, Setting, Status, Term, Terms

TNET, ENCODER = "tnets.", "encoders."


class TNet(Method):
    """``MSE(T(z), z')``: from the student's own features to the teacher's feature of the missing modality.

    For students with ``imagines``, under a ``fusion`` teacher that sees those modalities. It trains along with the
    rest; ``initial_epochs`` trains it first and alone, and weight 0 then leaves it as it is: the published order of
    stages.
    The T-Net is part of the student, so it is saved and loaded with it.

    Example:
        >>> TNet(initial_epochs=5).initial_epochs
        5
    """

    name = "tnet"
    paper = "Aslam et al., FG 2024, arXiv:2401.15489; Hoffman et al., CVPR 2016"
    status: ClassVar[Status] = "transcribed"
    needs = frozenset({"features"})
    continuous = True

    class Options(Method.Options):
        """What is compared, and when."""

        loss: Literal["mse", "mmd"] = Field("mse", description="pairs, or distributions")
        initial_epochs: int = Field(0, ge=0, description="epochs of the T-Net alone, before the rest")

    options: Options

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.initial_epochs = self.options.initial_epochs

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        ours = [x.name for x in student.layers if x.name.startswith(TNET) and x.name.count(".") == 1]
        names = [name.removeprefix(TNET) for name in ours]
        theirs = {layer.name for layer in (teacher.layers if teacher else ())}
        if not names:
            raise ConfigError(
                "tnet trains a T-Net, and the student has none", fix="set student.options.imagines"
            )
        if missing := [name for name in names if ENCODER + name not in theirs]:
            raise ConfigError(
                f"the teacher has no feature of {', '.join(missing)} for the T-Net to learn",
                fix="take a fusion teacher that sees what the student imagines",
            )
        for name in names:
            mine, his = student.shape(TNET + name), teacher.shape(ENCODER + name) if teacher else None
            if mine != his:
                raise ConfigError(
                    f"the T-Net for {name} and the teacher's feature have other widths",
                    got=f"{mine} and {his}",
                    fix="give student and teacher the same option width",
                )
        self.names = tuple(names)
        self.student_taps, self.teacher_taps = tuple(ours), tuple(ENCODER + name for name in names)

    def initial(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return self.forward(student, teacher, batch)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        t = self.taught(teacher)
        values = []
        for name in self.names:
            made, real = student.features[TNET + name].float(), t.features[ENCODER + name].float()
            if not len(made):
                values.append(made.sum() * 0)
            else:
                values.append(
                    F.mse_loss(made, real.detach()) if self.options.loss == "mse" else mmd(made, real)
                )
        return {self.name: Term(sum(values[1:], values[0]))}
