"""Where the rows of text come from: JSON lines, and what Hugging Face ``datasets`` keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import DataError, DependencyError
from .config import DataConfig
from .streams import generator

SPLITS = ("train", "validation", "test")


def read_rows(config: DataConfig) -> dict[str, list[Any]]:
    """The rows of each split.

    ``data.path`` is a folder of ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``, a file of JSON lines, or what
    ``datasets.Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote. Splits that are missing are
    drawn from the training rows. ``data.train_from`` puts other rows in the place of the training ones.

    Raises:
        DataError: something is missing or cannot be read.
        DependencyError: datasets is not installed.
    """
    path = Path(config.path or "")
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        found = drawn(splits_of(_from_disk(path)), config)
    elif path.is_dir():
        found = {name: read_lines(path / f"{name}.jsonl") for name in SPLITS}
    else:
        found = drawn({"train": read_lines(path)}, config)
    return found if config.train_from is None else {**found, "train": read_lines(Path(config.train_from))}


def splits_of(data: Any) -> dict[str, list[Any]]:
    """Rows by split of a ``datasets.Dataset`` (all of them training rows) or ``DatasetDict``.

    Raises:
        DataError: no training rows.
    """
    if not isinstance(data, Mapping):
        return {"train": data.to_list()}
    found = {name: data[name].to_list() for name in SPLITS if name in data}
    if "train" not in found:
        raise DataError("the datasets have no training rows", got=", ".join(data), expected="a split train")
    return found


def drawn(found: dict[str, list[Any]], config: DataConfig) -> dict[str, list[Any]]:
    """The same with test and validation drawn from the training rows where they are missing."""
    rows, made = found["train"], dict(found)
    left = list(range(len(rows)))
    for name, share, seed in (("test", config.test, 0), ("validation", config.validation, config.split_seed)):
        if name in found:
            continue
        count = max(1, round(share * len(rows)) if share < 1 else int(share))
        order = generator(name, seed).permutation(len(left)).tolist()
        made[name] = [rows[left[i]] for i in sorted(order[:count])]
        left = [left[i] for i in sorted(order[count:])]
    return {**made, "train": [rows[i] for i in left]}


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines.

    Raises:
        DataError: no file, or a line that is no JSON.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError(f"no file {path}", fix="check data.path") from None
    except ValueError as error:
        raise DataError(f"{path} holds a line that is no JSON: {error}") from None


def _from_disk(path: Path) -> Any:
    try:
        datasets: Any = import_module("datasets")
    except ImportError:
        raise DependencyError("this folder needs datasets", fix="pip install 'limbeck[llm]'") from None
    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:
        raise DataError(
            f"cannot read the data set in {path}", got=f"{type(error).__name__}: {error}"
        ) from None
