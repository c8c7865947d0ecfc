"""The one module that is wrapped for distribution: a student with its methods' helpers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..bayes.base import mixture
from ..errors import ConfigError, ModelError, suggest
from ..losses import standardise
from ..methods.base import Ask, Method, Setting, Term, Terms, overrides
from ..ramps import Ramp
from ..signals import Batch, Signals
from ..taps import Layout, Taps
from ..tasks import Classification
from .gather import gather, world


class Use(NamedTuple):
    """How a run uses a method.

    Attributes:
        method: the method.
        weight: factor on its terms.
        schedule: ramps for ``weight`` and for numeric options, by name.
        standardise: whether the method sees standardised logits of both networks; the raw ones are then in
            ``extra["raw"]``.
        tempered: temperatures of teacher and student, by which logits are divided before the method sees them; its
            terms count with their product.
    """

    method: Method
    weight: float
    schedule: Mapping[str, Ramp] = {}
    standardise: bool = False
    tempered: tuple[float, float] | None = None


class Learner(nn.Module):
    """Student, task loss and methods behind one ``forward(batch, teacher signals) -> terms``.

    ``loss = label_weight * task loss + sum over methods of weight * sum of their weighted terms``. The
    student runs under the caller's autocast; losses run outside it, in float32 at least. A method that
    compares samples sees the rows of all processes.

    Args:
        student: the network to train.
        task: how its output becomes rows.
        methods: the methods, each with its weight and, if it has one, its schedule.
        label_weight: weight of the task's own loss; 0 leaves it out.
        epochs: of the main stage, for schedules.

    Example:
        >>> learner = Learner(nn.Linear(4, 3), Classification(classes=3), [], label_weight=1.0)
        >>> terms = learner(Batch(torch.zeros(2, 4), torch.tensor([0, 1]), torch.arange(2)), None)
        >>> list(terms)
        ['cross_entropy']
    """

    def __init__(
        self,
        student: nn.Module,
        task: Classification,
        methods: Sequence[Use | tuple[Method, float]],
        label_weight: float,
        epochs: int = 1,
    ) -> None:
        super().__init__()
        uses = [Use(*use) for use in methods]
        self.student = student
        self.task = task
        self.methods = nn.ModuleList(use.method for use in uses)
        self.labels = _labels([use.method.name for use in uses])
        self.weights = [use.weight for use in uses]
        self.schedules = [dict(use.schedule) for use in uses]
        self.standardised = [use.standardise for use in uses]
        self.tempered = [use.tempered for use in uses]
        self.label_weight, self.epochs, self.epoch, self.step = label_weight, epochs, 0.0, 0
        self.taps = Taps()
        self._compiled: Callable[[Tensor], Any] | None = None
        for method, schedule, standard, tempered in zip(
            self._methods(), self.schedules, self.standardised, self.tempered, strict=True
        ):
            _check(method, schedule)
            if tempered is not None and "logits" not in method.needs:
                raise ConfigError(
                    f"{method.name} compares no logits that could be tempered",
                    fix="leave tempered out of its entry",
                )
            if standard and "logits" not in method.needs:
                raise ConfigError(
                    f"{method.name} compares no logits that could be standardised",
                    fix="leave standardise out of its entry",
                )
        self.at(0.0)

    @property
    def needs(self) -> frozenset[str]:
        """What the teacher must be able to give."""
        return frozenset().union(*(method.needs for method in self._methods()))

    @property
    def may_rest(self) -> frozenset[str]:
        """Names of the terms that may be 0 at the start."""
        pairs = zip(self.labels, self._methods(), strict=True)
        return frozenset(f"{label}.{term}" for label, method in pairs for term in method.may_rest)

    @property
    def looks_inside(self) -> bool:
        """Whether a method wants to know the networks' layers."""
        return any(overrides(m, "prepare") or m.head for m in self._methods())

    @property
    def wants_second(self) -> bool:
        """Whether a method asks for a second batch."""
        return any(overrides(method, "second") for method in self._methods())

    @property
    def initial_epochs(self) -> int:
        """Length of the initialisation stage."""
        return max((method.initial_epochs for method in self._methods()), default=0)

    @property
    def uneven(self) -> bool:
        """Whether a step may leave parameters out."""
        return any(method.uneven for method in self._methods())

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> tuple[str, ...]:
        """Let the methods choose layers and build their helpers; call once, before training.

        Returns:
            the names of the teacher's layers that the methods want to see.
        """
        for method in self._methods():
            method.prepare(student, teacher, setting)
        names = [name for method in self._methods() for name in method.student_taps]
        self.taps = Taps(names, student.classifier, head=self.head)
        return tuple(name for method in self._methods() for name in method.teacher_taps)

    @property
    def head(self) -> bool:
        """Whether a method reads the last linear layer."""
        return any(method.head for method in self._methods())

    def at(self, epoch: float, step: int = 0) -> None:
        """Set where the run stands, in epochs and steps of the main stage; below 0 is the initialisation stage."""
        self.epoch, self.step = epoch, step
        for i, (method, schedule) in enumerate(zip(self._methods(), self.schedules, strict=True)):
            method.epoch, method.step = epoch, step
            now = {name: ramp.at(epoch, self.epochs) for name, ramp in schedule.items()}
            self.weights[i] = now.pop("weight", self.weights[i])
            if now:
                method.options = method.options.model_copy(update=now)

    def _methods(self) -> list[Method]:
        return [method for method in self.methods if isinstance(method, Method)]

    def second(self, student: Ask, teacher: Ask, batch: Batch) -> dict[int, Batch]:
        """The second batches that methods ask for, by the method's position."""
        if self.epoch < 0:
            return {}
        asked = {i: method.second(student, teacher, batch) for i, method in enumerate(self._methods())}
        return {i: other for i, other in asked.items() if other is not None}

    def forward(
        self, batch: Batch, teacher: Signals | None, others: Mapping[int, tuple[Batch, Signals]] | None = None
    ) -> Terms:
        signals = self.look(batch)
        seconds = {i: (self.look(other), seen) for i, (other, seen) in (others or {}).items()}
        with torch.autocast(batch.inputs.device.type, enabled=False):
            return self.terms(signals, teacher, self.task.rows(batch), seconds)

    def compile_student(self) -> None:
        """Let ``torch.compile`` run the student where its signals are asked for, and nowhere else.

        The compiled graph holds the taps of its first call and does not notice others, so a run that is not
        ``look`` must not use it. A copy of the learner would still run the original: copy it before.
        """
        student = self.student

        def run(inputs: Tensor) -> Any:
            return student(inputs)

        self._compiled = torch.compile(run)

    def look(self, batch: Batch) -> Signals:
        """The student's signals, with what methods tapped and observed.

        Raises:
            ModelError: the student fails on the batch, or cannot be compiled.
        """
        with self.taps.record(self.student) as features:
            signals = self.task.signals(self._call(batch))
        signals.features = features
        if (head := self.taps.last_layer(self.student)) is not None:
            signals.extra["head"] = head
        for method in self._methods():
            method.observe(self.student, signals, batch)
        return signals

    def _call(self, batch: Batch) -> Any:
        if self._compiled is None:
            return self.task.call(self.student, batch)
        try:
            return self._compiled(batch.inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ModelError(
                f"torch.compile cannot run the network {type(self.student).__name__}",
                got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
                fix="set train.compile=false; on a CPU it needs a C++ compiler",
            ) from error

    def terms(
        self,
        signals: Signals,
        teacher: Signals | None,
        rows: Batch,
        seconds: Mapping[int, tuple[Signals, Signals]] | None = None,
    ) -> Terms:
        """Named weighted terms from signals; no network is called here.

        Args:
            signals: of the student.
            teacher: of the teacher, or None.
            rows: the batch as rows.
            seconds: signals of both networks on the second batches, by the method's position.
        """
        terms: Terms = {}
        starting = self.epoch < 0
        if self.label_weight and not starting and not rows.sampled:
            terms[self.task.loss_name] = Term(self.task.loss(signals, rows), self.label_weight)
        for i, (method, weight) in enumerate(zip(self._methods(), self.weights, strict=True)):
            if starting and -self.epoch > method.initial_epochs:
                continue
            s, t, b = signals, teacher, rows
            known = None if t is None or not method.needs else t.extra.get("known")
            if seconds and i in seconds and t is not None:
                s, t = (
                    replace(x, extra={**x.extra, "second": other})
                    for x, other in zip((s, t), seconds[i], strict=True)
                )
            factor = 1.0
            if (both := self.tempered[i]) is not None:
                s, t, factor = (
                    _tempered(s, both[1]),
                    None if t is None else _tempered(t, both[0]),
                    both[0] * both[1],
                )
            if (method.across_batch or known is not None) and world() > 1:
                s, t, b = _gathered(method, s, t, b)
                known = None if known is None else gather(known.to(torch.uint8)).bool()
            if known is not None and t is not None:
                s, t, b = _answered(s, t, b, known)
            if self.standardised[i]:
                s, t = _standardised(s), None if t is None else _standardised(t)
            for name, term in (method.initial if starting else method)(s, t, b).items():
                label = self.labels[i]
                key = label if name == method.name else f"{label}.{name}"
                terms[key] = term if starting else Term(term.value, factor * weight * term.weight)
        return terms


def _labels(names: Sequence[str]) -> list[str]:
    """The names, numbered from the second of the same name on: each keeps terms of its own."""
    before = (names[:i].count(name) for i, name in enumerate(names))
    return [f"{name}_{n + 1}" if n else name for n, name in zip(before, names, strict=True)]


def _check(method: Method, schedule: Mapping[str, Ramp]) -> None:
    """Refuse ramps for what is no number of the method, or that lead where the option may not be."""
    numbers = ["weight", *(n for n, v in method.options if isinstance(v, float))]
    for name, ramp in schedule.items():
        if name not in numbers:
            raise ConfigError(
                f"{method.name} has no number {name!r} to move", expected=suggest(name, numbers)
            )
        for value in (ramp.start, ramp.end):
            if name != "weight":
                type(method)(**{**method.options.model_dump(), name: value})
            elif value < 0:
                raise ConfigError(f"the weight of {method.name} leads below 0", got=value)


def _answered(
    student: Signals, teacher: Signals, rows: Batch, known: Tensor
) -> tuple[Signals, Signals, Batch]:
    """The rows that the teacher was asked about."""

    def of(x: Signals) -> Signals:
        return Signals(x.logits[known], {name: f[known] for name, f in x.features.items()}, x.extra)

    mixed = None if rows.mixed_labels is None else rows.mixed_labels[known]
    mixing = None if rows.mixing is None else rows.mixing[known]
    batch = Batch(rows.inputs, rows.labels[known], rows.ids[known], rows.epoch, mixed, mixing)
    return of(student), of(teacher), batch


def _tempered(signals: Signals, temperature: float) -> Signals:
    """The same with logits divided by a temperature, those of a second batch too.

    Of a Bayesian teacher each network's logits are, before their probabilities are averaged.
    """
    if temperature == 1:
        return signals
    extra: dict[str, Any] = {
        n: _tempered(x, temperature) if isinstance(x, Signals) else x for n, x in signals.extra.items()
    }
    samples: Any = extra.pop("samples", None)
    if samples is None:
        return replace(signals, logits=signals.logits / temperature, extra=extra)
    return replace(signals, logits=mixture((samples / temperature).log_softmax(2)), extra=extra)


def _standardised(signals: Signals) -> Signals:
    """The same with standardised logits, those of a second batch too."""
    extra = {n: _standardised(x) if isinstance(x, Signals) else x for n, x in signals.extra.items()}
    logits = standardise(signals.logits)
    return replace(signals, logits=logits, extra={**extra, "raw": signals.logits})


def _gathered(
    method: Method, signals: Signals, teacher: Signals | None, rows: Batch
) -> tuple[Signals, Signals | None, Batch]:
    """The rows of all processes, with the features that this method tapped; exchanged anew for each method."""

    def everywhere(x: Signals, taps: Collection[str]) -> Signals:
        extra: dict[str, Any] = {
            n: everywhere(v, taps) if isinstance(v, Signals) else v for n, v in x.extra.items()
        }
        return Signals(gather(x.logits), {n: gather(f) for n, f in x.features.items() if n in taps}, extra)

    mixed = None if rows.mixed_labels is None else gather(rows.mixed_labels)
    mixing = None if rows.mixing is None else gather(rows.mixing)
    batch = Batch(rows.inputs, gather(rows.labels), gather(rows.ids), rows.epoch, mixed, mixing)
    theirs = None if teacher is None else everywhere(teacher, method.teacher_taps)
    return everywhere(signals, method.student_taps), theirs, batch
