"""The configuration of a run: frozen, checked, saved whole with the run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from .bayesian import BayesConfig
from .data import AugmentConfig, DataConfig
from .data_free.config import DataFreeConfig
from .errors import ConfigError, suggest
from .pulse import PulseWidthSchedule
from .ramps import Ramp
from .sections import Section as Section

T = TypeVar("T", bound=BaseModel)

OBJECT = "object:"
"""Marks a network, a method or data that was handed over in Python and cannot be made again from a name."""

PRETRAINED = "pretrained"
"""Option of a network of another package that starts it from that package's weights."""


class LoraConfig(Section):
    """Low-rank matrices beside a language model's frozen layers; they alone are trained."""

    rank: int = Field(16, ge=1, description="inner width of the matrices")
    alpha: float = Field(32.0, gt=0, description="their product counts alpha / rank times")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what they are fed")
    targets: tuple[str, ...] | None = Field(
        None, description="layers by the end of their name; null: all but the head"
    )


class ModelConfig(Section):
    """A network of the table by name, or the user's own code by ``module:callable``."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = Field(None, description="safetensors file to start from")
    lora: LoraConfig | None = Field(
        None, description="train low-rank matrices only; language models as students"
    )


class TurnsConfig(PulseWidthSchedule):
    """Trained networks that take turns as teachers, each training step one of them."""

    runs: tuple[str, ...] = Field(
        min_length=2, description="folders of finished runs; the first has most steps"
    )


class TeacherConfig(Section):
    """Where the teacher comes from: a run folder, or a network with a weights file."""

    run: str | None = Field(None, description="folder of a finished run")
    checkpoint: Literal["last", "best"] = "last"
    model: ModelConfig | None = None
    tokenizer: str | None = Field(
        None, description="of a language model: a folder or tokenizer.json; null: the run's, or the data's"
    )
    cache: Literal["none", "memory", "plain_view", "first_view"] = "none"
    budget: int | None = Field(None, ge=1, description="training samples that the teacher may be asked about")
    rest: Literal["refuse", "labels", "leave_out"] = Field("refuse", description="training samples beyond it")
    renormalise: bool = False
    turns: TurnsConfig | None = Field(
        None, description="several runs that take turns, instead of run or model"
    )
    runs: tuple[str, ...] = Field(
        (), description="several runs that answer together, instead of run or model"
    )
    bayes: BayesConfig | None = Field(
        None, description="make a trained network Bayesian as it is loaded: laplace, or dropout"
    )
    samples: int | None = Field(
        None,
        ge=0,
        description="of a Bayesian teacher: networks averaged; null: as in its run; 0: the mean network",
    )
    calibrate: bool = Field(
        False, description="divide its logits by the temperature that validation likes best"
    )

    @model_validator(mode="after")
    def _together(self) -> TeacherConfig:
        if self.runs and (self.run is not None or self.model is not None or self.turns is not None):
            raise ValueError("give teacher.runs, or teacher.run, model or turns, not both")
        if len(self.runs) == 1:
            raise ValueError("teacher.runs is at least two; one is teacher.run")
        if self.bayes is not None and (self.turns is not None or self.runs):
            raise ValueError("teacher.bayes is for one network: teacher.run or teacher.model")
        if self.bayes is not None and self.bayes.name not in ("laplace", "dropout"):
            raise ValueError(
                f"{self.bayes.name} cannot be had from a trained network: train a run with bayes: {self.bayes.name}"
            )
        return self

    @model_validator(mode="after")
    def _turns_alone(self) -> TeacherConfig:
        if self.turns is not None and (self.run is not None or self.model is not None):
            raise ValueError("teacher.turns names its own runs: leave teacher.run and teacher.model out")
        if self.turns is not None and self.cache != "none":
            raise ValueError("teachers that take turns cannot be remembered: set teacher.cache=none")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> TeacherConfig:
        if self.run is not None and self.model is not None:
            raise ValueError("give either teacher.run or teacher.model, not both")
        model = self.model
        if model is not None and model.weights is None and model.options.get(PRETRAINED) is not True:
            raise ValueError("teacher.model needs weights: an untrained network teaches nothing")
        if model is not None and model.lora is not None:
            raise ValueError("a teacher is not trained: leave teacher.model.lora out")
        return self

    @model_validator(mode="after")
    def _affordable(self) -> TeacherConfig:
        if self.budget is not None and self.cache == "none":
            raise ValueError("teacher.budget needs a teacher that is asked once: set teacher.cache=memory")
        if self.rest != "refuse" and self.budget is None:
            raise ValueError(f"teacher.rest={self.rest} says what to do beyond teacher.budget: set it too")
        return self


class TemperedConfig(Section):
    """A temperature for each side: logits are divided by it, and the method's terms count with their product."""

    teacher: float = Field(1.0, gt=0, description="divides the logits of each of the teacher's networks")
    student: float = Field(1.0, gt=0, description="divides the student's logits")


