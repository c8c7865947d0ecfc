"""One run from configuration to results."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..config import RunConfig, dump
from ..data import Data, Loader, Split, Views, load
from ..errors import ConfigError, LimbeckError, RunError
from ..evaluation import classification_arrays, cost
from ..files import write_atomic
from ..methods import resolve
from ..methods.base import Method
from ..procedures import Distillation
from ..runs import Run
from ..seeds import derive
from ..taps import Taps, layout
from ..tasks import Classification
from ..teachers import LiveTeacher, MemoryTeacher, Teacher
from .checkpoint import fill, load_weights, save_weights
from .evaluate import predict
from .gather import rank, world
from .guards import Guard, enforce, inspect
from .learner import Learner
from .networks import feeds, make, teacher_from
from .progress import Progress
from .record import Record, environment, now
from .trainer import RunInterrupted, Trainer, accelerator

GUARDED = 256
"""Held-out samples that the guards look at."""


def execute(
    config: RunConfig,
    *,
    student: nn.Module | None = None,
    teacher: nn.Module | LiveTeacher | None = None,
    methods: Collection[Method] = (),
    data: Data | None = None,
    resume: bool = False,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
    on_guards: Callable[[list[Guard]], None] | None = None,
) -> Run:
    """Train one student and record everything.

    Args:
        config: the run.
        student: network to train instead of building ``config.student``.
        teacher: who teaches instead of ``config.teacher``; a ``LiveTeacher`` shared by several runs is asked
            about each evaluation split only once.
        methods: method objects instead of ``config.methods``.
        data: splits instead of loading ``config.data``.
        resume: go on with the run in ``config.output`` instead of starting one.
        allow_code: names ``module:callable`` that the user agreed to run.
        progress: shared progress.
        on_guards: called with the guards' findings before training.

    Returns:
        The finished run.

    Raises:
        LimbeckError: whatever the user can mend; the record says ``failed`` and keeps its checkpoint.
    """
    record = Record(Path(config.output or f"runs/{config.name or default_name(config)}"))
    return Session(config, record, student, teacher, methods, data, allow_code).run(
        resume, progress, on_guards
    )


def ensure(config: RunConfig, progress: Progress | None = None) -> Run:
    """A finished run of this configuration: as it lies in ``config.output``, resumed, or trained now.

    Raises:
        RunError: the folder holds a run of another configuration.
    """
    folder = Path(config.output or f"runs/{config.name or default_name(config)}")
    if not (folder / "run.json").is_file():
        return execute(config, progress=progress)
    found = Run(folder)
    if found.config != config:
        raise RunError(
            f"{folder} holds a run of another configuration",
            fix="remove the folder, or choose another output",
        )
    if found.status == "finished":
        if progress is not None:
            progress.advance(found.info["steps"])
        return found
    return execute(config, resume=True, progress=progress)


def examine(config: RunConfig, allow_code: Collection[str] = ()) -> list[Guard]:
    """The guards' findings for a configuration, without training and without leaving a record."""
    session = Session(config, Record(Path(config.output or ".")), None, None, (), None, allow_code)
    return session.inspect()


def score(
    run: Run, split: str, checkpoint: Literal["last", "best"] = "last", allow_code: Collection[str] = ()
) -> dict[str, float]:
    """Metrics of a finished run's student on one split, in float32.

    The teacher is asked too where the run had one that can be found again.
    """
    train = run.config.train.model_copy(update={"precision": "fp32"})
    config = run.config.model_copy(update={"train": train})
    student = run.student(checkpoint, allow_code=allow_code)
    session = Session(config, Record(run.path), student, None, (), None, allow_code)
    return session.scores(student.to(session.accelerator.device), split)


def default_name(config: RunConfig) -> str:
    """``data-student-method-seedN``."""
    student = config.student.name.replace(":", "-").replace("/", "-")
    return f"{config.data.name}-{student}-{config.label}-seed{config.seed}"


