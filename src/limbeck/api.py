"""Distil in a few lines of Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .errors import ConfigError
from .methods.base import Method
from .runs import Run

if TYPE_CHECKING:
    from .data import Data
    from .teachers import LiveTeacher


def distill(
    student: nn.Module | str | Mapping[str, Any],
    teacher: nn.Module | LiveTeacher | Run | str | Path | Mapping[str, Any] | None,
    data: Data | str | Mapping[str, Any] | tuple[Any, Any],
    *,
    method: str | Method | type[Method] | Sequence[str | Method] | None = "bickd",
    output: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a student under a teacher and record everything.

    Args:
        student: a network (trained in place), the name of one, or the section of the configuration as a mapping.
        teacher: a trained network (frozen in place), a ``LiveTeacher``, a run or its folder, the section of
            the configuration as a mapping (``{"run": "runs/teacher", "cache": "memory"}``), or None for
            methods without a teacher.
        data: the name of a data set, its section of the configuration as a mapping
            (``{"name": "digits", "train_size": 200}``), splits from ``limbeck.data``, or a pair (train, test)
            of ``torch.utils.data.Dataset``s, from whose training part validation is held out.
        method: a method's name, class or object, or several; None trains on labels alone.
        output: the run's folder; by default ``runs/<data>-<student>-<method>-seed<seed>``.
        seed: decides initialisation, order and augmentation.
        quiet: print no progress.
        settings: sections of the configuration as mappings (``train={"epochs": 5}``), top-level keys
            (``label_weight=1.0``), and options of a single method (``temperature=2``).

    Returns:
        The finished run; ``run.student()`` is the network, ``run.results`` the numbers.

    Raises:
        LimbeckError: anything a caller can mend, before training where it can be known.

    Example:
        >>> import limbeck, tempfile, os
        >>> folder = tempfile.mkdtemp()
        >>> short = {"epochs": 1, "precision": "fp32"}
        >>> teacher = limbeck.train("mlp", "digits", output=folder + "/teacher", train=short, quiet=True)
        >>> run = limbeck.distill("mlp", teacher, "digits", method="kd", temperature=2.0,
        ...                       output=folder + "/student", train=short, quiet=True)
        >>> run.status, "agreement" in run.results["last"]["test"]
        ('finished', True)
    """
    from .config import RunConfig, Section
    from .teachers import LiveTeacher

    if "methods" in settings:
        raise ConfigError("methods is not a setting", fix="give them as method=[...]")
    known = set(RunConfig.model_fields)
    options = {key: value for key, value in settings.items() if key not in known}
    values: dict[str, Any] = {key: _plain(value, Section) for key, value in settings.items() if key in known}
    chosen = _methods(method, options)
    values["methods"] = [_recorded(m) if isinstance(m, Method) else m for m in chosen]
    values["seed"] = seed
    values.setdefault("output", None if output is None else str(output))
    objects = [m for m in chosen if isinstance(m, Method)]
    if 0 < len(objects) < len(chosen):
        raise ConfigError(
            "method names and method objects cannot be mixed",
            fix="give all of them by name or all as objects",
        )
    if isinstance(teacher, (str, Path, Run)):
        path = teacher.path if isinstance(teacher, Run) else teacher
        values["teacher"] = {"run": str(path)}
    elif isinstance(teacher, Mapping):
        values["teacher"] = dict(teacher)
    elif teacher is not None and not isinstance(teacher, (nn.Module, LiveTeacher)):
        raise ConfigError(
            "this is no teacher",
            got=type(teacher).__name__,
            expected="a network, limbeck.teachers.LiveTeacher, a run or its folder, a mapping, or None",
        )
    network = teacher if isinstance(teacher, (nn.Module, LiveTeacher)) else None
    return _execute(values, student, network, objects, data, quiet)