class MethodConfig(Section):
    """A method, its weight and its options. Options may also stand beside the name."""

    name: str
    weight: float | None = Field(None, ge=0, description="factor on the method's terms; null: its default")
    schedule: dict[str, Ramp] = Field(default_factory=dict, description="ramps for weight or numeric options")
    standardise: bool = Field(False, description="standardise both networks' logits before this method")
    tempered: TemperedConfig | None = Field(
        None, description="unlike temperatures of both sides, before the method's own"
    )
    mixing: float | None = Field(
        None, ge=0, le=1, description="weight of this method, 1 - mixing being that of cross-entropy"
    )
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict):
            known = {key: value[key] for key in cls.model_fields if key in value and key != "options"}
            rest = {key: item for key, item in value.items() if key not in cls.model_fields}
            options = value.get("options") or {}
            return {**known, "options": {**options, **rest} if isinstance(options, Mapping) else options}
        return value

    @model_validator(mode="after")
    def _one_weight(self) -> MethodConfig:
        if self.mixing is not None and (self.weight is not None or "weight" in self.schedule):
            raise ValueError("mixing is the weight: leave weight out")
        if self.standardise and self.tempered is not None:
            raise ValueError("standardised logits forget a temperature before: set the method's own instead")
        return self


class SamplerConfig(Section):
    """How a model draws tokens."""

    temperature: float = Field(1.0, ge=0, description="divides the logits; 0 takes the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="mass of the likeliest tokens that are drawn from")
    top_k: int | None = Field(None, ge=1, description="number of the likeliest tokens that are drawn from")


class SamplingConfig(Section):
    """Texts that the models write during training, for runs on text."""

    by: Literal["student", "teacher", "both"] = Field(
        "both", description="student: on-policy KD; teacher: its own texts; both: speculative KD"
    )
    share: float = Field(1.0, gt=0, le=1, description="share of the batches that get new responses")
    adaptive: bool = Field(
        False,
        description="student: DistiLLM's rule instead of share: more of its texts where validation worsens",
    )
    replay: int = Field(1000, ge=1, description="adaptive: texts of the student that are kept")
    after: int = Field(0, ge=0, description="epochs on the data as it is before")
    new_tokens: int = Field(64, ge=1, description="tokens of the longest response")
    top_k: int = Field(25, ge=1, description="both: a drafted token is kept among the teacher's K likeliest")
    gamma: int = Field(
        5, ge=1, description="both: tokens that the student drafts between the teacher's passes"
    )
    student: SamplerConfig = SamplerConfig(temperature=0.5, top_p=0.5)
    teacher: SamplerConfig = SamplerConfig(temperature=0.2, top_p=0.5)

    @model_validator(mode="after")
    def _of_the_student(self) -> SamplingConfig:
        if self.adaptive and (self.by != "student" or self.share != 1):
            raise ValueError("adaptive is for by: student, and decides the share itself")
        return self


class OptimizerConfig(Section):
    """SGD with momentum, AdamW, or Adam with weight decay in the gradient."""

    name: Literal["sgd", "adamw", "adam"] = "sgd"
    learning_rate: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(5e-4, ge=0)
    betas: tuple[float, float] = Field((0.9, 0.999), description="of adam and adamw")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimizerConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas lie in [0, 1)")
        return self


class ScheduleConfig(Section):
    """How the learning rate moves; all times in epochs."""

    name: Literal["constant", "step", "cosine", "linear"] = "cosine"
    milestones: tuple[float, ...] = Field((150, 180, 210), description="epochs after which step decays")
    factor: float = Field(0.1, gt=0, lt=1)
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up")


class PlayerOptimizer(OptimizerConfig):
    """The optimiser of one player of a procedure, such as a generator."""

    schedule: ScheduleConfig | None = Field(None, description="null: train.schedule")


class TrainConfig(Section):
    """The loop: how long, how large, how exact, how often it looks, saves and speaks."""

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1, description="samples per optimiser step, over all processes")
    accumulate: int = Field(1, ge=1, description="pieces a batch is split into to save memory")
    drop_last: bool = False
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    optimizers: dict[str, PlayerOptimizer] = Field(
        default_factory=dict, description="player of the procedure -> an optimiser of its own"
    )
    clip: float | None = Field(None, gt=0, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    gradient_checkpointing: bool = Field(
        False,
        description="language models: compute layers again in the backward pass instead of keeping them",
    )
    shard: Literal["student", "both"] | None = Field(
        None,
        description="language models in several processes: each keeps a part of the student's weights, gradients "
        "and moments, and of the teacher's layers (FSDP2); null: all of them (DDP)",
    )
    compile: bool = Field(False, description="run the student through torch.compile while it learns")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged student per step")
    evaluate_every: int | None = Field(None, ge=1, description="optimiser steps; null: each epoch")
    early_stop: int | None = Field(None, ge=1, description="evaluations without a better one")
    checkpoint_every: int | None = Field(None, ge=1, description="optimiser steps; null: each epoch")
    log_every: int = Field(10, ge=1, description="optimiser steps")
    guards: Literal["error", "warn"] = "error"
    threads: int | None = Field(None, ge=1)
    workers: int = Field(0, ge=0, description="loader processes for data that is not in memory")
    tensorboard: bool = False


class RunConfig(Section):
    """Everything that decides a run's numbers.

    Example:
        >>> config = parse({"student": "resnet8", "methods": ["bickd"], "teacher": {"run": "runs/teacher"}})
        >>> config.data.name, config.methods[0].name
        ('digits', 'bickd')
        >>> try:
        ...     parse({"studnet": "resnet8"})
        ... except ConfigError as error:
        ...     print(str(error).splitlines()[2].strip())
        studnet: unknown key, nearest is 'student' (all: augment, bayes, ...
    """

    name: str | None = None
    group: str = Field("", description="runs of one group are compared with each other")
    title: str | None = Field(None, description="what reports call the method; null: the methods' names")
    seed: int = Field(0, ge=0)
    output: str | None = Field(None, description="run folder; null: runs/<name>")
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    student: ModelConfig
    teacher: TeacherConfig | None = None
    methods: tuple[MethodConfig, ...] = ()
    label_weight: float | None = Field(None, ge=0, description="weight of cross-entropy; null: the method's")
    data_free: DataFreeConfig | None = Field(None, description="distillation without data; null: with data")
    bayes: BayesConfig | None = Field(
        None, description="train a distribution over networks; null: one network"
    )
    sampling: SamplingConfig | None = Field(None, description="texts that the models write; null: the data's")
    train: TrainConfig = TrainConfig()
    latency: bool = Field(True, description="time the student at the end, about a second")

    @field_validator("student", "data", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        """``method: kd`` is short for ``methods: [kd]``."""
        if isinstance(value, dict) and "method" in value:
            if value.get("methods"):
                raise ValueError("give either method or methods, not both")
            method = value["method"]
            rest = {key: item for key, item in value.items() if key != "method"}
            return {**rest, "methods": [] if method is None else [method]}
        return value

    @model_validator(mode="before")
    @classmethod
    def _own_splits(cls, value: Any) -> Any:
        """``data.split_seed: null`` is the run's seed: another split for every seed."""
        data = value.get("data") if isinstance(value, dict) else None
        if isinstance(data, Mapping) and data.get("split_seed", 0) is None:
            return {**value, "data": {**data, "split_seed": value.get("seed", 0)}}
        return value

    @model_validator(mode="after")
    def _mixed(self) -> RunConfig:
        mixed = [method.name for method in self.methods if method.mixing is not None]
        if mixed and (len(self.methods) > 1 or self.label_weight is not None):
            raise ValueError(
                f"mixing of {mixed[0]} shares out all weight: no label_weight, no further method"
            )
        return self

    @property
    def label(self) -> str:
        """What reports call the method: its title or name, several joined by +, or ``scratch``."""
        names = [method.name.removeprefix(OBJECT) for method in self.methods]
        if self.data_free is not None:
            names.insert(0, self.data_free.label)
        if self.bayes is not None:
            names.insert(0, self.bayes.name)
        return self.title or "+".join(names) or "scratch"


def parse(values: dict[str, Any]) -> RunConfig:
    """Check plain values into a configuration.

    Raises:
        ConfigError: names every wrong key, what was got and what was expected.
    """
    return check(RunConfig, values, "the configuration")


def check(model: type[T], values: Any, what: str) -> T:
    """Validate values with a pydantic model; every problem becomes one line of a ConfigError."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_line(model, problem) for problem in error.errors()]
        raise ConfigError(
            f"{what} is not valid:\n  " + "\n  ".join(lines), fix="correct the keys named above"
        ) from None


def _line(model: type[BaseModel], problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section: Any = model
        for part in problem["loc"][:-1]:
            if part not in section.model_fields:  # the number of a list's item, or the name of a mapping's
                continue
            section = _section(section.model_fields[part].annotation)
            if section is None:
                return f"{place}: unknown key"
        return (
            f"{place}: unknown key, nearest is {suggest(str(problem['loc'][-1]), list(section.model_fields))}"
        )
    message = problem["msg"].removeprefix("Value error, ")
    got = problem.get("input")
    shown = f"; got {got!r}" if isinstance(got, (str, int, float, bool, list, type(None))) else ""
    return f"{place or 'configuration'}: {message}{shown if problem['type'] != 'missing' else ''}"


def _section(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _section(part)) is not None:
            return found
    return None


def read(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply ``key=value`` overrides such as ``train.epochs=5``.

    Args:
        path: the YAML file.
        overrides: dotted keys; values are YAML (``[1, 2]``, ``null``, ``true``); list items by number.

    Raises:
        ConfigError: the file is missing or is not YAML, or a key or value is wrong.
    """
    path = Path(path)
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}", fix="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", fix="give a YAML text file") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or "it is not plain YAML"
        raise ConfigError(f"{path} is not valid YAML{where}: {problem}", fix="correct that line") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds no keys", got=type(values).__name__, expected="a mapping of keys to values"
        )
    for override in overrides:
        apply(values, override)
    return parse(values)


