"""What a method is: which signals it needs, the helpers it brings, and its named terms."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ..errors import ConfigError
from ..signals import Batch, Signals
from ..taps import Layout

Status = Literal["verified", "transcribed", "reconstructed", "control"]


class Term(NamedTuple):
    """One named part of the objective: its raw value and the weight it enters the sum with."""

    value: Tensor
    weight: float = 1.0


Terms = dict[str, Term]


class MethodOptions(BaseModel):
    """Base of every method's options: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(nn.Module):
    """A way to teach: a small module that turns two networks' signals into named terms.

    Subclasses set the class attributes below, an ``Options`` class and ``forward``. Learnable helpers
    (projectors, banks) are ordinary submodules: they are trained, synchronised and saved with the student.

    Attributes:
        name: the name in configuration and tables.
        paper: citation shown by ``limbeck methods``.
        status: ``verified`` against numbers of a published implementation, ``transcribed`` from its formula
            without such numbers, ``reconstructed`` where the formula could not be had, or ``control`` for a
            baseline that is no distillation.
        needs: capabilities that the teacher must have; empty when the method has no teacher.
        label_weight: default weight of the task's own loss (cross-entropy) beside this method.
        weight: default factor on this method's terms.
        across_batch: True when the loss compares samples with each other, so that distributed runs must
            gather the global batch first.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    status: ClassVar[Status]
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    label_weight: ClassVar[float] = 1.0
    weight: ClassVar[float] = 1.0
    across_batch: ClassVar[bool] = False

    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    class Options(MethodOptions):
        """No options."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        from ..config import check

        self.options = check(self.Options, options, f"the configuration of method {self.name!r}")

    def term_weights(self) -> dict[str, float]:
        """The weight of each term in this method's sum; a term of weight 0 is not computed."""
        return {self.name: 1.0}

    def taught(self, teacher: Signals | None) -> Signals:
        """The teacher's signals, or an error that names the method."""
        if teacher is None:
            raise ConfigError(
                f"method {self.name!r} needs a teacher", fix="set teacher, or choose another method"
            )
        return teacher

    def prepare(self, student: Layout, teacher: Layout | None) -> None:
        """Choose layers and build the helpers that fit them; called once, before training.

        Set ``student_taps`` and ``teacher_taps`` to the names whose features the method wants to see, and
        ``choices`` to what a reader should know of the choice.

        Args:
            student: what is known of the student.
            teacher: what is known of the teacher, or None.
        """

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        """Named terms of one batch.

        Args:
            student: the student's signals, logits ``(N, C)``.
            teacher: the teacher's signals on the same rows; None when ``needs`` is empty.
            batch: the batch, its labels flattened to ``(N,)``.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")
