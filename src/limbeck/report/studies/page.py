"""The page of a study."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...files import write_text
from ..page import TEMPLATES, environment_of, templates
from ..picture import Picture
from ..text import NONE, changed, count, counted, probability
from . import figures
from .configs import Flat, flat, own, shared
from .model import Comparison, Method, Row, Study, read_study
from .runs import Folder, compact, read_folders
from .words import caveats, duration, gain, metric_name, spread, summary

OPEN = 3
"""Up to so many groups are all shown open."""


def write_study(folder: Path | str, out: Path | str, title: str | None = None) -> Path:
    """Write the page of a study as one HTML file that needs no network.

    Args:
        folder: the study's folder, with ``study.json``.
        out: the file to write; in an existing folder, ``report.html``.
        title: the page's heading; the study's name by default.

    Returns:
        the path of the file.

    Raises:
        RunError: there is no study, it or one of its runs is damaged, or the file cannot be written.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    write_text(out, render_study(Path(folder), title))
    return out


def render_study(folder: Path, title: str | None = None) -> str:
    """The page as text; equal records give equal text."""
    from markupsafe import Markup

    study = read_study(folder)
    folders = read_folders(study, folder)
    page = Page(study, folders)
    code = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    text = (
        templates()
        .get_template("study.html.jinja")
        .render(
            title=title or study.name,
            study=study,
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(code),
            script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
            **page.context(),
        )
    )
    return text.encode("utf-8", "replace").decode("utf-8")


