"""What a method is: which signals it needs, the helpers it brings, and its named terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ..errors import ConfigError
from ..signals import Batch, Signals
from ..taps import Layout

if TYPE_CHECKING:
    from ..teachers import Inputs

Status = Literal["verified", "transcribed", "reconstructed", "control"]


class Term(NamedTuple):
    """One named part of the objective: its raw value and the weight it enters the sum with."""

    value: Tensor
    weight: float = 1.0


Terms = dict[str, Term]


class MethodOptions(BaseModel):
    """Base of every method's options: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Ask = Callable[[Tensor], Tensor]
"""Inputs -> logits of a network in evaluation mode, differentiable in the inputs."""


class Build(Protocol):
    """Makes a network for the run's data.

    Args:
        name: a network of the table; None is another of the student's kind.
        options: its options.
        number: other numbers give other initial weights.
    """

    def __call__(
        self, name: str | None = None, options: dict[str, Any] | None = None, number: int = 0
    ) -> nn.Module: ...


class Setting(NamedTuple):
    """What a method may know of a run before it starts.

    Attributes:
        classes: number of classes.
        labels: training label of each sample id ``(samples,)``.
        epochs: of the main stage.
        inputs: channels, size and normalisation of what the networks are fed.
        student: the student, for one look (copying a stage, say); never keep it.
        teacher: the teacher network, for one look, or None.
        build: makes further networks.
        batch_size: training samples of a step over all processes; 0 where it is not known.
        languages: the ``limbeck.data.bilingual.Languages`` of two tokenizers; None where there is one or none.
    """

    classes: int
    labels: Tensor
    epochs: int
    inputs: Inputs
    student: nn.Module
    teacher: nn.Module | None
    build: Build
    batch_size: int = 0
    languages: Any = None


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
        head: True when the method reads ``extra["head"]``, the weight and bias of the last linear layer.
        continuous: True when the method is meaningful where outputs are numbers to regress, not class scores.
        across_tokenizers: True when the method works where student and teacher have tokenizers of their own.
        uneven: True when some steps leave trained parameters out, which distributed runs must know.
        may_rest: terms that may be 0 at the start, because they wait for another term to do its work.
        initial_epochs: length of an initialisation stage before the main one.
        epoch: where the run stands, in epochs of the main stage (3.25, say), set before every step; below 0
            in the initialisation stage.
        step: optimiser steps of the main stage before this one; below 0 in the initialisation stage.
        tuples: size and number of the tuples of different samples that batches must be made of, row after
            row; None for batches of any samples.
        told: numbers about the last step for the record, by name.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    status: ClassVar[Status]
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    label_weight: ClassVar[float] = 1.0
    weight: float = 1.0
    across_batch: ClassVar[bool] = False
    head: ClassVar[bool] = False
    continuous: ClassVar[bool] = False
    may_rest: ClassVar[frozenset[str]] = frozenset()
    uneven: ClassVar[bool] = False
    across_tokenizers: ClassVar[bool] = False

    initial_epochs: int = 0
    epoch: float = 0.0
    step: int = 0

    tuples: tuple[int, int] | None = None
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    class Options(MethodOptions):
        """No options."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        from ..config import check

        self.told: dict[str, Tensor | float] = {}
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

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        """Choose layers and build the helpers that fit them; called once, before training.

        Set ``student_taps`` and ``teacher_taps`` to the names whose features the method wants to see, and
        ``choices`` to what a reader should know of the choice.

        Args:
            student: the student's layers.
            teacher: the teacher's layers, or None.
            setting: what else is known before the run.
        """

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        """Look once more after the student ran: peers, branches, the head on parts of a map.

        Runs under autocast, inside what is wrapped for distribution. Findings go to ``signals.extra``.
        """

    def second(self, student: Ask, teacher: Ask, batch: Batch) -> Batch | None:
        """A second batch that both networks shall see in this step: a strong view, attacked images.

        ``forward`` then finds the answers in ``extra["second"]`` of both networks' signals. A method that
        gives one needs ``exact_views`` of its teacher.

        Args:
            student: inputs to logits of the student as it stands.
            teacher: the same of the teacher.
            batch: the first batch.
        """
        return None

    def initial(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        """Named terms of the initialisation stage, the only ones trained there; arguments as ``forward``.

        The method's weight plays no part in them, as in published two-stage training.
        """
        return {}

    def networks(self) -> dict[str, nn.Module]:
        """Networks beside the student that come out of training too, evaluated and saved at the end."""
        return {}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        """Named terms of one batch.

        Args:
            student: the student's signals, logits ``(N, C)``.
            teacher: the teacher's signals on the same rows; None when ``needs`` is empty.
            batch: the batch, its labels flattened to ``(N,)``.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")


def overrides(method: Method, name: str) -> bool:
    """Whether a method defines one of the optional hooks itself."""
    return getattr(type(method), name) is not getattr(Method, name)
