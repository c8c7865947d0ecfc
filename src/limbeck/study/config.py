"""The configuration of a study: what is compared with what, and what all of it shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from ..config import ModelConfig, Section, apply, check, load_yaml
from ..errors import ConfigError, suggest

Overrides = dict[str, Any]
"""Part of a run's configuration; a key may be dotted (``train.epochs``)."""

PRESETS = (
    Path(__file__).parent.parent / "presets" / "studies",
    Path(__file__).parents[3] / "presets/studies",
)
"""Where named studies are looked for: in the installed package, in a checkout."""


class Network(ModelConfig):
    """A network of a study; ``set`` overrides the configuration of runs that train it."""

    set: Overrides = Field(default_factory=dict, description="overrides of the runs that train this network")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def model(self) -> dict[str, Any]:
        """What a run's ``student`` is set to."""
        return self.model_dump(exclude={"set"})


class PairConfig(Section):
    """A student and who teaches it, unless a method says otherwise."""

    student: Network
    teacher: Network | None = None


class Earlier(Section):
    """The student of another method of the study, with the same pair, data setting and seed, as a teacher."""

    method: str


class EntryConfig(Section):
    """One competitor: methods, their weights, and who teaches."""

    methods: tuple[Any, ...] = ()
    label_weight: float | None = Field(None, ge=0)
    teacher: Literal["pair", "self", "none"] | Earlier | Network | None = Field(
        None,
        description="pair: the pair's; self: the student's own network; none; a network; or {method: NAME}; "
        "null: the pair's where a method needs one",
    )
    set: Overrides = Field(default_factory=dict, description="overrides of the runs of this method")
    pairs: dict[str, Overrides] = Field(
        default_factory=dict, description="pair -> overrides of this method's runs with it; options by name"
    )
    sweep: dict[str, list[Any]] = Field(
        default_factory=dict, description="dotted key or option of the first method -> values"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, str):
            return {"methods": [value]}
        if isinstance(value, (list, tuple)):
            return {"methods": list(value)}
        if isinstance(value, dict):
            if "method" in value:
                if value.get("methods"):
                    raise ValueError("give either method or methods, not both")
                value = {**{k: v for k, v in value.items() if k != "method"}, "methods": [value["method"]]}
            teacher = value.get("teacher")
            if teacher is False:
                value = {**value, "teacher": "none"}
            elif isinstance(teacher, str) and teacher not in ("pair", "self", "none"):
                value = {**value, "teacher": {"name": teacher}}
        return value


class TeachersConfig(Section):
    """How teachers are trained: once for each network, data setting and teacher seed."""

    seeds: tuple[int, ...] = Field((1000,), min_length=1, description="the i-th seed takes the i-th, in turn")
    set: Overrides = Field(default_factory=dict, description="overrides of teachers' runs")


class TuningConfig(Section):
    """The same number of trials for every method, on validation and on seeds of their own."""

    trials: int = Field(8, ge=1, description="trials for every method that has a space")
    seeds: tuple[int, ...] = Field((100, 101), min_length=1)
    space: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="method -> key -> list of values, or a range low..high[:log|:int]"
    )
    scope: Literal["group", "study"] = Field(
        "group", description="group: in each pair and data setting; study: in the first one, for all"
    )
    first: str | None = Field(None, description="method tuned first; what it finds is every method's start")
    sampler_seed: int = Field(0, ge=0)


