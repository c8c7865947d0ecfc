"""The numbers of a comparison: one row per method, the same for the page and the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..study.statistics import Interval, Verdict, mean_interval, summarise
from .groups import BASELINES, Group, arrange, title
from .records import Measured, Record, Taught, number

Moment = Literal["last", "best"]

METRICS = (
    "miou", "ccc", "accuracy", "top5", "agreement", "nll", "ece", "class_orthogonality",
    "perplexity", "exact_match", "error_rate", "rouge_l",
)  # fmt: skip
COSTS = ("parameters", "flops", "latency_ms_1", "latency_ms_256")


@dataclass(frozen=True)
class Row:
    """One line of the comparison table.

    Attributes:
        group: runs of one group are compared with each other.
        label: the method's label; empty for a teacher.
        title: the name as shown; says "reconstructed" where it is.
        role: a student, or the teacher that the students are measured against.
        moment: the student of the last epoch, or of the epoch that was best on validation.
        records: the runs behind the numbers, by seed; for a teacher its own run, if that was read.
        values: mean with 95 % interval over seeds of ``accuracy``, ``agreement``, ``top5``, ``ece``, ``exact_match``,
            ``error_rate``, ``rouge_l`` (fractions), ``nll`` (nats), ``perplexity``, ``class_orthogonality`` (mean
            off-diagonal cosine), ``parameters``, ``flops``, ``latency_ms_1``, ``latency_ms_256`` and ``seconds``
            (training); what was not measured is absent.
        verdicts: on accuracy (mIoU of masks), paired by seed, by baseline label (``scratch``, ``kd``).
        failed: seeds whose accuracy is not finite.
    """

    group: str
    label: str
    title: str
    role: Literal["student", "teacher"]
    moment: Moment
    records: tuple[Record, ...]
    values: Mapping[str, Interval]
    verdicts: Mapping[str, Verdict]
    failed: tuple[int | str, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs behind the numbers."""
        return tuple(record.run.seed for record in self.records) if self.role == "student" else ()


def comparison(records: Sequence[Record], moment: Moment = "last") -> list[Row]:
    """One row per teacher and per method, group by group, from finished runs only.

    Args:
        records: runs as read by ``limbeck.report.read_all``, of any number of groups.
        moment: which student to judge; last-epoch and best-epoch numbers are never mixed.

    Returns:
        for each group its teachers, then scratch, KD and the other methods in the order given.
    """
    return [row for group in arrange(records) for row in rows(group, moment)]


def rows(group: Group, moment: Moment = "last") -> list[Row]:
    """The rows of one group; see ``comparison``."""
    by_seed = {
        label: {r.run.seed: _metric(r, moment, r.metric) for r in group.of(label) if _at(r, moment)}
        for label in group.labels
    }
    found = [_teacher(group, moment)] if group.teachers else []
    for summary in summarise({label: seeds for label, seeds in by_seed.items() if seeds}, BASELINES):
        runs = tuple(r for r in group.of(summary.label) if _at(r, moment))
        values = _means(runs, METRICS, lambda r, name: _metric(r, moment, name))
        values |= _means(runs, COSTS, _cost) | _means(
            runs, ("seconds",), lambda r, _: r.run.seconds or math.nan
        )
        name = title(summary.label, runs)
        found.append(
            Row(
                group.name,
                summary.label,
                name,
                "student",
                moment,
                runs,
                values,
                summary.verdicts,
                summary.failed,
            )
        )
    return found


def _teacher(group: Group, moment: Moment) -> Row:
    """One row for the teacher, or for all of them when every seed has its own."""
    values: dict[str, list[float]] = {}
    own = []
    for network, student, run in group.teachers:
        taught = student.results.teacher if student.results else None
        measured = (
            run.results.cost if run is not None and run.results else (taught.cost if taught else None) or {}
        )
        figures = _numbers(taught) | {k: v for k in COSTS if (v := number(measured.get(k))) is not None}
        if network.parameters is not None:
            figures["parameters"] = float(network.parameters)
        if run is not None:
            own.append(run)
            figures |= {"seconds": run.run.seconds} if run.run.seconds else {}
        for name, value in figures.items():
            values.setdefault(name, []).append(value)
    names = " / ".join(dict.fromkeys(network.name for network, _, _ in group.teachers))
    several = f"{len(group.teachers)} × " if len(group.teachers) > 1 else ""
    intervals = {name: mean_interval(column) for name, column in values.items()}
    return Row(group.name, "", f"Teacher ({several}{names})", "teacher", moment, tuple(own), intervals, {})


def _at(record: Record, moment: Moment) -> Measured | None:
    if record.results is None:
        return None
    return record.results.last if moment == "last" else record.results.best


def _metric(record: Record, moment: Moment, name: str) -> float:
    figures = _at(record, moment)
    value = None if figures is None else number(figures.test.get(name))
    return math.nan if value is None else value


def _cost(record: Record, name: str) -> float:
    value = number(record.results.cost.get(name)) if record.results else None
    if value is None and name == "parameters":
        value = number(record.run.student.parameters)
    return math.nan if value is None else value


def _means(
    runs: Sequence[Record], names: Sequence[str], get: Callable[[Record, str], float]
) -> dict[str, Interval]:
    columns = {name: [v for r in runs if math.isfinite(v := get(r, name))] for name in names}
    return {name: mean_interval(column) for name, column in columns.items() if column}


def _numbers(taught: Taught | None) -> dict[str, float]:
    test = taught.test if taught else {}
    return {name: v for name in METRICS if name != "agreement" and (v := number(test.get(name))) is not None}
