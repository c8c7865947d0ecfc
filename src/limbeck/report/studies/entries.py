"""Every run of a study with what made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .anchors import Anchors
from .configs import Flat, flat, own, shared
from .model import Row, Study
from .runs import Folder
from .tables import Shown, figure
from .words import duration, metric_name


def entries(study: Study, folders: Mapping[str, Folder], anchors: Anchors) -> tuple[Flat, list[Shown]]:
    """What most configurations share, and the runs by group, each with the rest of its configuration."""
    flats = {key: flat(folder.settings) for key, folder in folders.items() if folder.settings}
    base = shared(list(flats.values()))
    sections: dict[str, list[Shown]] = {}
    for name, key, shown in [*_rows(study, anchors), *_trials(study)]:
        place: Shown = {
            "anchor": anchors.run(key),
            "path": str(folders[key].path),
            "own": own(flats[key], base) if key in flats else None,
        }
        sections.setdefault(name, []).append(place | shown)
    return base, [{"name": name, "runs": runs} for name, runs in sections.items()]


def _rows(study: Study, anchors: Anchors) -> Iterator[tuple[str, str, Shown]]:
    known = {row.key: row for row in study.rows}
    for row in study.rows:
        teacher = known.get(row.teacher or "")
        yield (
            "Teachers" if row.kind == "teacher" else row.group,
            row.key,
            {
                "name": f"{row.method}, seed {row.seed}",
                "status": row.status,
                "error": row.error or "",
                "seconds": "" if row.seconds is None else duration(row.seconds),
                "figures": _figures(study, row),
                "teacher": anchors.run(teacher.key) if teacher else "",
                "teacher_name": teacher.method if teacher else "",
            },
        )


def _figures(study: Study, row: Row) -> list[tuple[str, str]]:
    """The study's metrics of the last epoch, and the deciding one of the best."""
    test = row.last.test if row.last else {}
    found = [(metric_name(m, False), figure(test[m])) for m in study.metrics if m in test]
    if row.best is not None and study.metric in row.best.test:
        epoch = f" ({row.best.epoch})" if row.best.epoch is not None else ""
        name = f"at the best epoch{epoch} {metric_name(study.metric, False)}"
        found.append((name, figure(row.best.test[study.metric])))
    return found


def _trials(study: Study) -> Iterator[tuple[str, str, Shown]]:
    seen = set()
    for t in study.tuning:
        for trial in t.trials:
            for seed, path in zip(t.seeds, trial.paths, strict=False):
                if path in seen:
                    continue
                seen.add(path)
                value = trial.validation.get(seed)
                yield (
                    "Tuning",
                    path,
                    {
                        "name": f"{t.method}, trial {trial.number}, seed {seed}",
                        "status": "failed" if value is None else "finished",
                        "error": "",
                        "seconds": "",
                        "figures": [(f"validation {metric_name(t.metric, False)}", figure(value))],
                        "teacher": "",
                        "teacher_name": "",
                    },
                )