def train(
    model: nn.Module | str,
    data: Data | str | Mapping[str, Any] | tuple[Any, Any],
    *,
    output: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a network on labels alone: a teacher, or the baseline from scratch. Arguments as ``distill``."""
    return distill(model, None, data, method=None, output=output, seed=seed, quiet=quiet, **settings)


def resume(
    path: str | Path,
    *,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    data: Data | tuple[Any, Any] | None = None,
    methods: Sequence[Method] = (),
    allow_code: Collection[str] = (),
    quiet: bool = False,
) -> Run:
    """Go on with a run that was stopped, to the numbers it would have had.

    Objects that the run was started with (networks, data, methods) are handed over again.

    Raises:
        RunError: there is no run, or it is already finished.
        CheckpointError: the checkpoint is damaged, or teacher or data are not the same.
    """
    from .training.session import execute

    config = Run(path).config.model_copy(update={"output": str(path)})
    return execute(
        config,
        student=student,
        teacher=teacher,
        methods=methods,
        data=_data(data),
        resume=True,
        allow_code=allow_code,
        progress=_quiet(quiet),
    )


def _execute(
    values: dict[str, Any],
    student: nn.Module | str | Mapping[str, Any],
    teacher: nn.Module | LiveTeacher | None,
    methods: Sequence[Method],
    data: Any,
    quiet: bool,
) -> Run:
    from .config import OBJECT, parse
    from .training.networks import named
    from .training.session import execute

    network = student if isinstance(student, nn.Module) else None
    if network is None:
        values["student"] = student
    else:
        values["student"] = named(network).model_dump()
    named_data = (
        {"name": data} if isinstance(data, str) else dict(data) if isinstance(data, Mapping) else None
    )
    splits = _data(data) if named_data is None else None
    values["data"] = named_data
    if named_data is not None and hasattr(named_data.get("path"), "column_names"):
        splits, values["data"] = _rows(named_data)
    elif splits is not None:
        values["data"] = {"name": OBJECT + splits.name}
    return execute(
        parse(values), student=network, teacher=teacher, methods=methods, data=splits, progress=_quiet(quiet)
    )


def _rows(section: dict[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Text from ``datasets`` at hand, and the section that the record keeps."""
    from .config import OBJECT, check
    from .data import DataConfig, text_from

    kept = {key: value for key, value in section.items() if key != "path"}
    if kept.get("name") != "text":
        raise ConfigError("a datasets.Dataset as path is for text", fix="set name to text")
    found: Data = text_from(section["path"], check(DataConfig, kept, "data"))
    return found, {**kept, "name": OBJECT + found.name}


def _methods(method: Any, options: dict[str, Any]) -> list[Any]:
    chosen = [] if method is None else [method] if isinstance(method, (str, type, Method)) else list(method)
    if options and (len(chosen) != 1 or isinstance(chosen[0], Method)):
        raise ConfigError(
            f"nothing takes the settings {', '.join(options)}",
            expected="a section of the configuration, or options of one method given by name",
        )
    if options:
        if isinstance(chosen[0], type):
            return [chosen[0](**options)]
        return [{"name": chosen[0], "options": options}]
    return [m() if isinstance(m, type) else m if isinstance(m, Method) else {"name": m} for m in chosen]


def _recorded(method: Method) -> dict[str, Any]:
    """The configuration entry of a method object; one of another class than the table's is marked as such."""
    from .config import OBJECT
    from .methods import METHODS

    mark = "" if METHODS.get(method.name) is type(method) else OBJECT
    return {"name": mark + method.name, "options": method.options.model_dump(mode="json")}


def _plain(value: Any, section: type[Any]) -> Any:
    return value.model_dump() if isinstance(value, section) else value


def _data(data: Any) -> Data | None:
    if isinstance(data, tuple) and len(data) == 2:
        from .data import from_datasets

        made: Data = from_datasets(*data)
        return made
    from .data import Data

    if data is not None and not isinstance(data, Data):
        raise ConfigError(
            "this is no data",
            got=type(data).__name__,
            expected="a name, a mapping, limbeck.data.Data, or a pair (train, test) of data sets",
        )
    return data


def _quiet(quiet: bool) -> Any:
    from .training.progress import Progress

    return Progress(1, "", quiet=True) if quiet else None
