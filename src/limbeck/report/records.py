"""Reading run records. Nothing here writes to a record, and nothing in a record is trusted."""

from __future__ import annotations

import base64
import json
import math
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import RunError

Array = NDArray[Any]
T = TypeVar("T", bound=BaseModel)

MOST_PICTURES = 12
MOST_RESPONSES = 50
PNG = b"\x89PNG\r\n\x1a\n"

_LEAVE = "restore the file from a copy, or leave the run out"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Network(_Part):
    """The name and size of a network; ``path`` is the run a teacher came from."""

    name: str
    parameters: int | None = None
    path: str | None = None


class Changed(_Part):
    """One change of the training split: label noise or imbalance, with the realised figure."""

    kind: str
    rate: float | None = None
    ratio: float | None = None
    exponent: float | None = None
    realised: float
    validation: bool = False


class Changes(_Part):
    """What was done to the training split on purpose."""

    noise: Changed | None = None
    imbalance: Changed | None = None
    per_class: int | None = None


class Run(_Part):
    """``run.json``: what was run, and how it ended; ``samples`` counts by split."""

    name: str
    label: str
    kind: str = "train"
    task: str = "classification"
    seed: int
    status: Literal["running", "finished", "interrupted", "failed"]
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    steps: int | None = None
    epochs: int | None = None
    data: str = ""
    classes: tuple[str, ...] = ()
    student: Network
    teacher: Network | None = None
    precision: str = ""
    reconstructed: bool = False
    group: str = ""
    samples: dict[str, int] = {}
    changes: Changes = Changes()
    reason: str | None = None


class Measured(_Part):
    """Metrics of one checkpoint: the last epoch, or the best on validation."""

    epoch: int | None = None
    selected_on: str | None = None
    test: dict[str, float | None]
    validation: dict[str, float | None] | None = None


class Taught(_Part):
    """Metrics of the teacher on the same test split."""

    test: dict[str, float | None]
    cost: dict[str, Any] | None = None


class Results(_Part):
    """``results.json``: the numbers of a finished run."""

    last: Measured
    best: Measured | None = None
    cost: dict[str, Any] = {}
    teacher: Taught | None = None


class Guard(_Part):
    """One start-up check; ``ok`` is None where it could not be made."""

    name: str
    ok: bool | None = None
    detail: str = ""


