"""Start-up guards: the field's silent failures, looked for before the first step."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..errors import GuardError
from ..procedures.distillation import Distillation
from ..signals import Batch, Signals
from ..tasks import Classification
from ..teachers import Inputs, LiveTeacher, MemoryTeacher, Teacher
from ..teachers.foreign import ForeignTeacher, read_by_teacher
from .learner import Learner


@dataclass(frozen=True)
class Guard:
    """One finding.

    Attributes:
        name: what was looked at.
        ok: True, False, or None where it could not be looked at (``detail`` says why).
        detail: what was found.
        fix: what to do when it is not ok.
    """

    name: str
    ok: bool | None
    detail: str
    fix: str = ""

    def row(self) -> dict[str, Any]:
        """Plain values for the record."""
        return asdict(self)


def inspect(
    learner: Learner,
    teacher: Teacher | None,
    task: Classification,
    batch: Batch,
    held_out: Batch,
    feeds: Inputs | None = None,
) -> list[Guard]:
    """Look for faults that would spoil a run without a word.

    Works on a copy of the learner and leaves the random state as it was, so a guarded run has the same
    numbers as an unguarded one.

    Args:
        learner: the student with its methods.
        teacher: who teaches, or None.
        task: the task.
        batch: a training batch.
        held_out: samples that nobody trains on here, for the teacher's accuracy.
        feeds: the inputs that the data gives.
    """
    random = torch.get_rng_state()
    trial = copy.deepcopy(learner).train()
    try:
        found = [_train_mode(learner.train())]
        signals = None
        if teacher is not None:
            missing = learner.needs - teacher.capabilities
            if missing:
                gives = ", ".join(sorted(teacher.capabilities))
                needs = f"methods need {', '.join(sorted(missing))}, the teacher gives {gives}"
                return [
                    *found,
                    Guard("teacher gives what methods need", False, needs, "use another method or teacher"),
                ]
            if (inputs := _inputs(teacher, feeds)).ok is False:
                return [*found, inputs]
            found.append(inputs)
            signals = teacher.signals(batch)
            itself = teacher.teacher if isinstance(teacher, MemoryTeacher) else teacher
            found.append(_teacher_loaded(itself, task, held_out))
        elif learner.needs:
            return [
                *found,
                Guard("teacher", False, "a method needs a teacher and there is none", "set teacher.run"),
            ]
        student = trial.look(batch)
        if (classes := _classes(task, student, signals)).ok is False:
            return [*found, classes]
        found.append(classes)
        seconds = Distillation(trial, teacher).seconds(batch)
        looked = {i: (trial.look(other), seen) for i, (other, seen) in seconds.items()}
        terms = trial.terms(student, signals, task.rows(batch), looked)
        values = {name: term.value for name, term in terms.items()}
        if trial.initial_epochs:
            trial.at(-1.0)
            first = trial.terms(student, signals, task.rows(batch))
            values |= {f"first {name}": term.value for name, term in first.items()}
        found.append(_terms_alive(values, trial.may_rest))
        found.append(_gradients(trial, {n: t.value for n, t in terms.items() if t.weight}))
        return found
    finally:
        torch.set_rng_state(random)


def enforce(guards: Sequence[Guard]) -> None:
    """Refuse to start when a guard failed.

    Raises:
        GuardError: names every failed guard, what was found and the fix.
    """
    failed = [guard for guard in guards if guard.ok is False]
    if failed:
        lines = [f"{g.name}: {g.detail}" + (f" (fix: {g.fix})" if g.fix else "") for g in failed]
        raise GuardError(
            "the run was stopped before its first step:\n  " + "\n  ".join(lines),
            fix="mend this, or set train.guards=warn to train all the same",
        )


def _train_mode(learner: Learner) -> Guard:
    still = [name or "the student" for name, module in learner.student.named_modules() if not module.training]
    if still:
        detail = f"stays in evaluation mode: {', '.join(still[:3])}" + (" ..." if len(still) > 3 else "")
        return Guard(
            "student in train mode", False, detail, "do not override train() or freeze layers this way"
        )
    return Guard("student in train mode", True, "all layers")


def _inputs(teacher: Teacher, feeds: Inputs | None) -> Guard:
    name = "teacher and student see the same inputs"
    live = teacher.teacher if isinstance(teacher, MemoryTeacher) else teacher
    if not isinstance(live, LiveTeacher) or live.expects is None or feeds is None:
        return Guard(name, None, "not checked: the teacher's inputs are not recorded")
    want = live.expects
    if want.modalities != feeds.modalities:
        detail = f"the teacher was trained on {_named(want)}, the data gives {_named(feeds)}"
        return Guard(name, False, detail, "use the teacher's data, with data.modalities as in its run")
    if (want.channels, want.size) != (feeds.channels, feeds.size):
        detail = (
            f"the teacher was trained on {want.channels}x{want.size[0]}x{want.size[1]}, "
            f"the data gives {feeds.channels}x{feeds.size[0]}x{feeds.size[1]}"
        )
        return Guard(name, False, detail, "use the teacher's data set or image size")
    same = all(
        math.isclose(a, b, abs_tol=1e-4)
        for a, b in zip(want.mean + want.std, feeds.mean + feeds.std, strict=True)
    )
    if not same and want.modalities is not None:
        fix = "give both runs the same data section, data.split_seed included"
        return Guard(name, False, "the teacher's modalities were normalised by other numbers", fix)
    if not same and not live.renormalise:
        detail = (
            f"the teacher was trained with mean {_short(want.mean)} std {_short(want.std)}, "
            f"the data is normalised with mean {_short(feeds.mean)} std {_short(feeds.std)}"
        )
        return Guard(name, False, detail, "set teacher.renormalise=true")
    return Guard(
        name, True, "same size and normalisation" if same else "same size, re-normalised for the teacher"
    )


def _named(inputs: Inputs) -> str:
    if inputs.modalities is None:
        return "images"
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in inputs.modalities.shapes)


def _short(values: Sequence[float]) -> str:
    return "/".join(f"{value:.3f}" for value in values)


def _teacher_loaded(teacher: Teacher, task: Classification, batch: Batch) -> Guard:
    logits = teacher.signals(batch).logits
    if isinstance(teacher, ForeignTeacher):
        task, batch = teacher.task, read_by_teacher(batch)
    rows = task.rows(batch)
    name = "teacher is better than chance"
    if logits.shape[1] != task.classes:
        return Guard(name, None, "not checked: the classes differ")
    if not len(rows.labels):
        return Guard(name, None, "not checked: no held-out sample")
    ok, detail = task.above_chance(logits, rows.labels)
    return Guard(name, ok, detail, "load the trained weights; check classes and normalisation")


def _classes(task: Classification, student: Signals, teacher: Signals | None) -> Guard:
    counts = {"data": task.classes, "student": student.logits.shape[1]}
    if teacher is not None and "embedded" not in teacher.extra:  # a vocabulary of its own
        counts["teacher"] = teacher.logits.shape[1]
    detail = ", ".join(f"{who} {count}" for who, count in counts.items())
    return Guard(
        "classes agree",
        len(set(counts.values())) == 1,
        detail,
        "give student and teacher the data's number of classes, in the same order",
    )


def _terms_alive(values: dict[str, torch.Tensor], may_rest: frozenset[str] = frozenset()) -> Guard:
    shown = {name: float(value.detach()) for name, value in values.items()}
    dead = [name for name, value in shown.items() if value == 0 and name not in may_rest]
    wild = [name for name, value in shown.items() if not math.isfinite(value)]
    detail = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    fix = ""
    if dead:
        fix = f"{', '.join(dead)} is exactly 0: is the teacher the student itself, or every row unlabelled?"
    if wild:
        fix = f"{', '.join(wild)} is not finite: look for NaN in the data or the weights"
    return Guard("terms are finite and not zero", not dead and not wild, detail, fix)


def _gradients(trial: Learner, terms: dict[str, torch.Tensor]) -> Guard:
    """Every term must move something that is trained, and every method must move the student."""
    name = "gradient reaches the student"
    own = [p for p in trial.student.parameters() if p.requires_grad]
    helpers = [p for p in trial.methods.parameters() if p.requires_grad]
    if not own:
        return Guard(name, False, "no parameter of the student requires a gradient", "unfreeze the student")
    idle, reached = [], dict.fromkeys((term.split(".")[0] for term in terms), False)
    for term, value in terms.items():
        gradients: Sequence[torch.Tensor | None] = [None]
        if value.requires_grad:
            gradients = torch.autograd.grad(value, [*own, *helpers], retain_graph=True, allow_unused=True)
        moved = [g is not None and bool(g.any()) for g in gradients]
        if not any(moved) and term not in trial.may_rest:
            idle.append(term)
        reached[term.split(".")[0]] |= any(moved[: len(own)])
    if unreached := idle or [method for method, yes in reached.items() if not yes]:
        return Guard(name, False, f"none from {', '.join(unreached)}", "do not detach the student's output")
    return Guard(name, True, f"from {', '.join(terms) or 'labels'}")
