"""``study.json``, checked: nothing in it is trusted."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from ...errors import RunError
from ...study.results import read_results
from ...study.statistics import Interval
from ..records import Measured

Number = FiniteFloat | None
Verdict = Literal["helped", "no evidence", "hurt", "higher", "lower"]


def _below(path: str) -> str:
    """A run lies below its study, whoever wrote the file."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise ValueError("a run's path must lie below the study's folder")
    return path


Below = Annotated[str, AfterValidator(_below)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Spread(_Part):
    """A mean with its interval; null ends where one value alone leaves them unknown."""

    mean: Number = None
    low: Number = None
    high: Number = None
    n: int = 0

    @staticmethod
    def of(found: Interval) -> Spread:
        """An interval with null for NaN."""
        mean, low, high = (None if math.isnan(v) else v for v in found[:3])
        return Spread(mean=mean, low=low, high=high, n=found.n)

    @property
    def interval(self) -> Interval:
        """The same with NaN for null."""
        mean, low, high = (float("nan") if v is None else v for v in (self.mean, self.low, self.high))
        return Interval(mean, low, high, self.n)


class Against(Spread):
    """A paired difference to a baseline and the verdict on it."""

    verdict: Verdict
    alone: Verdict
    p: Number = None
    p_holm: Number = None
    reason: str = ""
    unpaired: tuple[int, ...] = ()
    extra_seconds: Number = None
    per_extra_second: Number = None


class Method(Spread):
    """One method of a comparison: its interval over seeds, and its verdict against each baseline."""

    method: str
    values: dict[int, Number]
    seconds: Spread = Spread()
    failed: tuple[int, ...] = ()
    against: dict[str, Against] = {}


class Comparison(_Part):
    """One group on one metric."""

    pair: str
    setting: str
    group: str
    metric: str
    higher_is_better: bool | None
    methods: tuple[Method, ...]

    def of(self, method: str) -> Method | None:
        """One method's line."""
        return next((m for m in self.methods if m.method == method), None)


class Row(_Part):
    """One run of a teacher or a student."""

    key: Below
    kind: Literal["student", "teacher"]
    pair: str
    setting: str
    group: str
    method: str
    seed: int
    values: dict[str, Any] = {}
    teacher: str | None = None
    status: str
    error: str | None = None
    seconds: Number = None
    epochs: int | None = None
    steps: int | None = None
    parameters: int | None = None
    reconstructed: bool | None = None
    last: Measured | None = None
    best: Measured | None = None


class Friedman(_Part):
    """Friedman's test that all methods rank alike."""

    statistic: Number = None
    p: Number = None


class Ranking(_Part):
    """Mean ranks over groups and seeds."""

    metric: str
    blocks: int
    mean_rank: dict[str, FiniteFloat]
    friedman: Friedman
    critical_distance: FiniteFloat


class Trial(_Part):
    """One trial of a search."""

    number: int
    values: dict[str, Any]
    validation: dict[int, Number]
    mean: Number = None
    paths: tuple[Below, ...] = ()


class Tuning(_Part):
    """One search, and the groups that take what it found."""

    pair: str
    setting: str
    method: str
    metric: str
    budget: int
    seeds: tuple[int, ...] = ()
    trials: tuple[Trial, ...] = ()
    chosen: dict[str, Any] = {}
    chosen_trial: int | None = None
    edges: tuple[str, ...] = ()
    seconds: Number = None
    applies_to: tuple[tuple[str, str], ...] = ()


class Axes(_Part):
    """Names on the axes of the grid, in order."""

    pairs: tuple[str, ...]
    settings: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]


class Study(_Part):
    """All of ``study.json``."""

    limbeck: str = ""
    name: str
    description: str = ""
    config: dict[str, Any] = {}
    axes: Axes
    baselines: tuple[str, ...] = ()
    metrics: dict[str, Any]
    level: float = 0.95
    runs: dict[str, int] = {}
    seconds: Number = None
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    ranking: Ranking | None = None
    tuning: tuple[Tuning, ...] = ()

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return next(iter(self.metrics))

    @property
    def groups(self) -> tuple[Comparison, ...]:
        """The comparisons on the deciding metric, one per group."""
        return tuple(c for c in self.comparisons if c.metric == self.metric)

    def on(self, group: Comparison, metric: str) -> Comparison | None:
        """The comparison of the same group on another metric."""
        where = (group.pair, group.setting, metric)
        return next((c for c in self.comparisons if (c.pair, c.setting, c.metric) == where), None)

    def of(self, group: Comparison) -> list[Row]:
        """The students of a group."""
        return [
            row for row in self.students.values() if (row.pair, row.setting) == (group.pair, group.setting)
        ]

    @cached_property
    def students(self) -> dict[tuple[str, str, str, int], Row]:
        """Rows of students by pair, setting, method and seed."""
        return {(r.pair, r.setting, r.method, r.seed): r for r in self.rows if r.kind == "student"}


def whole_characters(value: Any) -> Any:
    """A value from JSON without halves of characters, which cannot be drawn.

    Example:
        >>> whole_characters({"a": ["b\\ud800", 1]})
        {'a': ['b?', 1]}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(item) for key, item in value.items()}
    return value


def is_study(path: Path) -> bool:
    """Whether a folder holds the results of a study."""
    return (path / "study.json").is_file()


def read_study(folder: Path | str) -> Study:
    """Read and check ``study.json``.

    Raises:
        RunError: there is none, or it is damaged; the message names the file, the place and the fix.

    Example:
        >>> read_study("runs/none")
        Traceback (most recent call last):
        limbeck.errors.RunError: no study in runs/none; expected a folder with study.json. Fix: check the path
    """
    folder = Path(folder)
    try:
        study = Study.model_validate(whole_characters(read_results(folder)))
        if not study.metrics:
            raise ValueError("metrics: there is none")
        return study
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        problem = str(error)
    raise RunError(f"{folder / 'study.json'} is damaged: {problem}", fix=f"limbeck study {folder} --results")
