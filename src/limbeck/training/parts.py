"""The parts of a run, built from its configuration."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import OBJECT, MethodConfig, ModelConfig, RunConfig
from ..data import Data, Loader, Split, Views, load
from ..data.tuples import Tuples
from ..errors import ConfigError, DataError
from ..evaluation import classification_arrays, cost
from ..methods import resolve
from ..methods.base import Method, Setting
from ..procedures import Distillation, Procedure
from ..seeds import derive
from ..taps import Taps, layout
from ..tasks import Classification
from ..teachers import Calls, LiveTeacher, MemoryTeacher, Teacher
from .evaluate import predict
from .gather import rank, world
from .guards import Guard, inspect
from .learner import Learner, Use
from .networks import feeds, make
from .posteriors import prepare
from .remembering import affordable, remember
from .teaching import teacher_from
from .trainer import accelerator

_FREE: Any = {
    **dict.fromkeys(("name", "group", "output", "latency", "teacher"), True),
    "data": {"path", "download"},
    "train": {"checkpoint_every", "log_every", "guards", "threads", "workers", "tensorboard"},
}
"""What may differ when a run is resumed; teacher, data and methods are compared by what they are."""

GUARDED = 256
"""Held-out samples that the guards look at."""


class Findings(NamedTuple):
    """What a finished run says on its test split.

    Attributes:
        student, teacher: metrics; the teacher's are None without one.
        arrays: what reports draw from, by name.
        responses: prompts, references and what was written, side by side.
    """

    student: dict[str, float]
    teacher: dict[str, float] | None
    arrays: dict[str, Any]
    responses: tuple[dict[str, str], ...] = ()


class Parts:
    """Data, task, networks, methods and loaders of one run; asks networks about whole splits.

    Arguments as ``limbeck.training.session.execute``.

    Attributes:
        looked_at: held-out samples that the guards look at.
        folder: the run's record, once there is one.
    """

    looked_at = GUARDED
    textual = False

    def __init__(
        self,
        config: RunConfig,
        *,
        student: nn.Module | None = None,
        teacher: nn.Module | LiveTeacher | None = None,
        methods: Collection[Method] = (),
        data: Data | None = None,
        allow_code: Collection[str] = (),
    ) -> None:
        self.config = config
        self.folder: Path | None = None
        self._of_text()
        self._possible()
        self.data = data if data is not None else _load(config)
        self.calls = Calls(None if config.teacher is None else config.teacher.budget)
        self.data, self.bought = affordable(config, self.data)
        self.task = self._task()
        self.inputs = feeds(self.data)
        self.accelerator = accelerator(config.train)
        self.memory_format = torch.channels_last if config.train.channels_last else None
        self.learner = self._learner(student, methods, allow_code)
        self.teacher: Teacher | None = None
        self.teacher = self._teacher(teacher, allow_code)
        self.loader = self._loader(self.data.train, train=True)
        self._fit_taps(allow_code)

    def _of_text(self) -> None:
        """Refuse settings that only runs on text have."""
        config = self.config
        for wrong, what in (
            (config.student.lora is not None, "student.lora"),
            (config.train.gradient_checkpointing, "train.gradient_checkpointing"),
            (config.train.shard is not None, "train.shard"),
            (config.data.packing, "data.packing"),
        ):
            if wrong and not self.textual:
                raise ConfigError(f"{what} is for runs on text", fix=f"leave {what} out")

    def _possible(self) -> None:
        """Refuse settings that this kind of data does not have."""
        if self.config.sampling is not None:
            raise ConfigError("images are not sampled", fix="leave sampling out, or set data.name=text")

    def _task(self) -> Classification:
        return Classification(len(self.data.classes))

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
        chosen = list(methods) or _resolved(config)
        entries = config.methods or tuple(MethodConfig(name=OBJECT + m.name) for m in chosen)
        if len(entries) != len(chosen):
            raise ConfigError(
                "other methods than the run was configured with",
                got=", ".join(m.name for m in chosen),
                expected=config.label,
            )
        uses = [
            Use(
                method,
                _weight(method, entry),
                entry.schedule,
                entry.standardise,
                None if entry.tempered is None else (entry.tempered.teacher, entry.tempered.student),
            )
            for method, entry in zip(chosen, entries, strict=True)
        ]
        label_weight = config.label_weight
        mixing = entries[0].mixing if entries else None
        if mixing is not None:
            label_weight = 1 - mixing
        if label_weight is None:
            label_weight = chosen[0].label_weight if len(chosen) == 1 else 1.0
        if not label_weight and not any(
            (use.weight or "weight" in use.schedule) and use.method.term_weights() for use in uses
        ):
            raise ConfigError(
                "nothing to learn from: every weight is 0", fix="set label_weight or a method's weight"
            )
        return Learner(student, self.task, uses, label_weight, config.train.epochs)

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
        if config.teacher is None:
            return live
        self.teacher = live
        prepare(self, live, config.teacher)
        if config.teacher.cache == "none":
            return live
        return remember(self, live, config.teacher)

    @property
    def augmented(self) -> bool:
        """Whether a training sample looks another way in every epoch."""
        return self.config.augment != type(self.config.augment)()

    @property
    def exact_views(self) -> bool:
        """Whether the teacher's answers are about the very views that the student sees."""
        return not (self.augmented and isinstance(self.teacher, MemoryTeacher))

    def _fit_taps(self, allow_code: Collection[str]) -> None:
        """Show the networks' layers to methods that look inside."""
        if not self.learner.looks_inside:
            return
        example = self._example()
        live = self.live
        seen = None if live is None else layout(live.model, example.to(self.accelerator.device))
        torch.manual_seed(derive(self.config.seed, "helpers"))
        own = layout(self.learner.student, example)
        wanted = self.learner.prepare(own, seen, self._setting(allow_code))
        if live is not None:
            live.taps = Taps(wanted, seen.classifier if seen else None, head=self.learner.head)

    def _example(self) -> Tensor:
        """Two inputs, to look at the networks' layers with."""
        return next(self._loader(self.data.validation, train=False).epoch(0)).inputs[:2]

    def _setting(self, allow_code: Collection[str]) -> Setting:
        """What methods may know before the run."""
        live = self.live
        return Setting(
            classes=self.task.classes,
            labels=self.data.train.labels,
            epochs=self.config.train.epochs,
            inputs=self.inputs,
            student=self.learner.student,
            teacher=None if live is None else live.model,
            build=partial(self._another, allow_code),
            batch_size=self.config.train.batch_size,
        )

    def _another(
        self,
        allow_code: Collection[str],
        name: str | None = None,
        options: dict[str, Any] | None = None,
        number: int = 0,
    ) -> nn.Module:
        """A further network for the same data, without touching the random state."""
        config = self.config.student if name is None else ModelConfig(name=name, options=options or {})
        seed = derive(self.config.seed, "another network", number)
        with torch.random.fork_rng():
            if config.name.startswith(OBJECT):
                return _reset(copy.deepcopy(self.learner.student), seed)
            return make(
                config.model_copy(update={"weights": None}),
                classes=self.task.classes,
                inputs=self.inputs,
                seed=seed,
                allow_code=allow_code,
            )

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
            tuples=self._tuples(len(split)) if train else None,
        )

    def _tuples(self, samples: int) -> Tuples | None:
        """The tuples that a method wants its batches to be made of."""
        wanted = {method.tuples for method in self.learner._methods() if method.tuples is not None}
        if not wanted:
            return None
        if len(wanted) > 1:
            raise ConfigError("two methods want batches of different tuples", got=str(sorted(wanted)))
        ((size, count),) = wanted
        train = self.config.train
        if train.batch_size % (size * train.accumulate):
            raise ConfigError(
                f"batches of tuples of {size} samples cannot be cut into {train.accumulate} pieces",
                got=f"train.batch_size {train.batch_size}",
                fix=f"give a multiple of {size * train.accumulate}",
            )
        return Tuples(samples, size, count, seed=derive(self.config.seed, "tuples"))

    @property
    def live(self) -> LiveTeacher | None:
        """The teacher network itself, behind a memory or not."""
        teacher = self.teacher.teacher if isinstance(self.teacher, MemoryTeacher) else self.teacher
        return teacher if isinstance(teacher, LiveTeacher) else None

    def inspect(self) -> list[Guard]:
        """The guards' findings."""
        device = self.accelerator.device
        batch = next(self.loader.epoch(0))
        if self.bought is not None:
            batch = self.loader.views.batch(self.bought[: len(batch)], 0)
        batch = batch.to(device, self.memory_format)
        ids = torch.randperm(len(self.data.validation), generator=torch.Generator().manual_seed(0))
        ids = ids[: self.looked_at]
        held_out = self._loader(self.data.validation, train=False).views.plain(ids)
        self.learner.to(device)
        held_out = held_out.to(device, self.memory_format)
        with self.accelerator.autocast():
            asked = self.live if self.bought is None else self.teacher
            found = inspect(self.learner, asked, self.task, batch, held_out, self.inputs)
        if asked is not None:
            self.calls.guards = len(held_out) + (batch.samples * world() if asked is self.live else 0)
        chosen = [
            Guard("layers", True, line) for method in self.learner._methods() for line in method.choices
        ]
        return [*chosen, *found]

    def identity(self) -> dict[str, str]:
        """What must be equal when the run is resumed."""
        labels = hashlib.sha256(self.data.train.labels.numpy().tobytes())
        if self.data.changes:
            labels.update(repr(self.data.changes).encode())
        live = self.live
        return {
            "teacher": "" if live is None else live.fingerprint(),
            "training data": labels.hexdigest(),
            "method": " + ".join(_described(m) for m in self.learner._methods()) or "scratch",
            "configuration": hashlib.sha256(
                json.dumps(self.config.model_dump(mode="json", exclude=_FREE), sort_keys=True).encode()
            ).hexdigest(),
        }

    def predict(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        model.eval()
        with self.accelerator.autocast():
            return predict(
                lambda batch: self.task.signals(self.task.call(model, batch)),
                self._loader(split, train=False).epoch(0),
                self.task,
                self.accelerator.device,
                self.memory_format,
            )

    def teacher_logits(self, split: Split) -> Tensor | None:
        """The teacher's answers on a split, asked once."""
        live = self.live
        if live is None:
            return None
        self.calls.saw(split.name, len(split))

        def ask() -> Tensor:
            with self.accelerator.autocast():
                batches = self._loader(split, train=False).epoch(0)
                device = self.accelerator.device
                return predict(live.signals, batches, self.task, device, self.memory_format)[0]

        return live.remember((split, self.accelerator.mixed_precision), ask)

    def scores(self, model: nn.Module, name: str) -> dict[str, float]:
        """Metrics of a network on the split of that name, with the teacher's where there is one."""
        split = getattr(self.data, name)
        logits, labels = self.predict(model, split)
        return self.task.metrics(logits, labels, self.teacher_logits(split))

    def final(self, model: nn.Module, name: str) -> dict[str, float]:
        """What is measured on a split at the end of a run."""
        return self.scores(model, name)

    @property
    def label(self) -> str:
        """What reports call the run where its configuration gives no title."""
        return "+".join(m.name for m in self.learner._methods()) or "scratch"

    @property
    def metric(self) -> str | None:
        """What the best epoch is selected by; None where nothing may be selected."""
        return self.task.metric

    def watch(self, model: nn.Module) -> dict[str, float]:
        """What is measured during training."""
        return self.scores(model, "validation")

    def procedure(self) -> Procedure:
        """How a step runs."""
        return Distillation(*self._step())

    def _step(self) -> tuple[Any, ...]:
        teacher = self.teacher if self.learner.needs else None
        return self.learner, teacher, self.accelerator.autocast, self.calls

    def examine(self, student: nn.Module) -> Findings:
        """The student, and the teacher where there is one, on the test split."""
        logits, labels = self.predict(student, self.data.test)
        teacher = self.teacher_logits(self.data.test)
        return Findings(
            self.task.metrics(logits, labels, teacher),
            None if teacher is None else self.task.metrics(teacher, labels),
            classification_arrays(logits, labels, teacher),
        )

    def begin(self, folder: Path) -> None:
        """Write what can only be known before the student learns; one process asks, and only at a new run's start."""

    def accompany(self, folder: Path) -> None:
        """Write what the student cannot be used without, beside its weights."""

    def card(self) -> dict[str, Any]:
        """What else rebuilds the student beside ``model.json``'s own keys."""
        return {}

    def cost(self, model: nn.Module) -> dict[str, Any]:
        """What a network costs to keep and to run on this data."""
        return cost(model, (self.data.channels, *self.data.size), latency=self.config.latency)


def _load(config: RunConfig) -> Data:
    if config.data.name.startswith(OBJECT):
        raise DataError(
            f"the data {config.data.name.removeprefix(OBJECT)} was handed over in Python",
            fix="hand it over again: limbeck.resume(path, data=...); the network is limbeck.Run(path).student()",
        )
    return load(config.data)


def _weight(method: Method, entry: MethodConfig) -> float:
    if entry.mixing is not None:
        return entry.mixing
    return method.weight if entry.weight is None else entry.weight


def _resolved(config: RunConfig) -> list[Method]:
    for method in config.methods:
        if method.name.startswith(OBJECT):
            raise ConfigError(
                f"the method {method.name.removeprefix(OBJECT)} was handed over in Python",
                fix="hand it over again: limbeck.resume(path, methods=[...])",
            )
    return [resolve(method.name, method.options) for method in config.methods]


def _reset(model: nn.Module, seed: int) -> nn.Module:
    """The network with fresh weights, as far as its layers know how to make them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return model


def _described(method: Method) -> str:
    options = ", ".join(f"{name}={value}" for name, value in method.options.model_dump().items())
    return f"{method.name}({options})"