class Session:
    """Builds the parts of a run, lets the trainer drive, and writes the results."""

    def __init__(
        self,
        config: RunConfig,
        record: Record,
        student: nn.Module | None,
        teacher: nn.Module | LiveTeacher | None,
        methods: Collection[Method],
        data: Data | None,
        allow_code: Collection[str],
    ) -> None:
        self.config, self.record = config, record
        self.data = data if data is not None else load(config.data)
        self.task = Classification(len(self.data.classes))
        self.inputs = feeds(self.data)
        self.accelerator = accelerator(config.train)
        self.memory_format = torch.channels_last if config.train.channels_last else None
        self.learner = self._learner(student, methods, allow_code)
        self.teacher: Teacher | None = self._teacher(teacher, allow_code)
        self.loader = self._loader(self.data.train, train=True)
        self._fit_taps()

    # --------------------------------------------------------------------------------------------- parts

    def _learner(
        self, student: nn.Module | None, methods: Collection[Method], allow_code: Collection[str]
    ) -> Learner:
        config = self.config
        if student is None:
            student = make(
                config.student,
                classes=self.task.classes,
                inputs=self.inputs,
                seed=derive(config.seed, "student"),
                allow_code=allow_code,
            )
        torch.manual_seed(derive(config.seed, "methods"))
        chosen = list(methods) or [resolve(m.name, m.options) for m in config.methods]
        weights = [m.weight for m in config.methods] if config.methods else [None] * len(chosen)
        pairs = [(m, m.weight if w is None else w) for m, w in zip(chosen, weights, strict=True)]
        label_weight = config.label_weight
        if label_weight is None:
            label_weight = chosen[0].label_weight if len(chosen) == 1 else 1.0
        if not label_weight and not any(weight for _, weight in pairs):
            raise ConfigError(
                "nothing to learn from: every weight is 0", fix="set label_weight or a method's weight"
            )
        return Learner(student, self.task, pairs, label_weight)

    def _teacher(self, model: nn.Module | LiveTeacher | None, allow_code: Collection[str]) -> Teacher | None:
        config = self.config
        live: LiveTeacher
        if isinstance(model, LiveTeacher):
            live = model
        elif model is not None:
            live = LiveTeacher(model, self.task, feeds=self.inputs, name=type(model).__name__)
        elif config.teacher is not None:
            live = teacher_from(config.teacher, self.data, self.task, allow_code)
        elif self.learner.needs:
            names = ", ".join(m.name for m in self.learner._methods() if m.needs)
            raise ConfigError(
                f"{names} needs a teacher", fix="set teacher.run to the folder of a trained teacher"
            )
        else:
            return None
        live = live.to(self.accelerator.device, self.memory_format)
        if config.teacher is not None and config.teacher.cache == "memory":
            if config.augment != type(config.augment)():
                raise ConfigError(
                    "teacher.cache=memory remembers one answer per sample, but augmentation changes the sample",
                    fix="set teacher.cache=none, or switch augmentation off",
                )
            return MemoryTeacher(live, len(self.data.train))
        return live

    def _fit_taps(self) -> None:
        """Show the networks' layers to methods that look inside."""
        if "features" not in self.learner.needs:
            return
        example = next(self._loader(self.data.validation, train=False).epoch(0)).inputs[:2]
        live = self.live
        seen = None if live is None else layout(live.model, example.to(self.accelerator.device))
        torch.manual_seed(derive(self.config.seed, "helpers"))
        wanted = self.learner.prepare(layout(self.learner.student, example), seen)
        if live is not None:
            live.taps = Taps(wanted, seen.classifier if seen else None)

    def _loader(self, split: Split, *, train: bool) -> Loader:
        config = self.config
        views = Views(config.augment, split, derive(config.seed, "views"), self.data.mean, self.data.std)
        return Loader(
            views,
            config.train.batch_size if train else max(config.train.batch_size, 256),
            seed=derive(config.seed, "order"),
            shuffle=train,
            train=train,
            rank=rank(),
            world=world(),
            drop_last=train and config.train.drop_last,
            workers=config.train.workers,
        )

    @property
    def live(self) -> LiveTeacher | None:
        """The teacher network itself, behind a memory or not."""
        teacher = self.teacher.teacher if isinstance(self.teacher, MemoryTeacher) else self.teacher
        return teacher if isinstance(teacher, LiveTeacher) else None

    # ----------------------------------------------------------------------------------------------- run

    def run(
        self,
        resume: bool,
        progress: Progress | None,
        on_guards: Callable[[list[Guard]], None] | None,
    ) -> Run:
        """Start or resume, train, evaluate."""
        main = rank() == 0
        if main:
            self._claim(resume)
        try:
            if not resume:
                self._guard(on_guards)
            trainer = Trainer(
                self.config.train,
                Distillation(
                    self.learner, self.teacher if self.learner.needs else None, self.accelerator.autocast
                ),
                self.loader,
                evaluate=self._score_validation,
                metric=self.task.metric,
                record=self.record,
                seed=self.config.seed,
                accelerator=self.accelerator,
                identity=self._identity(),
                progress=progress,
            )
            if resume and self.record.checkpoint.exists():
                trainer.restore()
            if main:
                self._describe("running", trainer)
            trainer.fit()
            self._finish(trainer)
        except RunInterrupted:
            if main:
                self._status("interrupted")
            raise
        except Exception as error:
            if main:
                with suppress(LimbeckError):  # the disk may be full; the first error is the one to tell
                    self._status("failed", reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.record.close()
        return Run(self.record.path)

    def _claim(self, resume: bool) -> None:
        folder = self.record.path
        status = Run(folder).status if (folder / "run.json").is_file() else None
        if status == "finished":
            raise RunError(f"{folder} is already finished", fix="choose another output to run it again")
        if not resume and status is not None and self.record.checkpoint.exists():
            raise RunError(
                f"{folder} holds a run that is {status}",
                fix=f"go on with: limbeck distill --resume {folder}, or choose another output",
            )
        self.record.open()
        if not resume:
            (folder / "metrics.jsonl").unlink(missing_ok=True)
            self.record.text("config.yaml", dump(self.config))
            self.record.json("environment.json", environment())

    def inspect(self) -> list[Guard]:
        """The guards' findings."""
        device = self.accelerator.device
        batch = next(self.loader.epoch(0)).to(device, self.memory_format)
        ids = torch.randperm(len(self.data.validation), generator=torch.Generator().manual_seed(0))[:GUARDED]
        held_out = self._loader(self.data.validation, train=False).views.plain(ids)
        self.learner.to(device)
        held_out = held_out.to(device, self.memory_format)
        with self.accelerator.autocast():
            found = inspect(self.learner, self.live, self.task, batch, held_out, self.inputs)
        chosen = [
            Guard("layers", True, line) for method in self.learner._methods() for line in method.choices
        ]
        return [*chosen, *found]

    def _guard(self, on_guards: Callable[[list[Guard]], None] | None) -> None:
        guards = self.inspect()
        if rank() == 0:
            self.record.json("guards.json", [guard.row() for guard in guards])
            if on_guards is not None:
                on_guards(guards)
        if self.config.train.guards == "error":
            enforce(guards)

    def _identity(self) -> dict[str, str]:
        labels = hashlib.sha256(self.data.train.labels.numpy().tobytes()).hexdigest()
        live = self.live
        return {"teacher": "" if live is None else live.fingerprint(), "training data": labels}

    # ---------------------------------------------------------------------------------- scores and results

    def _predict(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        model.eval()
        with self.accelerator.autocast():
            return predict(
                lambda batch: self.task.signals(self.task.call(model, batch)),
                self._loader(split, train=False),
                self.task,
                self.accelerator.device,
                self.memory_format,
            )

    def _teacher_logits(self, split: Split) -> Tensor | None:
        """The teacher's answers on a split, asked once."""
        live = self.live
        if live is None:
            return None

        def ask() -> Tensor:
            with self.accelerator.autocast():
                loader = self._loader(split, train=False)
                return predict(live.signals, loader, self.task, self.accelerator.device, self.memory_format)[
                    0
                ]

        return live.remember((split, self.accelerator.mixed_precision), ask)

    def scores(self, model: nn.Module, name: str) -> dict[str, float]:
        """Metrics of a network on the split of that name, with the teacher's where there is one."""
        split = getattr(self.data, name)
        logits, labels = self._predict(model, split)
        return self.task.metrics(logits, labels, self._teacher_logits(split))

    def _score_validation(self, model: nn.Module) -> dict[str, float]:
        return self.scores(model, "validation")

    def _finish(self, trainer: Trainer) -> None:
        student = trainer.student
        logits, labels = self._predict(student, self.data.test)
        teacher_logits = self._teacher_logits(self.data.test)
        last = {
            "epoch": trainer.epoch,
            "test": self.task.metrics(logits, labels, teacher_logits),
            "validation": self.scores(student, "validation"),
        }
        if rank() == 0:
            save_weights(self.record.path / "student.safetensors", student.state_dict())
        self.accelerator.wait_for_everyone()
        best = dict(trainer.best)
        last_state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        fill(student, load_weights(self.record.path / "best.safetensors"), "best.safetensors")
        best["test"] = self.scores(student, "test")
        best["selected_on"] = f"validation {self.task.metric}"
        fill(student, last_state, "the last epoch")
        if rank() != 0:
            return
        shape = (self.data.channels, *self.data.size)
        price = cost(student, shape, latency=self.config.latency)
        results: dict[str, Any] = {"last": last, "best": best, "cost": price, "teacher": None}
        if teacher_logits is not None and self.live is not None:
            results["teacher"] = {
                "test": self.task.metrics(teacher_logits, labels),
                "cost": cost(self.live.model, shape, latency=self.config.latency),
            }
        arrays = classification_arrays(logits, labels, teacher_logits)
        self.record.json("model.json", self._card())
        write_atomic(self.record.path / "evaluation.npz", lambda file: file.write(_npz(arrays)))
        self.record.json("results.json", results)
        self._describe("finished", trainer)

    def _card(self) -> dict[str, Any]:
        student = self.config.student
        return {
            "model": {"name": student.name, "options": student.options},
            "classes": list(self.data.classes),
            "channels": self.data.channels,
            "size": list(self.data.size),
            "mean": list(self.data.mean),
            "std": list(self.data.std),
        }

    def _describe(self, status: str, trainer: Trainer) -> None:
        config, live = self.config, self.live
        old = Run(self.record.path).info if (self.record.path / "run.json").is_file() else {}
        methods = self.learner._methods()
        self.record.json(
            "run.json",
            {
                "name": self.record.path.name,
                "label": "+".join(m.name for m in methods) or "scratch",
                "group": config.group,
                "kind": "distill" if self.learner.needs else "train",
                "seed": config.seed,
                "status": status,
                "started": old.get("started", now()),
                "ended": now() if status == "finished" else None,
                "seconds": trainer.seconds,
                "steps": trainer.step,
                "epochs": trainer.epoch,
                "stopped_early": trainer.stopped_early,
                "data": self.data.name,
                "samples": {s: len(getattr(self.data, s)) for s in ("train", "validation", "test")},
                "classes": list(self.data.classes),
                "student": {"name": config.student.name, "parameters": _count(self.learner.student)},
                "teacher": None
                if live is None
                else {
                    "name": live.name,
                    "parameters": live.parameters,
                    "path": None if config.teacher is None else config.teacher.run,
                },
                "precision": self.accelerator.mixed_precision.replace("no", "fp32"),
                "processes": world(),
                "reconstructed": any(m.status == "reconstructed" for m in methods),
            },
        )

    def _status(self, status: str, reason: str | None = None) -> None:
        """Change the status of a record that was described; a run that never got that far has none."""
        if (self.record.path / "run.json").is_file():
            info = Run(self.record.path).info
            if info["status"] != "finished":
                self.record.json("run.json", {**info, "status": status, "ended": now(), "reason": reason})


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
