"""Teachers that are asked once and remembered, about as many samples as a budget allows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import RunConfig, TeacherConfig
from ..data import Data
from ..data.assembly import stratified
from ..data.streams import generator
from ..errors import BudgetError, CheckpointError, ConfigError
from ..teachers import LiveTeacher, MemoryTeacher
from ..teachers.posterior import PosteriorTeacher
from .checkpoint import load_weights, save_weights
from .evaluate import predict
from .gather import rank, world

if TYPE_CHECKING:
    from .parts import Parts

TOGETHER = 256
"""Samples that a teacher is asked about at once."""


def affordable(config: RunConfig, data: Data) -> tuple[Data, Tensor | None]:
    """The data that the run trains on, and the training samples that its teacher may be asked about.

    The draw keeps the class shares and is seeded with ``data.split_seed``.

    Returns:
        the data, without the rest of the training split where it is left out; ids in rising order, None
        without a budget.

    Raises:
        BudgetError: the training split holds more samples, and nothing is said of the rest.
    """
    teacher, train = config.teacher, data.train
    if teacher is None or teacher.budget is None:
        return data, None
    if teacher.budget >= len(train):
        return data, torch.arange(len(train))
    if teacher.rest == "refuse":
        raise BudgetError(
            f"the teacher may be asked about {teacher.budget} training samples (teacher.budget)",
            got=f"a training split of {len(train)}",
            fix=f"set data.train_size={teacher.budget}, or say what becomes of the rest: teacher.rest",
        )
    ids = stratified(train.labels, teacher.budget, generator("budget", config.data.split_seed))
    if teacher.rest == "labels":
        return data, ids
    return replace(data, train=train.subset(ids)), torch.arange(len(ids))


def remember(parts: Parts, live: LiveTeacher, config: TeacherConfig) -> MemoryTeacher:
    """A memory of a teacher's answers.

    Raises:
        ConfigError: augmentation or methods do not go with it.
    """
    cache, augment, train = f"teacher.cache={config.cache}", parts.config.augment, parts.data.train
    if config.cache == "memory" and parts.augmented:
        raise ConfigError(
            f"{cache} remembers one answer per sample, but augmentation changes the sample",
            fix="switch augmentation off, set teacher.cache=none, or take the answer about another view: "
            "plain_view or first_view",
        )
    if augment.mixup or augment.cutmix:
        raise ConfigError(f"{cache} cannot follow mixup or cutmix", fix="set teacher.cache=none")
    methods = parts.learner._methods()
    if missing := parts.learner.needs - MemoryTeacher.capabilities:
        names = ", ".join(method.name for method in methods if method.needs & missing)
        raise ConfigError(
            f"{cache} keeps logits only, but {names} needs {', '.join(sorted(missing))}",
            fix="set teacher.cache=none" + (" and no teacher.budget" if config.budget else ""),
        )
    apart = [t for t in parts.learner.tempered if t is not None and t[0] != 1]
    if apart and isinstance(live, PosteriorTeacher) and live.gives_samples:
        raise ConfigError(
            f"{cache} keeps the averaged answer, but tempered divides each network's logits before",
            fix="set teacher.cache=none, tempered.teacher=1, or teacher.samples=0",
        )
    if parts.bought is None and config.cache == "memory":
        return MemoryTeacher(live, len(train), lambda: parts.teacher_logits(train))
    ids = torch.arange(len(train)) if parts.bought is None else parts.bought
    skip = config.rest == "labels"
    if skip and any(method.tuples for method in methods):
        raise ConfigError(
            "tuples of samples are compared with answers about all of them",
            fix="set teacher.rest=leave_out, or the method's sampler=batch",
        )
    return MemoryTeacher(live, len(train), lambda: _ask(parts, live, ids, config), ids=ids, skip=skip)


def _ask(parts: Parts, live: LiveTeacher, ids: Tensor, config: TeacherConfig) -> Tensor:
    """The answers about training samples as they are, or about their view of the first epoch."""
    parts.calls.spend(len(ids))
    views = parts.loader.views
    look = partial(views.batch, epoch=0) if config.cache == "first_view" else views.plain
    shares = (part.tensor_split(world())[rank()] for part in torch.split(ids, TOGETHER))
    device = parts.accelerator.device
    with parts.accelerator.autocast():
        return predict(live.signals, map(look, shares), parts.task, device, parts.memory_format)[0]


def keep(parts: Parts, path: Path, resume: bool) -> None:
    """Ask a teacher with a budget now and write its answers down, or read those of an earlier process.

    Raises:
        CheckpointError: the file is damaged, or of other samples.
    """
    teacher, ids = parts.teacher, parts.bought
    if ids is None or not isinstance(teacher, MemoryTeacher) or not parts.learner.needs:
        return
    if resume and path.exists():
        kept = load_weights(path)
        if not torch.equal(kept.get("ids", torch.zeros(0)), ids) or len(kept.get("logits", ())) != len(ids):
            raise CheckpointError(f"{path} holds answers about other samples", fix="start the run anew")
        teacher.keep(kept["logits"])
        parts.calls.training = len(ids)
    elif (answers := teacher.fetch()) is not None and rank() == 0:
        save_weights(path, {"ids": ids, "logits": answers})
    parts.accelerator.wait_for_everyone()