class StudyConfig(Section):
    """A grid of runs: pairs x data settings x methods x seeds.

    Example:
        >>> study = check(StudyConfig, {"name": "s", "pairs": {"p": {"student": "cnn", "teacher": "resnet20"}},
        ...     "methods": ["scratch", "kd"]}, "the study")
        >>> list(study.methods), study.pairs["p"].teacher.name, study.seeds
        (['scratch', 'kd'], 'resnet20', (0, 1, 2))
    """

    name: str
    description: str = ""
    output: str | None = Field(None, description="folder; null: runs/<name>")
    base: Overrides = Field(default_factory=dict, description="configuration that all runs share")
    pairs: dict[str, PairConfig] = Field(min_length=1)
    methods: dict[str, EntryConfig] = Field(min_length=1)
    data: dict[str, Overrides] = Field(
        {"default": {}}, min_length=1, description="data settings: named overrides"
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    teacher: TeachersConfig = TeachersConfig()
    sweep: dict[str, list[Any]] = Field(
        default_factory=dict, description="dotted key -> values; each value is a comparison of its own"
    )
    baselines: tuple[str, ...] = ("scratch", "kd")
    metrics: tuple[str, ...] = Field(
        ("accuracy",), min_length=1, description="test metrics compared; the first decides"
    )
    level: float = Field(0.95, gt=0, lt=1, description="coverage of intervals; 1 - level is the tests' size")
    tuning: TuningConfig | None = None
    keep_checkpoints: bool = Field(False, description="keep the training state of finished runs")

    @field_validator("methods", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            if not all(isinstance(name, str) for name in value):
                raise ValueError("a list of methods holds names; write a mapping for more")
            value = dict.fromkeys(value)
            value |= {name: name for name in value if name != "scratch"}
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {k: v or {} for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a seed stands twice")
        return value

    @model_validator(mode="after")
    def _names(self) -> StudyConfig:
        for name, entry in self.methods.items():
            if isinstance(entry.teacher, Earlier):
                _known(entry.teacher.method, self.methods, f"methods.{name}.teacher.method")
            for pair in entry.pairs:
                _known(pair, self.pairs, f"methods.{name}.pairs", "pair")
        if self.tuning is not None:
            for name in self.tuning.space:
                _known(name, self.methods, "tuning.space")
            if self.tuning.first is not None:
                _known(self.tuning.first, self.tuning.space, "tuning.first")
        return self

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self.output or f"runs/{self.name}")


def _known(name: str, names: Mapping[str, Any], where: str, kind: str = "method") -> None:
    if name not in names:
        raise ValueError(f"{where}: no {kind} {name!r}, nearest is {suggest(name, list(names))}")


def narrow(study: StudyConfig, pairs: Sequence[str] = (), methods: Sequence[str] = ()) -> StudyConfig:
    """The part of a study with these pairs and methods; none named are all.

    Folders are the whole study's, so parts may be run one after the other, or on several machines.

    Raises:
        ConfigError: no such pair or method.
    """
    update: dict[str, Any] = {}
    for axis, names in (("pairs", pairs), ("methods", methods)):
        known: dict[str, Any] = getattr(study, axis)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"the study has no {axis[:-1]} {name!r}", expected=suggest(name, list(known))
                )
        if names:
            update[axis] = {name: value for name, value in known.items() if name in names}
    if "pairs" in update:
        entries = update.get("methods", study.methods)
        update["methods"] = {
            name: entry.model_copy(update={"pairs": {p: v for p, v in entry.pairs.items() if p in pairs}})
            for name, entry in entries.items()
        }
    if "methods" in update:
        update["baselines"] = tuple(name for name in study.baselines if name in update["methods"])
        if study.tuning is not None:
            space = {name: keys for name, keys in study.tuning.space.items() if name in update["methods"]}
            update["tuning"] = study.tuning.model_copy(update={"space": space})
    return check(StudyConfig, study.model_copy(update=update).model_dump(), "this part of the study")


def find(preset: str) -> Path:
    """The file of a study: a YAML file, the folder of an earlier study, or the name of a shipped preset.

    Raises:
        ConfigError: there is none; the nearest preset is named.
    """
    path = Path(preset)
    if path.is_dir() and (path / "study.yaml").is_file():
        return path / "study.yaml"
    if path.is_file():
        return path
    shipped = {file.stem: file for folder in PRESETS if folder.is_dir() for file in folder.glob("*.yaml")}
    if preset.removesuffix(".yaml") in shipped:
        return shipped[preset.removesuffix(".yaml")]
    raise ConfigError(
        f"no study {preset!r}",
        expected=f"a YAML file, a study's folder, or a preset: nearest is {suggest(preset, list(shipped))}",
    )


def read_study(preset: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study and apply ``key=value`` overrides such as ``base.train.epochs=2`` or ``seeds=[0,1]``.

    Raises:
        ConfigError: no such study, not YAML, or a wrong key or value.
    """
    path = find(preset)
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the study {path}: {error}", fix="give a YAML text file") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys", got=type(values).__name__, expected="keys and values")
    for override in overrides:
        apply(values, override)
    study = check(StudyConfig, values, f"the study {path.name}")
    if path.name == "study.yaml" and path.parent == Path(preset):
        study = study.model_copy(update={"output": preset})
    return study


def merge(values: Any, layer: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with a layer of overrides put over them; lists and networks are replaced whole.

    Example:
        >>> merge({"train": {"epochs": 2, "batch_size": 8}}, {"train.epochs": 3, "data": "digits"})
        {'train': {'epochs': 3, 'batch_size': 8}, 'data': 'digits'}
        >>> merge({"methods": [{"name": "kd"}]}, {"methods.0.temperature": 2})
        {'methods': [{'name': 'kd', 'temperature': 2}]}
    """
    if isinstance(values, str):
        values = {"name": values}
    found: dict[str, Any] = dict(values) if isinstance(values, Mapping) else {}
    for key, value in layer.items():
        first, dot, rest = key.partition(".")
        old = found.get(first)
        if dot and isinstance(old, (list, tuple)):
            found[first] = _item(list(old), rest, value, key)
        elif dot:
            found[first] = merge(old, {rest: value})
        elif isinstance(value, Mapping) and isinstance(old, (Mapping, str)) and key != "student":
            found[key] = merge(old, value)
        else:
            found[key] = value
    return found


def _item(items: list[Any], rest: str, value: Any, key: str) -> list[Any]:
    number, dot, inner = rest.partition(".")
    if not number.isdecimal() or int(number) >= len(items):
        raise ConfigError(f"{key}: no item {number!r}", expected=f"a number below {len(items)}")
    items[int(number)] = merge(items[int(number)], {inner: value}) if dot else value
    return items
