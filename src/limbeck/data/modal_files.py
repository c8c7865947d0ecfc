"""Data of several modalities from a file of one's own: ``.npz`` or CSV."""

from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..shapes import IGNORE
from .config import DataConfig
from .modal import ModalData, assemble_modal, divide

RESERVED = ("y", "split", "subject", "classes", "targets")
"""Names in a ``.npz`` that are no modalities."""

SPLITS = ("train", "validation", "test")


class Table(NamedTuple):
    """What a file holds.

    Attributes:
        arrays: modality -> ``(n, ...)``, NaN throughout where it is missing.
        labels: class ids ``(n,)`` (-100: none) or targets ``(n, D)`` (NaN: none).
        classes: names of the classes or targets.
        split, subject: of each sample, where the file says so.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    classes: tuple[str, ...]
    split: np.ndarray | None
    subject: np.ndarray | None


def multimodal(config: DataConfig) -> ModalData:
    """Modalities and labels of a file.

    ``.npz``: every array ``(n, ...)`` is a modality, beside ``y`` (whole numbers ``(n,)`` are classes, -100 for none;
    floats ``(n, D)`` are targets, NaN for none) and, if wanted, ``split`` ("train", "validation", "test" per sample),
    ``subject``, and names in ``classes`` or ``targets``. A sample of NaN alone is a missing modality.

    CSV: columns ``face.0, face.1, heart.rate`` are numbers of the modalities ``face`` and ``heart``; ``label`` is a
    class, or ``target.valence`` and so on are numbers; ``split`` and ``subject`` as above. An empty field is missing.

    Where no split is given, test (always by seed 0) and validation are drawn, whole subjects where they are known.

    Raises:
        DataError: a missing or damaged file, no modality, labels that are neither classes nor numbers.
        ConfigError: a modality that the file does not have.
    """
    if config.path is None:
        raise DataError("data set 'multimodal' needs a file", fix="set data.path to a .npz or .csv file")
    path = Path(config.path).expanduser()
    table = _csv(path) if path.suffix.lower() == ".csv" else _npz(path)
    n = len(table.labels)
    for name, array in table.arrays.items():
        if len(array) != n:
            raise DataError(f"modality {name} has {len(array)} samples, the labels {n}", fix="align them")
    if table.split is None:
        parts = divide(n, table.labels, config, subjects=table.subject)
    else:
        parts = {part: np.flatnonzero(table.split == part) for part in SPLITS}
        if unknown := sorted(set(table.split.tolist()) - set(SPLITS)):
            raise DataError("split has unknown names", got=unknown, expected="train, validation and test")
        if not len(parts["validation"]) and len(parts["train"]):
            train = parts["train"]
            inner = divide(
                len(train),
                table.labels[train],
                config.model_copy(update={"test": config.validation}),
                subjects=None if table.subject is None else table.subject[train],
                test_seed=config.split_seed,
            )
            held = parts["train"][inner["test"]]
            parts |= {"validation": held, "train": np.setdiff1d(parts["train"], held)}
        for part, ids in parts.items():
            if not len(ids):
                raise DataError(f"{path} marks no sample as {part}", expected="at least one")
    return assemble_modal(
        path.stem, table.arrays, table.labels, parts, config, classes=table.classes, subjects=table.subject
    )


def _npz(path: Path) -> Table:
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", fix="correct data.path") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        hint = "store plain numbers or text; object arrays need a pickle, and none is ever read"
        raise DataError(f"cannot read {path}", got=error, expected="a whole .npz file", fix=hint) from error
    given = {key: arrays.pop(key) for key in RESERVED if key in arrays}
    if not arrays or "y" not in given:
        raise DataError(
            f"{path} does not have the arrays that are needed",
            got=", ".join([*arrays, *given]) or "an empty file",
            expected="one array for each modality, and y",
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.ndim < 2:
            raise DataError(
                f"modality {name} is no table of numbers",
                got=f"{array.dtype} {array.shape}",
                expected="(n, ...) numbers",
            )
    y = given["y"]
    if y.dtype.kind == "f":
        y = y[:, None] if y.ndim == 1 else y
        names = given.get("targets")
        classes = tuple(map(str, range(y.shape[1]))) if names is None else tuple(map(str, names.tolist()))
    elif y.dtype.kind in "iu" and y.ndim == 1:
        y = y.astype(np.int64)
        names = given.get("classes")
        known = y[y != IGNORE]
        count = int(known.max(initial=0)) + 1
        classes = tuple(map(str, range(count))) if names is None else tuple(map(str, names.tolist()))
    else:
        raise DataError(
            "y is neither classes nor numbers",
            got=f"{y.dtype} {y.shape}",
            expected="whole numbers (n,) or floats (n, D)",
        )
    if y.ndim == 2 and len(classes) != y.shape[1]:
        raise DataError("targets does not name every column of y", got=len(classes), expected=y.shape[1])
    marks = {key: given[key].astype(str) if key in given else None for key in ("split", "subject")}
    return Table(arrays, y, classes, marks["split"], marks["subject"])


def _csv(path: Path) -> Table:
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", fix="correct data.path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}", got=error, expected="a CSV text file") from error
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise DataError(f"{path} is no table", expected="a header and rows of equally many fields")
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}
    groups: dict[str, list[str]] = {}
    for name in columns:
        group, dot, _ = name.partition(".")
        if dot:
            groups.setdefault(group, []).append(name)
    targets = groups.pop("target", [])
    if not groups or ("label" in columns) == bool(targets):
        raise DataError(
            f"{path} does not have the columns that are needed",
            got=", ".join(rows[0][:6]),
            expected="modality.name columns, and either label or target.name",
        )
    arrays = {
        group: np.stack([_numbers(columns[name], name) for name in names], 1)
        for group, names in groups.items()
    }
    if targets:
        labels = np.stack([_numbers(columns[name], name) for name in targets], 1)
        classes = tuple(name.partition(".")[2] for name in targets)
    else:
        classes = tuple(sorted({value for value in columns["label"] if value}))
        number = {value: i for i, value in enumerate(classes)}
        labels = np.array([number.get(value, IGNORE) for value in columns["label"]])
    marks = {key: np.array(columns[key]) if key in columns else None for key in ("split", "subject")}
    return Table(arrays, labels, classes, marks["split"], marks["subject"])


def _numbers(values: list[str], name: str) -> np.ndarray:
    found = []
    for i, value in enumerate(values):
        try:
            found.append(float(value) if value else np.nan)
        except ValueError:
            raise DataError(f"row {i + 2} of column {name} is no number", got=repr(value)) from None
    return np.array(found, dtype=np.float32)
