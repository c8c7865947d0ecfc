"""From a study's run folders to its numbers: rows, comparisons, ranking. Reads; never trains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import RunError
from ..files import write_json
from ..runs import Run
from .config import StudyConfig
from .grid import Cell, Grid, group_name
from .statistics import Interval, Verdict, holm, mean_interval, summarise

FORMAT = 1

LOWER_IS_BETTER = frozenset(
    {
        "nll",
        "perplexity",
        "error_rate",
        "ece",
        "brier",
        "teacher_kl",
        "class_orthogonality",
        "rmse",
        "seconds",
    }
)
"""Metrics of which less is more; of all others more is."""

LEARNED = ("processor_seconds", "tokens", "acceptance_rate", "replaced_fraction", "tokens_per_pass")
"""What training took: seconds of processors; of text also supervised tokens, and how sampled texts came to be."""

NEUTRAL = frozenset({"entropy", "entropy_fraction", "confidence", *LEARNED})
"""Metrics of which neither more nor less is better; a difference is "higher" or "lower"."""

FAIR_TIME = 0.02
"""An extra time below this share of the baseline's is measurement noise, and no effect is divided by it."""

Scores = dict[str, dict[int, float]]


def collect(study: StudyConfig, failures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything that ``study.json`` holds.

    Args:
        study: the study; its folder is read.
        failures: error by cell key of runs that failed in this process.
    """
    from .tuning import chosen, read_tuning

    grid = Grid(study)
    tuned = read_tuning(study)
    students = grid.students(chosen(tuned))
    cells = [*grid.teachers.values(), *students]
    rows = [row(cell, study.folder, (failures or {}).get(cell.key)) for cell in cells]
    count = {
        status: sum(r["status"] == status for r in rows)
        for status in dict.fromkeys(r["status"] for r in rows)
    }
    return {
        "format": FORMAT,
        "limbeck": __version__,
        "name": study.name,
        "description": study.description,
        "config": study.model_dump(mode="json", exclude={"output"}),
        "axes": {
            "pairs": list(study.pairs),
            "settings": [point.name for point in grid.settings],
            "methods": list(grid.methods),
            "seeds": list(study.seeds),
        },
        "baselines": [name for name in study.baselines if name in grid.methods],
        "metrics": {name: {"higher_is_better": better(name)} for name in study.metrics},
        "level": study.level,
        "runs": count,
        "seconds": sum(r["seconds"] or 0.0 for r in rows) + sum(t["seconds"] for t in tuned),
        "rows": rows,
        "comparisons": [
            compare(study, rows, pair, setting, metric)
            for pair, setting in grid.groups
            for metric in study.metrics
        ],
        "ranking": ranking(study, rows, list(grid.methods)),
        "tuning": tuned,
    }


def better(metric: str) -> bool | None:
    """Whether more of a metric is better; None for a neutral one.

    Example:
        >>> better("accuracy"), better("nll"), better("entropy")
        (True, False, None)
    """
    return None if metric in NEUTRAL else metric not in LOWER_IS_BETTER


def row(cell: Cell, folder: Path, error: str | None = None) -> dict[str, Any]:
    """One run of the study as plain values; metrics are those of ``results.json``."""
    found: dict[str, Any] = {
        "key": cell.key,
        "kind": cell.kind,
        "pair": cell.pair,
        "setting": cell.setting,
        "group": cell.group,
        "method": cell.method,
        "seed": cell.seed,
        "values": cell.values,
        "path": cell.key,
        "teacher": cell.teacher,
        "status": "missing",
        "error": error,
        "seconds": None,
        "steps": None,
        "epochs": None,
        "parameters": None,
        "reconstructed": None,
        "last": None,
        "best": None,
        "cost": None,
        "learned": None,
    }
    if not (folder / cell.key / "run.json").is_file():
        return found if error is None else {**found, "status": "failed"}
    try:
        run = Run(folder / cell.key)
        info = run.info
        results = run.results if info["status"] == "finished" else {}
    except RunError as damage:
        return {**found, "status": "damaged", "error": str(damage)}
    return {
        **found,
        "status": "failed" if error is not None else info["status"],
        "error": error or (info.get("reason") if info["status"] == "failed" else None),
        **{key: info[key] for key in ("seconds", "steps", "epochs", "reconstructed")},
        "parameters": info["student"]["parameters"],
        "last": results.get("last"),
        "best": results.get("best"),
        "cost": results.get("cost"),
        "learned": info.get("learned"),
    }


def scores(rows: Sequence[Mapping[str, Any]], pair: str, setting: str, metric: str) -> Scores:
    """A test metric of the last epoch by method and seed, from finished students.

    ``seconds`` is training time; those of ``LEARNED`` are of training too.
    """
    found: Scores = {}
    for r in rows:
        if (r["kind"], r["pair"], r["setting"], r["status"]) == ("student", pair, setting, "finished"):
            of = (
                r
                if metric == "seconds"
                else (r.get("learned") or {})
                if metric in LEARNED
                else r["last"]["test"]
            )
            value = of.get(metric)
            if value is not None:
                found.setdefault(r["method"], {})[r["seed"]] = float(value)
    return found


def compare(
    study: StudyConfig, rows: Sequence[Mapping[str, Any]], pair: str, setting: str, metric: str
) -> dict[str, Any]:
    """One group's comparison on one metric: every method's interval, and its verdict against each baseline."""
    higher = better(metric)
    values = scores(rows, pair, setting, metric)
    seconds = scores(rows, pair, setting, "seconds")
    found = summarise(values, study.baselines, higher is not False, study.level)
    corrected = {
        base: holm({r.label: r.verdicts[base].p for r in found if base in r.verdicts})
        for base in study.baselines
    }
    methods = []
    for r in found:
        against = {
            base: judge(verdict, corrected[base][r.label], seconds, r.label, base, higher, study.level)
            for base, verdict in r.verdicts.items()
        }
        methods.append(
            {
                "method": r.label,
                **interval(r.interval),
                "values": {str(seed): plain(value) for seed, value in values[r.label].items()},
                "seconds": interval(mean_interval(list(seconds[r.label].values()), study.level)),
                "failed": list(r.failed),
                "against": against,
            }
        )
    return {
        "pair": pair,
        "setting": setting,
        "group": group_name(pair, setting),
        "metric": metric,
        "higher_is_better": higher,
        "methods": methods,
    }


_NEUTRALLY = {"helped": "higher", "hurt": "lower", "no evidence": "no evidence"}


def judge(
    found: Verdict, p: float, seconds: Scores, method: str, base: str, higher: bool | None, level: float
) -> dict[str, Any]:
    """A verdict with Holm's correction, and the effect per extra second of training.

    ``verdict`` is "helped" or "hurt" ("higher" or "lower" for a neutral metric) if the corrected p is below
    ``1 - level``, else "no evidence"; ``alone`` is what the comparison would say if it were the only one.
    """
    alone = found.text if higher is not None else _NEUTRALLY[found.text]
    reason = found.reason if higher is not None else found.reason.partition(": ")[0]
    holds = math.isfinite(p) and p < 1 - level
    common = [seed for seed in seconds[method] if seed in seconds[base]]
    extra = (
        math.fsum(seconds[method][s] - seconds[base][s] for s in common) / len(common) if common else math.nan
    )
    spent = math.fsum(seconds[base][s] for s in common) / len(common) if common else math.nan
    costs = extra > FAIR_TIME * spent
    return {
        **interval(found.interval),
        "verdict": alone if holds else "no evidence",
        "alone": alone,
        "p": plain(found.p),
        "p_holm": plain(p),
        "reason": reason if holds or found.text == "no evidence" else "not after correction for all methods",
        "unpaired": list(found.unpaired),
        "extra_seconds": plain(extra),
        "per_extra_second": plain(found.interval.mean / extra) if costs else None,
    }


def ranking(
    study: StudyConfig, rows: Sequence[Mapping[str, Any]], methods: Sequence[str]
) -> dict[str, Any] | None:
    """Mean ranks of the methods over groups and seeds (1 is best), with Friedman's test and Nemenyi's distance.

    A block is a group and a seed in which every method has a finite value of the first metric. Two mean ranks
    that lie further apart than ``critical_distance`` differ at the study's level (Demsar 2006). None with
    fewer than three methods or two blocks.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    metric = study.metrics[0]
    blocks = []
    for pair, setting in dict.fromkeys((r["pair"], r["setting"]) for r in rows if r["kind"] == "student"):
        values = scores(rows, pair, setting, metric)
        for seed in study.seeds:
            block = [values.get(method, {}).get(seed, math.nan) for method in methods]
            if all(map(math.isfinite, block)):
                blocks.append(block)
    k, n = len(methods), len(blocks)
    if k < 3 or n < 2:
        return None
    sign = 1 if metric in LOWER_IS_BETTER else -1
    ranks = [rankdata([sign * value for value in block]) for block in blocks]
    mean = {method: float(sum(r[i] for r in ranks)) / n for i, method in enumerate(methods)}
    different = any(len(set(block)) > 1 for block in blocks)
    statistic, p = friedmanchisquare(*zip(*blocks)) if different else (0.0, 1.0)
    q = float(studentized_range.ppf(study.level, k, math.inf)) / math.sqrt(2)
    return {
        "metric": metric,
        "blocks": n,
        "mean_rank": dict(sorted(mean.items(), key=lambda item: item[1])),
        "friedman": {"statistic": plain(float(statistic)), "p": plain(float(p))},
        "critical_distance": q * math.sqrt(k * (k + 1) / (6 * n)),
    }


def interval(found: Interval) -> dict[str, Any]:
    """An interval as plain values."""
    return {"mean": plain(found.mean), "low": plain(found.low), "high": plain(found.high), "n": found.n}


def plain(value: float) -> float | None:
    """A number that JSON knows; None for one that is not finite."""
    return value if math.isfinite(value) else None


def write(study: StudyConfig, failures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write ``study.json``, ``results.csv`` and ``results.tex`` into the study's folder."""
    from . import tables

    found = collect(study, failures)
    write_json(study.folder / "study.json", found)
    tables.write_csv(found, study.folder / "results.csv")
    tables.write_tex(found, study.folder / "results.tex")
    return found


def read_results(folder: Path) -> dict[str, Any]:
    """What ``write`` wrote.

    Raises:
        RunError: there is none, it is damaged, or it is of another format.
    """
    path = folder / "study.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
    except FileNotFoundError:
        raise RunError(
            f"no study in {folder}", expected="a folder with study.json", fix="check the path"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}", fix=f"limbeck study {folder} --results") from None
    return found
