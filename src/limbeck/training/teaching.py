"""The teacher of a run: an earlier run's network, or a network with a weights file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from ..bayes import Ensemble, Posterior, posterior
from ..config import PRETRAINED, TeacherConfig
from ..data import Data, TextData
from ..data.bilingual import Languages
from ..data.text import read_tokenizer
from ..errors import ConfigError, ModelError, RunError
from ..models import normalisation
from ..runs import Run
from ..tasks import Classification
from ..teachers import AlternatingTeacher, Inputs, LiveTeacher, PosteriorTeacher
from ..teachers.foreign import ForeignTeacher
from .networks import feeds, make


def teacher_from(
    config: TeacherConfig, data: Data, task: Classification, allow_code: Collection[str] = ()
) -> LiveTeacher:
    """The teacher that a configuration names: a run's network, or a network with a weights file.

    Raises:
        RunError: the run is missing or not finished.
        ModelError: classes, options or weights do not fit.
    """
    if config.turns is not None:
        each = [config.model_copy(update={"turns": None, "run": run}) for run in config.turns.runs]
        teachers = [teacher_from(one, data, task, allow_code) for one in each]
        return AlternatingTeacher(teachers, config.turns)
    if config.runs:
        return together(config, data, task, allow_code)
    ours, languages = feeds(data), spoken(config, data)
    if languages is not None and languages.relation.kind == "different":
        return foreign_teacher(config, languages, ours, allow_code)
    if config.run is not None:
        run = Run(config.run)
        card = run.card()
        if languages is None and card["classes"] != list(data.classes):  # one vocabulary may be padded
            raise ModelError(
                f"the teacher of {run.path} has other classes than {data.name}",
                got=f"{len(card['classes'])}: {', '.join(card['classes'][:5])} ...",
                expected=f"{len(data.classes)}: {', '.join(data.classes[:5])} ...",
                fix="train the teacher on the same classes in the same order",
            )
        model = run.student(config.checkpoint, allow_code=allow_code)
        return _live(
            model,
            config,
            task,
            expects=run.inputs(),
            feeds=ours,
            renormalise=config.renormalise,
            name=card["model"]["name"],
        )
    if config.model is None:
        raise RunError("the teacher has no source", expected="teacher.run or teacher.model with weights")
    model = make(config.model, classes=len(data.classes), inputs=ours, allow_code=allow_code)
    known = normalisation(model) if config.model.options.get(PRETRAINED) else None
    return _live(
        model,
        config,
        task,
        expects=known and Inputs(ours.channels, ours.size, *known),
        feeds=ours,
        renormalise=config.renormalise,
        name=config.model.name,
    )


def _live(model: nn.Module, config: TeacherConfig, task: Classification, **given: Any) -> LiveTeacher:
    """The network as a teacher; one that is Bayesian, or is to be made so, speaks with the mean of its draws."""
    if config.bayes is not None:
        if isinstance(model, Posterior):
            raise ConfigError(
                f"the teacher {given['name']} is Bayesian already", fix="leave teacher.bayes out"
            )
        model = posterior(config.bayes, model)
    if isinstance(model, Posterior):
        return PosteriorTeacher(model, task, samples=config.samples, **given)
    return LiveTeacher(model, task, **given)


def together(
    config: TeacherConfig, data: Data, task: Classification, allow_code: Collection[str] = ()
) -> LiveTeacher:
    """Several runs as one ensemble.

    Raises:
        ConfigError: they were trained on other inputs.
    """
    alone = config.model_copy(update={"runs": (), "samples": None})
    each = [
        teacher_from(alone.model_copy(update={"run": run}), data, task, allow_code) for run in config.runs
    ]
    for run, other in zip(config.runs, each, strict=True):
        if other.expects != each[0].expects:
            raise ConfigError(
                f"the teachers {config.runs[0]} and {run} were trained on other inputs",
                expected="one size and one normalisation",
            )
    return PosteriorTeacher(
        Ensemble([teacher.model for teacher in each]),
        task,
        samples=config.samples,
        expects=each[0].expects,
        feeds=feeds(data),
        renormalise=config.renormalise,
        name=" + ".join(teacher.name for teacher in each),
    )


def spoken(config: TeacherConfig, data: Data) -> Languages | None:
    """Both tokenizers of a run on text, where the teacher's is known."""
    if not isinstance(data, TextData):
        return None
    name = config.tokenizer
    if name is None and config.run is not None and (Path(config.run) / "tokenizer").is_dir():
        name = str(Path(config.run) / "tokenizer")
    return None if name is None else Languages.of(data.tokenizer, read_tokenizer(name))


def foreign_teacher(
    config: TeacherConfig, languages: Languages, ours: Inputs, allow_code: Collection[str] = ()
) -> ForeignTeacher:
    """The language model that a configuration names, which has a tokenizer of its own.

    Raises:
        RunError: the run is missing or not finished.
        ModelError: options or weights do not fit.
    """
    if config.run is not None:
        run = Run(config.run)
        model = run.student(config.checkpoint, allow_code=allow_code)
        return ForeignTeacher(model, languages, name=run.card()["model"]["name"])
    if config.model is None:
        raise RunError("the teacher has no source", expected="teacher.run or teacher.model with weights")
    model = make(config.model, classes=languages.classes[1], inputs=ours, allow_code=allow_code)
    return ForeignTeacher(model, languages, name=config.model.name)
