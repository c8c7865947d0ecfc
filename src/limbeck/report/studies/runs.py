"""What a study's page takes from the run folders: configurations, recall by class, robustness, probes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field

from ...errors import RunError
from ..records import Array, Run, read_arrays, read_json, validated
from .model import Row, Study, whole_characters


class Attack(BaseModel):
    """Accuracy under PGD of one strength."""

    epsilon: float
    accuracy: float


class Robustness(BaseModel):
    """``robustness.json``: accuracies clean, by corruption and severity, and under attack."""

    clean: float
    corrupted: float | None = None
    corruptions: dict[str, Annotated[list[float], Field(min_length=1)]] = {}
    pgd: list[Attack] = []


class Probe(BaseModel):
    """``probe-<data>.json``: the accuracy of a linear probe."""

    data: str
    accuracy: float


@dataclass(frozen=True)
class Folder:
    """One run folder as far as it is there.

    Attributes:
        path: the folder.
        info: ``run.json``; None where the folder is gone or the run never began.
        settings: the configuration.
        recall: ``(K,)`` share of each class's test images that are predicted as it.
        robustness: where it was measured.
        probes: accuracy of a linear probe by data set.
        environment: versions and machine.
    """

    path: Path
    info: Run | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    recall: Array | None = None
    robustness: Robustness | None = None
    probes: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def read_folders(study: Study, folder: Path) -> dict[str, Folder]:
    """Every run folder of the study by key: teachers, students, and trials of tuning.

    Raises:
        RunError: a file in a folder is damaged. A folder that is not there is no error: a study may be moved
            without its runs.
    """
    found = {row.key: _read(folder / row.key, row) for row in study.rows}
    for tuning in study.tuning:
        for trial in tuning.trials:
            found |= {path: Folder(folder / path, settings=_settings(folder / path)) for path in trial.paths}
    return found


def _read(path: Path, row: Row) -> Folder:
    if not (path / "run.json").is_file():
        return Folder(path)
    info = validated(Run, whole_characters(read_json(path / "run.json")), path / "run.json")
    if row.status != "finished":
        return Folder(path, info, _settings(path))
    arrays = read_arrays(path / "evaluation.npz") if (path / "evaluation.npz").is_file() else {}
    recall = arrays.get("recall")
    probes = [
        validated(Probe, whole_characters(read_json(file)), file)
        for file in sorted(path.glob("probe-*.json"))
    ]
    file = path / "robustness.json"
    return Folder(
        path,
        info,
        _settings(path),
        recall if recall is not None and recall.ndim == 1 else None,
        validated(Robustness, whole_characters(read_json(file)), file) if file.is_file() else None,
        {probe.data: probe.accuracy for probe in probes},
        _environment(path / "environment.json"),
    )


def _environment(file: Path) -> dict[str, Any]:
    found = read_json(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def _settings(path: Path) -> dict[str, Any]:
    file = path / "config.yaml"
    if not file.is_file():
        return {}
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        raise RunError(
            f"damaged run record: {file}: it is not valid YAML", fix="restore it from a copy"
        ) from None
    return values if isinstance(values, dict) else {}


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where there is one: hundreds of configurations are read."""


def compact(value: Any) -> str:
    """A value on one line, as YAML and JSON readers know it.

    Example:
        >>> compact({"name": "kd", "options": {"temperature": 4}}), compact(None), compact("a b")
        ('{name: kd, options: {temperature: 4}}', 'null', 'a b')
    """
    if isinstance(value, (dict, list)):
        text = yaml.safe_dump(
            value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True
        )
        return str(text).strip()
    return (
        value
        if isinstance(value, str) and value.isprintable()
        else json.dumps(value, ensure_ascii=False, default=str)
    )