class Page:
    """Makes the template's values; remembers the anchors of groups and runs."""

    def __init__(self, study: Study, folders: dict[str, Folder]) -> None:
        self.study, self.folders = study, folders
        keys = [row.key for row in study.rows]
        keys += [path for t in study.tuning for trial in t.trials for path in trial.paths if path not in keys]
        self.anchors = {key: f"run-{place}" for place, key in enumerate(keys)}
        self.groups = {(g.pair, g.setting): f"g{place}" for place, g in enumerate(study.groups)}
        self.lines = {name: place for place, name in enumerate(study.axes.methods)}
        self.rows = {row.key: row for row in study.rows}
        self.students = study.students
        self.pictures = 0

    def context(self) -> dict[str, Any]:
        """Everything that the template shows."""
        study = self.study
        flats = {key: flat(folder.settings) for key, folder in self.folders.items() if folder.settings}
        base = shared(list(flats.values()))
        return {
            "facts": self._facts(),
            "summaries": [(base, summary(study, base)) for base in study.baselines],
            "caveats": caveats(study),
            "ranking": self._drawn(figures.ranking(study)),
            "ranks": study.ranking,
            "overviews": [self._overview(base) for base in study.baselines] or [self._overview(None)],
            "sweeps": [
                (
                    name,
                    [(self._drawn([picture])[0], self.groups[g.pair, g.setting]) for g, picture in pictures],
                )
                for name, pictures in figures.sweeps(study)
            ],
            "sizes": self._drawn(figures.sizes(study)),
            "groups": [self._group(place, group) for place, group in enumerate(study.groups)],
            "tuning": self._tuning(),
            "shared": base,
            "runs": self._runs(flats, base),
            "environment": environment_of([f.environment for f in self.folders.values() if f.environment]),
            "metric": metric_name(study.metric),
        }

    def _drawn(self, pictures: Sequence[Picture]) -> list[dict[str, str]]:
        found = []
        for picture in pictures:
            self.pictures += 1
            found.append(
                {"svg": picture.svg(f"p{self.pictures}"), "title": picture.title, "caption": picture.caption}
            )
        return found

    def _facts(self) -> list[tuple[str, str]]:
        study, axes = self.study, self.study.axes
        sizes = [
            counted(len(axes.pairs), "pair"),
            counted(len(axes.settings), "data setting"),
            counted(len(axes.methods), "method"),
            counted(len(axes.seeds), "seed"),
        ]
        return [
            ("Grid", " × ".join(sizes)),
            ("Runs", ", ".join(f"{n} {status}" for status, n in study.runs.items()) or NONE),
            ("Training time", f"{duration(study.seconds)} in all, teachers and tuning included"),
            ("Judged by", f"test {metric_name(study.metric, False)} of the last epoch, paired by seed, "
                          f"{100 * study.level:g} %, corrected by Holm over the methods of a group"),
        ]  # fmt: skip

    def _overview(self, base: str | None) -> dict[str, Any]:
        """Methods down, groups across: the mean, and the difference to a baseline with its verdict."""
        study = self.study
        rank = study.ranking.mean_rank if study.ranking else {}
        methods = sorted(study.axes.methods, key=lambda name: rank.get(name, self.lines[name] + 1e6))
        rows = []
        for name in methods:
            cells = []
            for group in study.groups:
                found = group.of(name)
                against = found.against.get(base) if found and base else None
                key = self.groups[group.pair, group.setting]
                cells.append(
                    {
                        "link": f"{key}-m{self.lines[name]}" if found else "",
                        "mean": spread(found, study.metric),
                        "gain": gain(against, study.metric)[0] if against else "",
                        "verdict": against.verdict if against else "",
                        "value": _sortable(against.mean if against else found.mean if found else None),
                    }
                )
            rows.append({"name": name, "rank": rank.get(name), "cells": cells, "is_base": name == base})
        heads = [(g.group, self.groups[g.pair, g.setting]) for g in study.groups]
        return {
            "base": base,
            "rows": rows,
            "heads": heads,
            "higher": study.groups[0].higher_is_better is not False if heads else True,
        }

    def _group(self, place: int, group: Comparison) -> dict[str, Any]:
        study = self.study
        key = self.groups[group.pair, group.setting]
        by_class, classes = figures.classes(study, group, self.folders)
        by_corruption, robust, columns = figures.corruptions(study, group, self.folders)
        bases = [base for base in study.baselines if group.of(base) is not None]
        others = [c for m in study.metrics if m != study.metric and (c := study.on(group, m)) is not None]
        main = self._drawn([p for base in bases for p in figures.differences(study, group, base)])
        return {
            "key": key,
            "name": group.group,
            "open": len(study.groups) <= OPEN or place == 0,
            "regime": self._regime(group),
            "teachers": self._teachers(group),
            "bases": bases,
            "rows": [self._line(key, group, m, bases) for m in group.methods],
            "missing": self._missing(group),
            "pictures": main + self._drawn(figures.cost(study, group)),
            "metric": metric_name(group.metric),
            "others": [
                {
                    "name": metric_name(c.metric),
                    "better": {True: "higher is better", False: "lower is better", None: ""}[
                        c.higher_is_better
                    ],
                    "rows": [self._line("", c, m, bases) for m in c.methods],
                }
                for c in others
            ],
            "classes": self._drawn(by_class),
            "class_rows": classes,
            "corruptions": self._drawn(by_corruption),
            "robust_columns": [name.replace("_", " ") for name in columns],
            "robust": [(name, [spread(v, "accuracy") for v in values]) for name, values in robust],
        }

    def _line(self, key: str, group: Comparison, method: Method, bases: Sequence[str]) -> dict[str, Any]:
        judged: list[dict[str, Any] | None] = []
        for base in bases:
            found = method.against.get(base)
            if found is None:
                judged.append(None)
                continue
            size, ends = gain(found, group.metric)
            judged.append(
                {
                    "verdict": found.verdict,
                    "gain": size,
                    "ends": ends,
                    "p": probability(found.p_holm),
                    "reason": found.reason,
                    "value": _sortable(found.mean),
                    "unpaired": found.unpaired,
                }
            )
        first = next((method.against[b] for b in bases if b in method.against), None)
        pace = first.per_extra_second if first else None
        return {
            "id": f"{key}-m{self.lines.get(method.method, 999)}" if key else "",
            "name": method.method,
            "mean": spread(method, group.metric),
            "value": _sortable(method.mean),
            "seeds": [
                (seed, self.anchors[row.key])
                for seed in method.values
                if (row := self.students.get((group.pair, group.setting, method.method, seed)))
            ],
            "judged": judged,
            "seconds": duration(method.seconds.mean),
            "seconds_value": _sortable(method.seconds.mean),
            "pace": NONE
            if pace is None
            else f"{(100 if group.metric == 'accuracy' else 1) * pace:+.2g}".replace("-", "−"),
            "pace_value": _sortable(pace),
        }

    def _missing(self, group: Comparison) -> list[tuple[Row, str]]:
        return [
            (row, self.anchors[row.key])
            for row in self.study.rows
            if (row.kind, row.pair, row.setting) == ("student", group.pair, group.setting)
            and row.status != "finished"
        ]

    def _of(self, group: Comparison) -> list[tuple[Row, Folder]]:
        return [
            (row, self.folders[row.key])
            for row in self.study.rows
            if (row.kind, row.pair, row.setting) == ("student", group.pair, group.setting)
        ]

    def _regime(self, group: Comparison) -> list[tuple[str, str]]:
        """What the group was run on, the realised changes of the data beside the setting."""
        found: dict[str, dict[str, None]] = {}
        overrides = (self.study.config.get("data") or {}).get(group.setting)
        if overrides:
            found["Setting"] = {compact(overrides).strip("{}"): None}
        for _, folder in self._of(group):
            run = folder.info
            if run is None:
                continue
            samples = [f"{n} {split} images" for split, n in run.samples.items()]
            samples += [f"{len(run.classes)} classes"] if run.classes else []
            found.setdefault("Data", {})[f"{run.data}: {', '.join(samples)}"] = None
            for text in changed(run.changes):
                found.setdefault("Realised", {})[text] = None
            size = f", {count(run.student.parameters)} parameters" if run.student.parameters else ""
            found.setdefault("Student", {})[run.student.name + size] = None
            if run.epochs:
                found.setdefault("Budget of each run", {})[f"{run.epochs} epochs, {run.steps} steps"] = None
        return [(name, " / ".join(values)) for name, values in found.items()]

    def _teachers(self, group: Comparison) -> list[tuple[str, str, str]]:
        """The teachers' runs: name, accuracy, anchor; a method's own teacher names it."""
        found = {}
        for row, _ in self._of(group):
            teacher = self.rows.get(row.teacher or "")
            if teacher is not None and teacher.kind == "teacher" and teacher.key not in found:
                value = teacher.last.test.get(self.study.metric) if teacher.last else None
                shown = (
                    f"{metric_name(self.study.metric, False)} {_figure(value)}"
                    if value is not None
                    else teacher.status
                )
                size = f", {count(teacher.parameters)} parameters" if teacher.parameters else ""
                found[teacher.key] = (
                    f"{teacher.method}, seed {teacher.seed}{size}",
                    shown,
                    self.anchors[teacher.key],
                )
        return list(found.values())

    def _tuning(self) -> list[dict[str, Any]]:
        found = []
        for t in self.study.tuning:
            if not t.trials:
                continue
            trials = [
                {
                    "number": trial.number,
                    "values": _values(trial.values),
                    "mean": _figure(trial.mean),
                    "chosen": trial.number == t.chosen_trial,
                    "links": [self.anchors[path] for path in trial.paths],
                }
                for trial in t.trials
            ]
            groups = [f"{pair} · {setting}" for pair, setting in t.applies_to]
            best = next((x["mean"] for x in trials if x["chosen"]), NONE)
            found.append(
                {
                    "method": t.method,
                    "searched": f"{t.pair} · {t.setting}",
                    "applies": groups if len(groups) > 1 else [],
                    "chosen": _values(t.chosen) or NONE,
                    "best": best,
                    "edges": t.edges,
                    "trials": trials,
                    "seeds": len(t.seeds),
                    "seconds": duration(t.seconds),
                }
            )
        return found

    def _runs(self, flats: dict[str, Flat], base: Flat) -> list[dict[str, Any]]:
        """Every run, by group, with what its configuration has beside the shared part."""
        sections: dict[str, list[dict[str, Any]]] = {}
        for row in self.study.rows:
            section = "Teachers" if row.kind == "teacher" else row.group
            test = row.last.test if row.last else {}
            figures = [(metric_name(m, False), _figure(test.get(m))) for m in self.study.metrics if m in test]
            best = row.best.test.get(self.study.metric) if row.best else None
            sections.setdefault(section, []).append(
                {
                    **self._entry(row.key, flats, base),
                    "name": f"{row.method}, seed {row.seed}",
                    "status": row.status,
                    "error": row.error or "",
                    "seconds": duration(row.seconds),
                    "figures": figures,
                    "best": None if best is None else (_figure(best), row.best.epoch if row.best else None),
                    "teacher": self.anchors.get(row.teacher or ""),
                    "teacher_name": self.rows[row.teacher].method if row.teacher in self.rows else "",
                }
            )
        for t in self.study.tuning:
            for trial in t.trials:
                for seed, path in zip(t.seeds, trial.paths, strict=False):
                    value = trial.validation.get(seed)
                    sections.setdefault("Tuning", []).append(
                        {
                            **self._entry(path, flats, base),
                            "name": f"{t.method}, trial {trial.number}, seed {seed}",
                            "status": "failed" if value is None else "finished",
                            "error": "",
                            "seconds": "",
                            "figures": [(f"validation {metric_name(t.metric, False)}", _figure(value))],
                            "best": None,
                            "teacher": None,
                            "teacher_name": "",
                        }
                    )
        return [{"name": name, "runs": runs} for name, runs in sections.items()]

    def _entry(self, key: str, flats: dict[str, Flat], base: Flat) -> dict[str, Any]:
        known = flats.get(key)
        return {
            "anchor": self.anchors[key],
            "path": str(self.folders[key].path),
            "own": None if known is None else own(known, base),
        }


def _values(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else compact(value)


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _sortable(value: float | None) -> float:
    return float("nan") if value is None else value
