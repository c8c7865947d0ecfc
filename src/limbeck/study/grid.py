"""From a study's axes to its runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..config import RunConfig, parse
from ..errors import ConfigError, LimbeckError
from .config import Earlier, EntryConfig, Network, Overrides, StudyConfig, merge

DEFAULT = "default"


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        key: unique, stable; also the run's folder below the study's.
        kind: ``student``, ``teacher`` or ``tuning``.
        config: the whole run.
        pair, setting, method, seed: its place on the axes; a teacher has its network's name as ``method``.
        values: swept or tuned values.
        teacher: key of the cell that must be finished before, because it teaches this one.
        trial: number of the tuning trial.
    """

    key: str
    kind: Literal["student", "teacher", "tuning"]
    config: RunConfig
    pair: str
    setting: str
    method: str
    seed: int
    values: Overrides = field(default_factory=dict)
    teacher: str | None = None
    trial: int | None = None

    @property
    def group(self) -> str:
        """The comparison that it belongs to."""
        return group_name(self.pair, self.setting)

    @property
    def title(self) -> str:
        """How progress and messages name it."""
        if self.kind == "teacher":
            return f"teacher {self.method}, seed {self.seed}"
        trial = "" if self.trial is None else f", trial {self.trial}"
        return f"{self.group}: {self.method}{trial}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config.output or "")


class Point(NamedTuple):
    """A name on an axis, the overrides that it stands for, and the swept values alone."""

    name: str
    overrides: Overrides
    values: Overrides


class Grid:
    """Makes the cells of a study.

    Args:
        study: the study.
        folder: where its runs go.

    Attributes:
        settings: data settings, swept ones included.
        methods: entry and swept values by full name.
        origin: full name -> name in the study's ``methods``.
        teachers: teachers' cells by key, known as soon as a student's cell that needs them was made.

    Raises:
        ConfigError: a run's configuration or a method's option is wrong; names the cell.
    """

    def __init__(self, study: StudyConfig, folder: Path | None = None) -> None:
        self.study, self.folder = study, folder or study.folder
        self.teachers: dict[str, Cell] = {}
        self.settings = [
            Point(_joined(name, suffix), merge(overrides, values), values)
            for name, overrides in study.data.items()
            for suffix, values in sweep(study.sweep)
        ]
        self.methods: dict[str, tuple[EntryConfig, Overrides]] = {}
        self.origin: dict[str, str] = {}
        for name, entry in study.methods.items():
            for suffix, values in sweep(entry.sweep):
                full = " ".join(filter(None, (name, suffix)))
                self.methods[full], self.origin[full] = (entry, values), name

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Pairs and data settings."""
        return [(pair, setting.name) for pair in self.study.pairs for setting in self.settings]

    def students(self, chosen: Mapping[tuple[str, str, str], Overrides] | None = None) -> list[Cell]:
        """Every student's run, in the order of groups, seeds and methods.

        Args:
            chosen: tuned values by pair, setting and method.
        """
        chosen = chosen or {}
        return [
            self.student(pair, setting, method, seed, chosen.get((pair, setting, method)))
            for pair, setting in self.groups
            for seed in self.study.seeds
            for method in self.methods
        ]

    def all(self) -> list[Cell]:
        """Every cell as far as it is known before tuning: teachers first."""
        students = self.students()
        return [*self.teachers.values(), *students]

    def student(
        self,
        pair: str,
        setting: str,
        method: str,
        seed: int,
        tuned: Overrides | None = None,
        trial: int | None = None,
    ) -> Cell:
        """One student's run; with ``trial`` it is a run of tuning."""
        entry, values = self.methods[method]
        place = self.settings[[point.name for point in self.settings].index(setting)]
        parts = ("tuning", f"trial{trial}") if trial is not None else ("runs",)
        key = "/".join((parts[0], *map(slug, (pair, setting, method)), *parts[1:], f"seed{seed}"))
        network = self.study.pairs[pair].student
        run = self._base(place, network, network.set)
        run["methods"] = list(entry.methods)
        if entry.label_weight is not None:
            run["label_weight"] = entry.label_weight
        for layer in (entry.set, of_run(entry.pairs.get(pair, {})), of_run(values), of_run(tuned or {})):
            run = merge(run, layer)
        needs = _needs(run["methods"], f"method {method}")
        without = run.get("data_free") is not None
        teacher = self._teacher(entry, pair, place, method, seed, bool(needs) or without)
        if teacher is None:
            run["teacher"] = None
        else:
            run["teacher"] = merge(run.get("teacher") or {}, {"run": str(self.folder / teacher)})
            if without or needs - {"logits"}:  # remembered answers are logits only
                run["teacher"]["cache"] = "none"
        config = self._parsed(key, run, seed, group_name(pair, setting), method)
        kind: Literal["student", "tuning"] = "student" if trial is None else "tuning"
        shown = {**values, **(tuned or {})}
        return Cell(key, kind, config, pair, setting, method, seed, shown, teacher, trial)

    def _teacher(
        self, entry: EntryConfig, pair: str, place: Point, method: str, seed: int, needed: bool
    ) -> str | None:
        who = entry.teacher if entry.teacher is not None else ("pair" if needed else "none")
        if who == "none":
            return None
        if isinstance(who, Earlier):
            if who.method not in self.methods or seed not in self.study.seeds or self._circular(method):
                raise ConfigError(
                    f"method {method} cannot be taught by method {who.method}",
                    expected="another, untuned method that is not taught by this one in turn",
                )
            return "/".join(("runs", *map(slug, (pair, place.name, who.method)), f"seed{seed}"))
        networks = self.study.pairs[pair]
        network = networks.student if who == "self" else networks.teacher if who == "pair" else who
        if not isinstance(network, Network):
            raise ConfigError(
                f"method {method} needs a teacher, but pair {pair} has none", fix=f"set pairs.{pair}.teacher"
            )
        seeds = self.study.teacher.seeds
        position = self.study.seeds.index(seed) if seed in self.study.seeds else seed
        # the student's own training settings are not a teacher's: only those of networks named as teachers are
        own = {} if who == "self" else network.set
        return self.teacher(network, own, pair, place, seeds[position % len(seeds)], split=seed).key

    def _circular(self, method: str) -> bool:
        seen: list[str] = []
        while isinstance(teacher := self.methods[method][0].teacher, Earlier):
            if teacher.method in seen:
                return True
            seen.append(method := teacher.method)
        return False

    def teacher(
        self, network: Network, own: Overrides, pair: str, place: Point, seed: int, split: int | None = None
    ) -> Cell:
        """A teacher's run; equal configurations are one run.

        It learns from labels, or by the methods that the network's own ``set`` names. Where every seed has splits of
        its own (``data.split_seed: null``), those are its student's.
        """
        run = self._base(place, network, self.study.teacher.set)
        run = merge(run, own)
        run |= {"methods": own.get("methods", []), "label_weight": own.get("label_weight")}
        run |= {"teacher": None, "data_free": None, "bayes": own.get("bayes")}
        if needs := _needs(run["methods"], f"teacher {network.name}"):
            raise ConfigError(
                f"the teacher {network.name} would need a teacher", got=", ".join(sorted(needs)),
                fix="train it by methods without one, or name an earlier method of the study",
            )  # fmt: skip
        data = run.get("data")
        if split is not None and isinstance(data, Mapping) and data.get("split_seed", 0) is None:
            run["data"] = {**data, "split_seed": split}
        digest = hashlib.sha256(json.dumps([run, seed], sort_keys=True).encode()).hexdigest()[:8]
        key = f"teachers/{slug(network.name)}-seed{seed}-{digest}"
        if key not in self.teachers:
            config = self._parsed(key, run, seed, "teachers", None)
            self.teachers[key] = Cell(key, "teacher", config, pair, place.name, network.name, seed)
        return self.teachers[key]

    def _base(self, place: Point, network: Network, own: Overrides) -> Overrides:
        run: Overrides = {"train": {"threads": 1}}
        for layer in (self.study.base, {"student": network.model}, place.overrides, own):
            run = merge(run, layer)
        return run

    def _parsed(self, key: str, run: Overrides, seed: int, group: str, title: str | None) -> RunConfig:
        whole = {**run, "seed": seed, "group": group, "title": title, "output": str(self.folder / key)}
        try:
            return parse(whole)
        except LimbeckError as error:
            raise ConfigError(f"the run {key} of the study cannot be: {error}") from None


