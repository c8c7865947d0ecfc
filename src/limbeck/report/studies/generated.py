"""Images that the data-free runs of a study made."""

from __future__ import annotations

from collections.abc import Mapping

from ..picture import Picture
from ..synthetic import picture, read_synthetic, told
from .model import Comparison, Study
from .runs import Folder


def generated(study: Study, group: Comparison, folders: Mapping[str, Folder]) -> list[Picture]:
    """One picture per method that made images, of its first finished seed."""
    found: dict[str, Picture] = {}
    for row in study.of(group):
        folder = folders[row.key]
        if row.status != "finished" or row.method in found or folder.info is None:
            continue
        if images := read_synthetic(folder.path):
            rate = row.last.test.get("hit_rate") if row.last is not None else None
            found[row.method] = picture(images, folder.info.classes, row.method, told(rate))
    return list(found.values())
