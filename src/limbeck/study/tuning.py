"""Tuning: the same budget for every method, spent on the validation split, on seeds of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig, dump, parse
from ..errors import RunError
from ..files import write_json, write_text
from ..methods import resolve
from ..runs import Run
from .config import Overrides, StudyConfig, merge
from .grid import Cell, Grid, of_run
from .results import LOWER_IS_BETTER, plain
from .runner import ALONE, Crew, Options
from .space import GridSearch, Range, Search, Space, Trial, parse_space, search

Chosen = dict[tuple[str, str, str], Overrides]
"""Tuned overrides by pair, data setting and method."""


class Tuner:
    """One search: proposes trials, makes their cells, and remembers what came out.

    Args:
        find: who proposes.
        cells: the runs of a trial, one for each tuning seed.
        metric: of the validation split.
    """

    def __init__(self, find: Search, cells: Callable[[Trial], list[Cell]], metric: str) -> None:
        self.find, self.cells, self.metric = find, cells, metric
        self.trials: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._asked: list[tuple[Trial, list[Cell]]] = []

    def ask(self) -> list[Cell]:
        """Cells of the next trials; none when the budget is spent."""
        self._asked = [(trial, self.cells(trial)) for trial in self.find.ask()]
        return [cell for _, cells in self._asked for cell in cells]

    def tell(self) -> None:
        """Read what the asked cells came to."""
        for trial, cells in self._asked:
            values = {cell.seed: self._value(cell) for cell in cells}
            known = [value for value in values.values() if value is not None]
            mean = math.fsum(known) / len(known) if len(known) == len(values) else None
            sign = -1 if self.metric in LOWER_IS_BETTER else 1
            self.find.tell(trial, None if mean is None else sign * mean)
            self.trials.append(
                {
                    "number": trial.number,
                    "values": trial.values,
                    "validation": {str(seed): value for seed, value in values.items()},
                    "mean": mean,
                    "paths": [cell.key for cell in cells],
                }
            )
        self._asked = []

    def _value(self, cell: Cell) -> float | None:
        if not (cell.folder / "run.json").is_file():
            return None
        run = Run(cell.folder)
        if run.status != "finished":
            return None
        self.seconds += float(run.info["seconds"])
        value = run.results["last"]["validation"].get(self.metric)
        return None if value is None else plain(float(value))

    @property
    def best(self) -> dict[str, Any] | None:
        """The trial with the best mean over tuning seeds, the first of equals; None if all failed."""
        done = [trial for trial in self.trials if trial["mean"] is not None]
        sign = -1 if self.metric in LOWER_IS_BETTER else 1
        return max(done, key=lambda trial: sign * trial["mean"], default=None)


def run_all(tuners: Sequence[Tuner], train: Callable[[list[Cell]], None]) -> None:
    """Let all searches go on side by side until their budgets are spent."""
    while cells := [cell for tuner in tuners for cell in tuner.ask()]:
        train(cells)
        for tuner in tuners:
            tuner.tell()


def runs(grid: Grid) -> int:
    """Runs that tuning takes."""
    settings = grid.study.tuning
    if settings is None:
        return 0
    groups = len(grid.groups) if settings.scope == "group" else 1
    trials = 0
    for origin in grid.origin.values():
        if (values := settings.space.get(origin)) is not None:
            space = parse_space(values, f"tuning.space.{origin}")
            lists = {key: axis for key, axis in space.items() if isinstance(axis, list)}
            full = len(lists) == len(space)
            trials += len(GridSearch(lists, settings.trials, 0).ask()) if full else settings.trials
    return groups * trials * len(settings.seeds)


def tune(grid: Grid, crew: Crew) -> Chosen:
    """Tune a study's methods and write ``tuning.json``."""
    study = grid.study
    settings = study.tuning
    assert settings is not None
    metric = study.metrics[0]
    groups = grid.groups if settings.scope == "group" else grid.groups[:1]
    made: list[dict[str, Any]] = []
    starts: dict[tuple[str, str], Overrides] = {}
    order = [[settings.first or ""], [n for n in study.methods if n != settings.first]]
    for names in order if settings.first else order[1:]:
        methods = [method for method, origin in grid.origin.items() if origin in names]
        places = [(group, method) for group in groups for method in methods]
        tuners: dict[tuple[tuple[str, str], str], Tuner] = {}
        for group, method in places:
            if (space := settings.space.get(grid.origin[method])) is not None:
                tuners[group, method] = _tuner(grid, group, method, space, starts.get(group, {}))
        run_all(list(tuners.values()), lambda cells: crew.train(cells, grid.teachers))
        for group, method in places:
            start = starts.get(group, {})
            tuner = tuners.get((group, method))
            best = None if tuner is None else tuner.best
            if tuner is not None and best is None:
                raise RunError(
                    f"every tuning trial of {method} in {' · '.join(group)} failed",
                    got=crew.failures.get(tuner.trials[0]["paths"][0]) if tuner.trials else "no trial",
                    fix="mend its space or its options",
                )
            made.append(
                {
                    "pair": group[0],
                    "setting": group[1],
                    "method": method,
                    "metric": metric,
                    "budget": settings.trials,
                    "seeds": list(settings.seeds),
                    "space": settings.space.get(grid.origin[method]),
                    "trials": [] if tuner is None else tuner.trials,
                    "chosen": {**start, **(best["values"] if best else {})},
                    "chosen_trial": best["number"] if best else None,
                    "edges": []
                    if best is None
                    else edges(settings.space[grid.origin[method]], best["values"]),
                    "seconds": 0.0 if tuner is None else tuner.seconds,
                    "applies_to": [list(g) for g in ([group] if settings.scope == "group" else grid.groups)],
                }
            )
            if method == settings.first and best is not None:
                known = RunConfig.model_fields
                starts[group] = {k: v for k, v in best["values"].items() if k.partition(".")[0] in known}
        write_json(study.folder / "tuning.json", made)
    return chosen(made)


