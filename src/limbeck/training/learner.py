"""The one module that is wrapped for distribution: a student with its methods' helpers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..methods.base import Method, Term, Terms
from ..signals import Batch, Signals
from ..taps import Layout, Taps
from ..tasks import Classification
from .gather import gather, world

LABELS = "cross_entropy"


class Learner(nn.Module):
    """Student, task loss and methods behind one ``forward(batch, teacher signals) -> terms``.

    ``loss = label_weight * task loss + sum over methods of weight * sum of their weighted terms``. The
    student runs under the caller's autocast; losses run outside it, in float32 at least. A method that
    compares samples sees the rows of all processes.

    Args:
        student: the network to train.
        task: how its output becomes rows.
        methods: the methods with the weight of each.
        label_weight: weight of the task's own loss; 0 leaves it out.

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
        methods: Sequence[tuple[Method, float]],
        label_weight: float,
    ) -> None:
        super().__init__()
        self.student = student
        self.task = task
        self.methods = nn.ModuleList(method for method, _ in methods)
        self.weights = [weight for _, weight in methods]
        self.taps = Taps()
        self.label_weight = label_weight

    @property
    def needs(self) -> frozenset[str]:
        """What the teacher must be able to give."""
        return frozenset().union(*(method.needs for method in self._methods()))

    def prepare(self, student: Layout, teacher: Layout | None) -> tuple[str, ...]:
        """Let the methods choose layers and build their helpers; call once, before training.

        Returns:
            the names of the teacher's layers that the methods want to see.
        """
        for method in self._methods():
            method.prepare(student, teacher)
        self.taps = Taps([n for m in self._methods() for n in m.student_taps], student.classifier)
        return tuple(name for method in self._methods() for name in method.teacher_taps)

    def _methods(self) -> list[Method]:
        return [method for method in self.methods if isinstance(method, Method)]

    def forward(self, batch: Batch, teacher: Signals | None) -> Terms:
        signals = self.look(batch)
        with torch.autocast(signals.logits.device.type, enabled=False):
            return self.terms(signals, teacher, self.task.rows(batch))

    def look(self, batch: Batch) -> Signals:
        """The student's signals, with the features that methods tapped."""
        with self.taps.record(self.student) as features:
            signals = self.task.signals(self.task.call(self.student, batch))
        signals.features = features
        return signals

    def terms(self, signals: Signals, teacher: Signals | None, rows: Batch) -> Terms:
        """Named weighted terms from signals; no network is called here."""
        terms: Terms = {}
        if self.label_weight:
            terms[LABELS] = Term(self.task.loss(signals, rows), self.label_weight)
        everywhere: tuple[Signals, Signals | None, Batch] | None = None
        for method, weight in zip(self._methods(), self.weights, strict=True):
            if method.across_batch and world() > 1:
                everywhere = everywhere or _gathered(signals, teacher, rows)
                found = method(*everywhere)
            else:
                found = method(signals, teacher, rows)
            for name, term in found.items():
                key = name if name == method.name else f"{method.name}.{name}"
                terms[key] = Term(term.value, weight * term.weight)
        return terms


def _gathered(
    signals: Signals, teacher: Signals | None, rows: Batch
) -> tuple[Signals, Signals | None, Batch]:
    def everywhere(x: Signals) -> Signals:
        return Signals(gather(x.logits), {name: gather(f) for name, f in x.features.items()})

    mixed = None if rows.mixed_labels is None else gather(rows.mixed_labels)
    mixing = None if rows.mixing is None else gather(rows.mixing)
    batch = Batch(rows.inputs, gather(rows.labels), gather(rows.ids), rows.epoch, mixed, mixing)
    return everywhere(signals), None if teacher is None else everywhere(teacher), batch
