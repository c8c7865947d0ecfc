"""A study's main figures as PNG, for documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...study.grid import slug
from ..picture import Picture, png
from . import figures
from .classes import classes
from .generated import generated
from .model import Study, read_study
from .robust import robust
from .runs import Folder, read_folders
from .sweeps import sweeps

MOST = 8
"""More panels make a second file."""


def write_figures(folder: Path | str, out: Path | str) -> list[Path]:
    """Write ranking, differences, sweeps, cost, classes and corruptions as PNG files, groups side by side.

    Args:
        folder: the study's folder, with ``study.json``.
        out: a folder for the files; it is made where it is not there. File names begin with the study's name;
            files of the same names are replaced.

    Returns:
        the files.

    Raises:
        RunError: there is no study, it or one of its runs is damaged, or a file cannot be written.
    """
    folder, out = Path(folder), Path(out)
    study = read_study(folder)
    return [
        png(pictures, out / f"{slug(study.name)}-{name}.png")
        for name, pictures in sheets(study, read_folders(study, folder))
    ]


def sheets(study: Study, folders: dict[str, Folder]) -> Iterator[tuple[str, Sequence[Picture]]]:
    """The pictures of each file, by its name."""
    yield from _split("ranking", figures.ranking(study))
    for base in study.baselines:
        found = [picture for group in study.groups for picture in figures.differences(study, group, base)]
        yield from _split(f"against-{slug(base)}", found)
    for x, panels in sweeps(study).items():
        for metric in dict.fromkeys(panel.metric for panel in panels):
            mine = [panel.picture for panel in panels if panel.metric == metric]
            yield from _split(f"{slug(x)}-{slug(metric)}", mine)
    yield from _split("cost", [picture for group in study.groups for picture in figures.cost(study, group)])
    images = [picture for group in study.groups for picture in generated(study, group, folders)]
    yield from _split("generated", images)
    by_class = [classes(study, group, folders) for group in study.groups]
    yield from _split("classes", [each.picture for each in by_class if each])
    beside = [robust(study, group, folders) for group in study.groups]
    yield from _split("corruptions", [each.picture for each in beside if each and each.picture])


def _split(name: str, pictures: Sequence[Picture]) -> Iterator[tuple[str, Sequence[Picture]]]:
    for number, start in enumerate(range(0, len(pictures), MOST), 1):
        yield (name if number == 1 else f"{name}-{number}"), pictures[start : start + MOST]
