"""A study's main figures as PNG, for documents."""

from __future__ import annotations

from pathlib import Path

from . import figures
from .model import read_study
from .runs import read_folders


def write_figures(folder: Path | str, out: Path | str) -> list[Path]:
    """Write ranking, differences, sweeps, costs, classes and corruptions as PNG files.

    Args:
        folder: the study's folder, with ``study.json``.
        out: a folder for the files; it is made where it is not there. Files of the same names are replaced.

    Returns:
        the files, ``ranking.png`` first.

    Raises:
        RunError: there is no study, it or one of its runs is damaged, or a file cannot be written.
    """
    folder, out = Path(folder), Path(out)
    study = read_study(folder)
    folders = read_folders(study, folder)
    pictures = figures.ranking(study)
    for group in study.groups:
        for base in study.baselines:
            pictures += figures.differences(study, group, base)
    pictures += [picture for _, found in figures.sweeps(study) for _, picture in found]
    pictures += figures.sizes(study)
    for group in study.groups:
        pictures += figures.cost(study, group)
        pictures += figures.classes(study, group, folders)[0]
        pictures += figures.corruptions(study, group, folders)[0]
    return [picture.png(out / f"{picture.name}.png") for picture in pictures]
