"""What tuning may choose from: lists, ranges, and who proposes."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..config import load_yaml
from ..errors import ConfigError, DependencyError
from ..seeds import derive
from .config import Overrides


class Range(NamedTuple):
    """Numbers from low to high, both included; on a logarithmic scale, or whole, where it says so."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


Space = dict[str, list[Any] | Range]


def parse_space(values: Mapping[str, Any], where: str = "the space") -> Space:
    """Check a space: each key has a list of values or a range ``low..high``, ``:log``, ``:int`` or ``:logint``.

    Raises:
        ConfigError: names the key.

    Example:
        >>> parse_space({"temperature": [1, 4], "weight": "0.1..10:log"})
        {'temperature': [1, 4], 'weight': Range(low=0.1, high=10.0, log=True, integer=False)}
    """
    if not values:
        raise ConfigError(f"{where} is empty", expected="keys with lists or ranges of values")
    return {key: _axis(key, value, where) for key, value in values.items()}


def _axis(key: str, value: Any, where: str) -> list[Any] | Range:
    expected = "a list of values, or low..high with :log, :int or :logint behind it, such as 1e-3..1:log"
    if isinstance(value, list) and value:
        return value
    parts = (
        re.fullmatch(r"\s*(.+?)\.\.(.+?)(?::(log|int|logint))?\s*", value) if isinstance(value, str) else None
    )
    if parts is None:
        raise ConfigError(f"{where}: {key} has no values", got=repr(value), expected=expected)
    try:
        low, high = float(parts[1]), float(parts[2])
    except ValueError:
        raise ConfigError(f"{where}: {key} has no values", got=repr(value), expected=expected) from None
    kind = parts[3] or ""
    found = Range(low, high, "log" in kind, "int" in kind)
    if not low < high or (found.log and low <= 0) or (found.integer and (low % 1 or high % 1)):
        raise ConfigError(
            f"{where}: {key} is no range",
            got=repr(value),
            expected="low below high, above 0 for log, whole numbers for int",
        )
    return found


def parse_words(words: list[str]) -> Space:
    """A space from the command line: ``key=low..high[:log]`` or ``key=[a, b]``.

    Example:
        >>> parse_words(["temperature=1..8:log", "methods.0.weight=[0.5, 0.9]"])
        {'temperature': Range(low=1.0, high=8.0, log=True, integer=False), 'methods.0.weight': [0.5, 0.9]}
    """
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"not a space: {word!r}", expected="key=low..high[:log] or key=[a, b]")
        values[key] = load_yaml(text)
    return parse_space(values, "--space")


class Trial(NamedTuple):
    """A proposal: its number and the overrides that it stands for."""

    number: int
    values: Overrides


@runtime_checkable
class Search(Protocol):
    """Proposes trials."""

    def ask(self) -> list[Trial]:
        """The next trials, which may run side by side; none when the budget is spent."""
        ...

    def tell(self, trial: Trial, value: float | None) -> None:
        """The value of a trial, higher is better; None if it failed."""
        ...


class GridSearch:
    """All combinations of lists, or a seeded draw of as many as there are trials, all at once.

    Example:
        >>> search = GridSearch({"a": [1, 2], "b": [3]}, trials=8, seed=0)
        >>> search.ask()
        [Trial(number=0, values={'a': 1, 'b': 3}), Trial(number=1, values={'a': 2, 'b': 3})]
        >>> search.ask()
        []
    """

    def __init__(self, space: Mapping[str, list[Any]], trials: int, seed: int) -> None:
        points = [_values(space, picked) for picked in itertools.product(*space.values())]
        if len(points) > trials:
            kept = sorted(random.Random(seed).sample(range(len(points)), trials))
            points = [points[i] for i in kept]
        self._trials = [Trial(number, values) for number, values in enumerate(points)]

    def ask(self) -> list[Trial]:
        """All trials, once."""
        asked, self._trials = self._trials, []
        return asked

    def tell(self, trial: Trial, value: float | None) -> None:
        """A grid learns nothing."""


class OptunaSearch:
    """Optuna's tree-structured Parzen estimator, one trial at a time, kept in a journal file.

    The sampler of each trial is seeded with its number, so a search that was stopped goes on as one that was not.

    Raises:
        DependencyError: optuna is not installed.
    """

    def __init__(self, space: Space, trials: int, seed: int, journal: Path, name: str) -> None:
        try:
            import optuna
        except ImportError:
            raise DependencyError(
                "a range is searched by optuna", fix="pip install 'limbeck[tune]', or give lists"
            ) from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._optuna: Any = optuna
        self._space, self._trials, self._seed = space, trials, seed
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
        self._next = 0

    def ask(self) -> list[Trial]:
        """The next trial: one of the journal, in order, before a new one."""
        number = self._next
        if number >= self._trials:
            return []
        self._next += 1
        known = self._study.get_trials(deepcopy=False)
        if number < len(known) and known[number].params.keys() == self._space.keys():
            return [Trial(number, self._overrides(known[number].params))]
        self._study.sampler = self._optuna.samplers.TPESampler(
            seed=derive(self._seed, number) % 2**32, n_startup_trials=max(2, self._trials // 4)
        )
        asked = self._study.ask(self._distributions())
        return [Trial(asked.number, self._overrides(asked.params))]

    def tell(self, trial: Trial, value: float | None) -> None:
        """Note the value in the journal, unless an earlier process did."""
        state = self._optuna.trial.TrialState
        if value is None:
            self._study.tell(trial.number, state=state.FAIL, skip_if_finished=True)
        else:
            self._study.tell(trial.number, value, skip_if_finished=True)

    def _distributions(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        kinds = self._optuna.distributions
        for key, axis in self._space.items():
            if not isinstance(axis, Range):
                made[key] = kinds.CategoricalDistribution(list(range(len(axis))))
            elif axis.integer:
                made[key] = kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            else:
                made[key] = kinds.FloatDistribution(axis.low, axis.high, log=axis.log)
        return made

    def _overrides(self, params: Mapping[str, Any]) -> Overrides:
        picked = [
            params[key] if isinstance(axis, Range) else axis[params[key]] for key, axis in self._space.items()
        ]
        return _values(self._space, picked)


def _values(space: Mapping[str, Any], picked: Any) -> Overrides:
    found: Overrides = {}
    for key, value in zip(space, picked, strict=True):
        found |= value if isinstance(value, Mapping) else {key: value}
    return found


def search(space: Space, trials: int, seed: int, journal: Path, name: str) -> Search:
    """A grid for lists, optuna where there is a range."""
    lists = {
        key: axis for key, axis in space.items() if isinstance(axis, list) and not isinstance(axis, Range)
    }
    if len(lists) == len(space):
        return GridSearch(lists, trials, derive(seed, json.dumps(lists, sort_keys=True)))
    return OptunaSearch(space, trials, seed, journal, name)