def _tuner(
    grid: Grid, group: tuple[str, str], method: str, values: dict[str, Any], start: Overrides
) -> Tuner:
    study = grid.study
    settings = study.tuning
    assert settings is not None
    space = parse_space(values, f"tuning.space.{grid.origin[method]}")
    name = "/".join((*group, method))
    journal = study.folder / "tuning" / "optuna.journal"
    find = search(space, settings.trials, settings.sampler_seed, journal, name)

    def cells(trial: Trial) -> list[Cell]:
        tuned = {**start, **trial.values}
        return [grid.student(*group, method, seed, tuned, trial.number) for seed in settings.seeds]

    return Tuner(find, cells, study.metrics[0])


def edges(space: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Keys whose chosen value is the first or last of a numeric list of three or more: the best may lie outside.

    Example:
        >>> edges({"temperature": [1, 2, 4]}, {"temperature": 4})
        ['temperature']
    """
    found = []
    for key, axis in space.items():
        if not isinstance(axis, list) or len(axis) < 3 or not all(isinstance(v, (int, float)) for v in axis):
            continue
        if values.get(key) in (min(axis), max(axis)):
            found.append(key)
    return found


def read_tuning(study: StudyConfig) -> list[dict[str, Any]]:
    """What tuning found so far; empty for a study without tuning."""
    path = study.folder / "tuning.json"
    if study.tuning is None or not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise ValueError("it is not a list")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}", fix="delete it and run the study again") from None
    return found


def chosen(tuned: Sequence[Mapping[str, Any]]) -> Chosen:
    """The tuned overrides, for every group that they apply to."""
    return {(*group, t["method"]): dict(t["chosen"]) for t in tuned for group in t["applies_to"]}


def tune_run(
    config: RunConfig,
    space: Space,
    *,
    trials: int,
    seeds: Sequence[int],
    folder: Path,
    metric: str = "accuracy",
    options: Options = ALONE,
) -> dict[str, Any]:
    """Search for the overrides of a run's configuration that do best on its validation split.

    Args:
        config: the run.
        space: what may be chosen; a key that a run does not have is an option of its first method.
        trials: how many.
        seeds: each trial is the mean over them.
        folder: where trials, ``trials.json`` and ``best.yaml`` go; a stopped search goes on there.
        metric: of the validation split.
        options: how to run.

    Returns:
        What ``trials.json`` holds.

    Raises:
        ConfigError: a trial's configuration is wrong.
        RunError: every trial failed, or the folder holds another search.
    """
    plain_space = {
        key: list(axis) if not isinstance(axis, Range) else f"{axis.low}..{axis.high}" + _kind(axis)
        for key, axis in space.items()
    }
    find = search(space, trials, config.seed, folder / "optuna.journal", "tune")
    start = config.model_dump(mode="json")

    def cells(trial: Trial) -> list[Cell]:
        values = merge(start, of_run(trial.values))
        made = []
        for seed in seeds:
            key = f"trial{trial.number}/seed{seed}"
            more = {"seed": seed, "output": str(folder / key), "title": f"trial {trial.number}"}
            run = parse({**values, **more, "group": "tuning"})
            for method in run.methods:
                resolve(method.name, method.options)  # a wrong option is told before anything is trained
            made.append(
                Cell(
                    key,
                    "tuning",
                    run,
                    "tuning",
                    "default",
                    config.label,
                    seed,
                    trial.values,
                    None,
                    trial.number,
                )
            )
        return made

    tuner = Tuner(find, cells, metric)
    planned = trials * len(seeds)
    crew = Crew(folder, options, metric, again="the same command", planned=planned)
    with crew.working():
        run_all([tuner], crew.train)
    best = tuner.best
    if best is None:
        raise RunError(
            "every trial failed",
            got=next(iter(crew.failures.values()), None),
            fix="mend the space or the configuration",
        )
    found = {
        "metric": f"validation {metric}",
        "space": plain_space,
        "seeds": list(seeds),
        "trials": tuner.trials,
        "best": best,
        "seconds": tuner.seconds,
        "failures": crew.failures,
    }
    write_json(folder / "trials.json", found)
    keep = {"output": config.output, "title": config.title, "group": config.group, "seed": config.seed}
    write_text(folder / "best.yaml", dump(parse({**merge(start, of_run(best["values"])), **keep})))
    return found


def _kind(axis: Range) -> str:
    kind = "log" * axis.log + "int" * axis.integer
    return f":{kind}" if kind else ""
