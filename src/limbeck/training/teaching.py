"""The teacher of a run: an earlier run's network, or a network with a weights file."""

from __future__ import annotations

from collections.abc import Collection

from ..config import PRETRAINED, TeacherConfig
from ..data import Data
from ..errors import ModelError, RunError
from ..models import normalisation
from ..runs import Run
from ..tasks import Classification
from ..teachers import AlternatingTeacher, Inputs, LiveTeacher
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
    ours = feeds(data)
    if config.run is not None:
        run = Run(config.run)
        card = run.card()
        if card["classes"] != list(data.classes):
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
