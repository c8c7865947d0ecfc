"""The teacher of a run: an earlier run's network, or a network with a weights file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..config import PRETRAINED, TeacherConfig
from ..data import Data, TextData
from ..data.bilingual import Languages
from ..data.text import read_tokenizer
from ..errors import ModelError, RunError
from ..models import normalisation
from ..runs import Run
from ..tasks import Classification
from ..teachers import AlternatingTeacher, Inputs, LiveTeacher
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
        return LiveTeacher(
            model,
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
    return LiveTeacher(
        model,
        task,
        expects=known and Inputs(ours.channels, ours.size, *known),
        feeds=ours,
        renormalise=config.renormalise,
        name=config.model.name,
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