def group_name(pair: str, setting: str) -> str:
    """What a comparison is called.

    Example:
        >>> group_name("small", "default"), group_name("small", "noisy")
        ('small', 'small · noisy')
    """
    return pair if setting == DEFAULT else f"{pair} · {setting}"


def slug(name: str) -> str:
    """A name as part of a path.

    Example:
        >>> slug("KD (tuned) temperature=2.0")
        'KD-tuned-temperature=2.0'
    """
    return re.sub(r"[^\w.=+-]+", "-", name).strip("-.") or "unnamed"


def sweep(axes: Mapping[str, list[Any]]) -> list[tuple[str, Overrides]]:
    """All combinations of swept values, each with its name; a value may be a mapping of several overrides.

    Example:
        >>> sweep({"methods.0.temperature": [1, 4]})
        [('temperature=1', {'methods.0.temperature': 1}), ('temperature=4', {'methods.0.temperature': 4})]
        >>> sweep({"alpha": [{"weight": 0.9, "label_weight": 0.1}]})
        [('alpha=0.9', {'weight': 0.9, 'label_weight': 0.1})]
    """
    found = []
    for values in itertools.product(*axes.values()):
        chosen: Overrides = {}
        names = []
        for key, value in zip(axes, values, strict=True):
            chosen |= value if isinstance(value, Mapping) else {key: value}
            shown = next(iter(value.values()), None) if isinstance(value, Mapping) else value
            names.append(f"{key.rpartition('.')[2]}={shown}")
        found.append((" ".join(names), chosen))
    return found


def of_run(values: Overrides) -> Overrides:
    """Overrides of a run; a key that a run does not have is an option of its first method.

    Example:
        >>> of_run({"temperature": 4, "train.epochs": 2, "label_weight": 0})
        {'methods.0.temperature': 4, 'train.epochs': 2, 'label_weight': 0}
    """
    known = set(RunConfig.model_fields)
    return {k if k.partition(".")[0] in known else f"methods.0.{k}": v for k, v in values.items()}


def _joined(name: str, suffix: str) -> str:
    if not suffix:
        return name
    return suffix if name == DEFAULT else f"{name} {suffix}"


def _needs(methods: list[Any], where: str) -> frozenset[str]:
    """What the methods need of a teacher; makes each of them, so that a wrong option is told at once."""
    from ..config import MethodConfig, check
    from ..methods import resolve

    found: set[str] = set()
    for value in methods:
        method = check(MethodConfig, value, where)
        try:
            found |= resolve(method.name, method.options).needs
        except LimbeckError as error:
            raise ConfigError(f"{where} of the study: {error}") from None
    return frozenset(found)
