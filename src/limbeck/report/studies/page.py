"""The page of a study."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...files import write_text
from ..page import TEMPLATES, environment_of, templates
from ..picture import Picture
from ..text import NONE, changed, count, counted
from . import figures, tables, words
from .anchors import Anchors
from .classes import classes
from .entries import entries
from .generated import generated
from .model import Comparison, Study, read_study
from .robust import robust
from .runs import Folder, compact, read_folders
from .sweeps import Panel, sweeps

OPEN = 3
"""Up to so many groups are all shown open."""

MANY = 6
"""Up to so many panels of one sweep are all shown open; of more those of the deciding metric are."""


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
    code = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    context = {
        "title": title or study.name,
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup(code),
        "script_hash": base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        **_Page(study, read_folders(study, folder)).context(),
    }
    text = templates().get_template("study.html.jinja").render(context)
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold halves of characters


class _Page:
    """Makes the template's values, and draws: every picture has a key of its own."""

    def __init__(self, study: Study, folders: dict[str, Folder]) -> None:
        self.study, self.folders = study, folders
        self.anchors = Anchors(study)
        self._pictures = 0

    def context(self) -> dict[str, Any]:
        study, anchors = self.study, self.anchors
        shared, runs = entries(study, self.folders, anchors)
        return {
            "study": study,
            "metric": words.metric_name(study.metric),
            "level": f"{100 * study.level:g} %",
            "facts": _facts(study),
            "summaries": [found for base in study.baselines if (found := words.summary(study, base))],
            "caveats": words.caveats(study),
            "ranking": self._drawn(figures.ranking(study)),
            "overviews": tables.overviews(study, anchors),
            "sweeps": [(x, self._folded(panels)) for x, panels in sweeps(study).items()],
            "groups": [self._group(place, group) for place, group in enumerate(study.groups)],
            "tuning": tables.tuning(study, anchors),
            "shared": shared,
            "runs": runs,
            "environment": environment_of([f.environment for f in self.folders.values() if f.environment]),
        }

    def _drawn(self, pictures: Iterable[Picture | None]) -> list[dict[str, str]]:
        found = []
        for picture in pictures:
            if picture is not None:
                self._pictures += 1
                svg = picture.svg(f"p{self._pictures}")
                found.append({"svg": svg, "title": picture.title, "caption": picture.caption, "link": ""})
        return found

    def _folded(self, panels: list[Panel]) -> list[dict[str, Any]]:
        """The panels of a sweep by metric, folded where there are many."""
        found = []
        for metric in dict.fromkeys(panel.metric for panel in panels):
            mine = [panel for panel in panels if panel.metric == metric]
            found.append(
                {
                    "metric": words.metric_name(metric, False),
                    "open": len(panels) <= MANY or metric == panels[0].metric,
                    "figures": [
                        {**self._drawn([panel.picture])[0], "link": self.anchors.group(panel.group)}
                        for panel in mine
                    ],
                }
            )
        return found

    def _group(self, place: int, group: Comparison) -> dict[str, Any]:
        study, anchors = self.study, self.anchors
        bases = [base for base in study.baselines if group.of(base) is not None]
        others = [c for m in study.metrics if m != study.metric and (c := study.on(group, m)) is not None]
        by_class = classes(study, group, self.folders)
        beside = robust(study, group, self.folders)
        pictures = [p for base in bases for p in figures.differences(study, group, base)]
        return {
            "key": anchors.group(group),
            "name": group.group,
            "open": len(study.groups) <= OPEN or place == 0,
            "regime": self._regime(group),
            "teachers": tables.teachers(study, anchors, group),
            "missing": [(row, anchors.run(row.key)) for row in study.of(group) if row.status != "finished"],
            "bases": bases,
            "rows": tables.lines(study, anchors, group, bases),
            "pictures": self._drawn([*pictures, *figures.cost(study, group)]),
            "others": [
                {
                    "name": words.metric_name(c.metric),
                    "better": {True: "higher is better", False: "lower is better", None: ""}[
                        c.higher_is_better
                    ],
                    "rows": tables.lines(study, anchors, c, bases),
                }
                for c in others
            ],
            "generated": self._drawn(generated(study, group, self.folders)),
            "classes": by_class,
            "class_picture": self._drawn([by_class.picture] if by_class else []),
            "robust": beside,
            "robust_rows": [(name, [words.spread(v, "accuracy") for v in row]) for name, row in beside.rows]
            if beside
            else [],
            "robust_picture": self._drawn([beside.picture] if beside else []),
        }

    def _regime(self, group: Comparison) -> list[tuple[str, str]]:
        """What a group was run on: the setting as it was asked for, and beside it what it came to."""
        found: dict[str, dict[str, None]] = {}
        settings = self.study.config.get("data")
        asked = settings.get(group.setting) if isinstance(settings, dict) else None
        if asked:
            found["Setting"] = {compact(asked).strip("{}"): None}
        for row in self.study.of(group):
            run = self.folders[row.key].info
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


def _facts(study: Study) -> list[tuple[str, str]]:
    axes = study.axes
    sizes = {"pair": axes.pairs, "data setting": axes.settings, "method": axes.methods, "seed": axes.seeds}
    metric = words.metric_name(study.metric, False)
    return [
        ("Grid", " × ".join(counted(len(names), noun) for noun, names in sizes.items())),
        ("Runs", ", ".join(f"{n} {status}" for status, n in study.runs.items()) or NONE),
        ("Training time", f"{words.duration(study.seconds)} in all, teachers and tuning included"),
        (
            "Judged by",
            f"test {metric} of the last epoch, paired by seed, at {100 * study.level:g} %, corrected by Holm over the "
            "methods of a group",
        ),
    ]
