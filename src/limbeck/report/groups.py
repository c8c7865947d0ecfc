"""Which runs are compared with each other, which are left out, and what makes the comparison unfair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .records import Network, Record, number

TITLES = {
    "scratch": "From scratch",
    "kd": "KD",
    "dkd": "DKD",
    "dist": "DIST",
    "bickd": "BicKD",
    "cosine_similarity_kd": "Cosine-similarity KD",
    "label_smoothing": "Label smoothing",
}
"""How tables write a label; a label that is not here is shown as it is."""

BASELINES = ("scratch", "kd")

_FREE = {"name", "output", "seed", "group", "title"}
_FREE |= {
    f"train.{key}" for key in ("log_every", "checkpoint_every", "tensorboard", "workers", "threads", "guards")
}


@dataclass(frozen=True)
class Group:
    """Runs that are compared with each other.

    Attributes:
        name: the runs' common ``group``.
        counted: finished runs, one per label and seed, baselines first.
        left_out: the others, each with the reason.
        teachers: for each teacher, its name and size, a run that it taught, and its own run if that was read.
    """

    name: str
    counted: tuple[Record, ...]
    left_out: tuple[tuple[Record, str], ...]
    teachers: tuple[tuple[Network, Record, Record | None], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that have a counted run, in order."""
        return tuple(dict.fromkeys(record.run.label for record in self.counted))

    def of(self, label: str) -> tuple[Record, ...]:
        """Counted runs of one label, by seed."""
        return tuple(record for record in self.counted if record.run.label == label)


def title(label: str, records: Iterable[Record] = ()) -> str:
    """A method's name as shown, saying so where any of its runs is of a reconstructed method.

    Example:
        >>> title("kd+label_smoothing")
        'KD + Label smoothing'
    """
    words = " + ".join(TITLES.get(part, part) for part in label.split("+"))
    return words + (" (reconstructed)" if any(record.run.reconstructed for record in records) else "")


def arrange(records: Sequence[Record]) -> list[Group]:
    """Sort runs into groups; a teacher's own run is no competitor of the students that it taught."""
    teaching = {id(r) for r in records if any(_teaches(r, student) for student in records)}
    names = dict.fromkeys(r.run.group for r in records if id(r) not in teaching)
    return [_group(name, records, teaching) for name in names]


def _group(name: str, records: Sequence[Record], teaching: set[int]) -> Group:
    members = [r for r in records if r.run.group == name and id(r) not in teaching]
    newest: dict[tuple[str, int], Record] = {}
    for record in members:
        key = (record.run.label, record.run.seed)
        if record.finished and (key not in newest or _age(record) >= _age(newest[key])):
            newest[key] = record
    left_out = []
    for record in members:
        if not record.finished:
            reason = f": {record.run.reason}" if record.run.reason else ""
            left_out.append((record, f"unfinished ({record.run.status}{reason})"))
        elif newest[record.run.label, record.run.seed] is not record:
            left_out.append((record, f"seed {record.run.seed} of this method was run again later"))
    labels = dict.fromkeys(r.run.label for r in members)
    order = [b for b in BASELINES if b in labels] + [label for label in labels if label not in BASELINES]
    counted = sorted(newest.values(), key=lambda r: (order.index(r.run.label), r.run.seed))
    teachers: dict[tuple[str, str | None], tuple[Network, Record, Record | None]] = {}
    for record in counted:
        network = record.run.teacher
        if network is not None and record.results is not None and record.results.teacher is not None:
            own = next((r for r in records if r.finished and _teaches(r, record)), None)
            teachers.setdefault((network.name, network.path), (network, record, own))
    return Group(name, tuple(counted), tuple(left_out), tuple(teachers.values()))


def _age(record: Record) -> str:
    return record.run.started or ""


def _teaches(record: Record, student: Record) -> bool:
    """Whether a run made the teacher of another one and does not also compete with it."""
    teacher = student.run.teacher
    if teacher is None or teacher.path is None or record is student:
        return False
    path = Path(teacher.path)
    moved = path.name == record.path.resolve().name and teacher.name == record.run.student.name
    if path.resolve() != record.path.resolve() and not moved:
        return False
    rivals = record.run.student.name == student.run.student.name and record.run.group == student.run.group
    return not rivals


def caveats(group: Group) -> list[str]:
    """What a reader must know before believing the comparison, one sentence each."""
    found = []
    for label in group.labels:
        for key, values in _differing(group.of(label), ()).items():
            shown = ", ".join(dict.fromkeys(map(str, values)))
            found.append(f"Runs of {title(label)} do not share one configuration: {key} is {shown}.")
    for record in group.counted:
        if record.results is not None and number(record.results.last.test.get(record.metric)) is None:
            name = f"{record.run.name} ({title(record.run.label)}, seed {record.run.seed})"
            found.append(
                f"The {record.metric} of {name} is not a finite number: it is in no mean and in no pair."
            )
    first = [group.of(label)[0] for label in group.labels]
    for key, values in _differing(first, ("methods", "label_weight", "teacher")).items():
        pairs = ", ".join(f"{value} ({title(label)})" for label, value in zip(group.labels, values))
        found.append(f"Methods differ in more than the method: {key} is {pairs}.")
    return found


def _differing(runs: Sequence[Record], without: tuple[str, ...]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs, by dotted key, leaving out some top-level parts."""
    flat = [_settings(run, without) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    columns = {key: [settings.get(key) for settings in flat] for key in keys}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def _settings(record: Record, without: tuple[str, ...]) -> dict[str, Any]:
    run = record.run
    settings = {key: value for key, value in record.settings.items() if key not in without}
    if "teacher" in settings:  # one teacher per seed is no difference of method
        settings["teacher"] = run.teacher.name if run.teacher else None
    found = {key: value for key, value in _leaves(settings).items() if key not in _FREE}
    if without:
        found |= {"epochs run": run.epochs, "steps run": run.steps, "precision used": run.precision}
        found |= {"student parameters": run.student.parameters}
    return found


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    items: list[tuple[str, Any]]
    if isinstance(values, dict):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list) and any(isinstance(value, (dict, list)) for value in values):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _leaves(value, f"{prefix}.{key}" if prefix else key)
    return found