def apply(values: dict[str, Any], override: str) -> None:
    """Apply one ``a.b=value`` override in place.

    Example:
        >>> values = {"train": {"epochs": 30}}
        >>> apply(values, "train.epochs=5")
        >>> values
        {'train': {'epochs': 5}}
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"not an override: {override!r}", expected="key=value, such as train.epochs=5")
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {key} is not valid YAML", got=text) from None
    *parents, last = key.split(".")
    here: Any = values
    for part in parents:
        if isinstance(here, list):
            here = here[_index(here, part, key)]
            continue
        if isinstance(here.get(part), str):
            here[part] = {"name": here[part]}
        if not isinstance(here.get(part), (dict, list)):
            here[part] = {}
        here = here[part]
    if isinstance(here, list):
        here[_index(here, last, key)] = value
    elif last.isdigit():
        raise ConfigError(f"{key}: there is no list to number", fix=f"write {'.'.join(parents)}=[...]")
    else:
        here[last] = value


def _index(items: list[Any], part: str, key: str) -> int:
    if not (part.isascii() and part.isdigit()) or int(part) >= len(items):
        raise ConfigError(f"{key}: no item {part!r}", expected=f"a number below {len(items)}")
    index = int(part)
    if isinstance(items[index], str):
        items[index] = {"name": items[index]}
    return index


def dump(config: RunConfig) -> str:
    """The whole configuration as YAML, defaults included."""
    values = config.model_dump(mode="json")
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, as in YAML 1.2, and a key stands once; PyYAML alone takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for (key, _), name in zip(node.value, keys, strict=False):
            if keys.count(name) > 1 and name != "<<":
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {name!r} stands twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def load_yaml(text: str) -> Any:
    """Plain values from YAML; no tag ever makes an object.

    Example:
        >>> load_yaml("{rate: 1e-3, name: '1e-3'}")
        {'rate': 0.001, 'name': '1e-3'}
    """
    return yaml.load(text, Loader=_Loader)