@dataclass(frozen=True)
class Record:
    """One run as read from its folder.

    Attributes:
        path: the folder.
        run: what was run and how it ended.
        config: the whole configuration, as the text of ``config.yaml``.
        settings: the same, parsed.
        environment: versions, machine and command.
        train: training lines of ``metrics.jsonl``, in order.
        validation: validation lines of ``metrics.jsonl``, in order.
        guards: the start-up checks.
        results: numbers of a finished run, else None.
        arrays: ``evaluation.npz`` of a finished run, else empty.
        pictures: PNG files of the run, by name, as base64; at most ``MOST_PICTURES``, evenly spaced.
        caption: how to read them.
        responses: of a finished run on text, what was written to the first test prompts: ``prompt``, ``reference``,
            ``student``, and ``teacher`` and ``before`` where there are any; at most ``MOST_RESPONSES``.
    """

    path: Path
    run: Run
    config: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    train: tuple[dict[str, Any], ...]
    validation: tuple[dict[str, Any], ...]
    guards: tuple[Guard, ...]
    results: Results | None
    arrays: dict[str, Array]
    pictures: tuple[tuple[str, str], ...] = ()
    caption: str = ""
    responses: tuple[dict[str, str], ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run's numbers count."""
        return self.run.status == "finished"

    @property
    def metric(self) -> str:
        """The test metric that verdicts go by."""
        return {"segmentation": "miou", "regression": "ccc"}.get(self.run.task, "accuracy")


def read(path: Path | str) -> Record:
    """Read one run folder.

    Args:
        path: the folder with ``run.json``.

    Returns:
        the record; an unfinished run has neither results nor arrays.

    Raises:
        RunError: a file is missing or damaged; the message names it and the fix.

    Example:
        >>> read("runs/none")
        Traceback (most recent call last):
        limbeck.errors.RunError: no run record in runs/none; expected a folder that holds run.json. Fix: ...
    """
    path = Path(path)
    if not (path / "run.json").is_file():
        raise RunError(
            f"no run record in {path}", expected="a folder that holds run.json", fix="check the path"
        )
    run = validated(Run, read_json(path / "run.json"), path / "run.json", _LEAVE)
    finished = run.status == "finished"
    config, settings = _yaml(path / "config.yaml")
    environment = read_json(path / "environment.json")
    if not isinstance(environment, dict):
        raise _damaged(path / "environment.json", "it is not a JSON object", _LEAVE)
    lines = _lines(path / "metrics.jsonl", finished)
    return Record(
        path=path,
        run=run,
        config=config,
        settings=settings,
        environment=environment,
        train=tuple(line for line in lines if line["kind"] == "train"),
        validation=tuple(line for line in lines if line["kind"] == "validation"),
        guards=_guards(path / "guards.json"),
        results=validated(Results, read_json(path / "results.json"), path / "results.json")
        if finished
        else None,
        arrays=read_arrays(path / "evaluation.npz") if finished and run.task == "classification" else {},
        pictures=_pictures(path / "pictures"),
        caption=_text(path / "pictures" / "caption.txt")
        if (path / "pictures" / "caption.txt").is_file()
        else "",
        responses=read_responses(path) if finished else (),
    )


def read_responses(folder: Path) -> tuple[dict[str, str], ...]:
    """The first rows of ``responses.jsonl`` of a run; none where it has none.

    Raises:
        RunError: a line is no JSON object of texts.
    """
    file, found = folder / "responses.jsonl", []
    if not file.is_file():
        return ()
    for number, line in enumerate(_text(file).split("\n")[:MOST_RESPONSES], 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not {"prompt", "reference", "student"} <= row.keys():
            raise _damaged(file, f"line {number} is no prompt with its responses", _LEAVE)
        found.append({str(key): str(value) for key, value in row.items()})
    return tuple(found)


def _pictures(folder: Path) -> tuple[tuple[str, str], ...]:
    """Pictures that a run left of itself; what does not begin like a PNG is none."""
    files = sorted(folder.glob("*.png"))
    step = max(1, -(-len(files) // MOST_PICTURES))
    chosen = [file for i, file in enumerate(files) if (len(files) - 1 - i) % step == 0]
    found = [(file.stem, file.read_bytes()) for file in chosen if file.is_file()]
    return tuple((name, base64.b64encode(data).decode()) for name, data in found if data.startswith(PNG))


def read_all(paths: Iterable[Path | str]) -> list[Record]:
    """Read run folders, and every run inside folders that are not runs themselves, each run once.

    Raises:
        RunError: a path holds no run, or a record is damaged.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        inside = (
            [path] if (path / "run.json").is_file() else sorted(f.parent for f in path.glob("**/run.json"))
        )
        for folder in inside or [path]:
            found.setdefault(folder.resolve(), folder)
    if not found:
        raise RunError("no run to report", expected="at least one run folder", fix="give the path of a run")
    return [read(folder) for folder in found.values()]


def number(value: object) -> float | None:
    """A finite number as it is, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _damaged(file: Path, problem: str, fix: str) -> RunError:
    return RunError(f"damaged run record: {file}: {problem}", fix=fix)


def _text(file: Path, fix: str = _LEAVE) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _damaged(file, "the file is missing", fix) from None
    except UnicodeDecodeError:
        raise _damaged(file, "it is not UTF-8 text", fix) from None
    except OSError as error:
        raise _damaged(file, f"it cannot be read ({error.strerror})", "make the file readable") from None


def read_json(file: Path, fix: str = _LEAVE) -> Any:
    """A JSON file of a record; a damaged one is a RunError."""
    try:
        return json.loads(_text(file, fix))
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"it is not valid JSON ({error})", fix) from None


def validated(model: type[T], value: Any, file: Path, fix: str = _LEAVE) -> T:
    """A value of a record as a model; what does not fit is a RunError that names the place."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _damaged(file, f"{place}: {first['msg']}" if place else first["msg"], fix) from None


def _yaml(file: Path) -> tuple[str, dict[str, Any]]:
    text = _text(file)
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise _damaged(file, "it is not valid YAML", _LEAVE) from None
    return text, values if isinstance(values, dict) else {}


def _lines(file: Path, finished: bool) -> list[dict[str, Any]]:
    """Metric lines; a half-written last line is what a killed run leaves, so it is no damage there."""
    if not finished and not file.exists():
        return []
    lines, numbered = [], list(enumerate(_text(file).split("\n"), 1))
    for number, text in numbered:
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            whole = isinstance(line["step"], int) and isinstance(line["kind"], str)
            if not whole or not isinstance(line.get("terms") or {}, dict):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            if number == len(numbered) and not finished:
                continue
            fix = f"delete line {number} if it is the half-written last one, or leave the run out"
            raise _damaged(file, f"line {number} is not a metric line", fix) from None
        lines.append(line)
    return lines


def _guards(file: Path) -> tuple[Guard, ...]:
    if not file.exists():
        return ()
    values = read_json(file)
    if not isinstance(values, list):
        raise _damaged(file, "it is not a JSON list", _LEAVE)
    return tuple(validated(Guard, value, file, _LEAVE) for value in values)


def read_arrays(file: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file of a record, numbers only, never unpickled."""
    if not file.is_file():
        raise _damaged(file, "the file is missing", _LEAVE)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        raise _damaged(file, "it is not a readable .npz archive of plain arrays", _LEAVE) from None
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise _damaged(file, f"{name} holds no numbers", _LEAVE)
    return arrays
