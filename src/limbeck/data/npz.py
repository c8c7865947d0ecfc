"""Images and labels from one NumPy ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import as_images, as_labels, default_classes
from .assembly import assemble, resolve_count, stratified
from .config import Data, DataConfig
from .families import hold_out
from .splits import Split, TensorSplit
from .streams import generator

LAYOUTS = (
    "x_train, y_train, x_test, y_test (also x_validation, y_validation); "
    "or x, y and optionally split ('train', 'validation', 'test' per image) or a true/false test mask "
    "named test or te, and family"
)


def npz(config: DataConfig) -> Data:
    """Images of a ``.npz`` file, in either of two layouts.

    Key names are taken without regard to case:

    - ``x_train``, ``y_train``, ``x_test``, ``y_test`` and optionally ``x_validation``, ``y_validation``;
    - ``x`` and ``y`` with, optionally, ``split`` (one of "train", "validation", "test" per image) or a
      true/false mask of the test images named ``test`` or ``te``, and ``family``: which family (one writer, one
      typeface) an image is of. What is held out is then made up of whole families.

    ``classes`` (text) names the classes. Where no test images are marked, ``data.test`` of all images are
    drawn, stratified, always with seed 0. Form of images and labels as in ``from_arrays``. Mean and std are
    computed on the training split. Object arrays need a pickle to read and are refused.

    Raises:
        DataError: missing, damaged or empty file, unknown keys, object arrays, and all of ``from_arrays``.
    """
    if config.path is None:
        raise DataError("data set 'npz' needs a file", fix="set data.path to it")
    path = Path(config.path).expanduser()
    return from_file(path, config, path.stem)


def from_file(path: Path, config: DataConfig, name: str, classes: Sequence[str] | None = None) -> Data:
    """Data from a file of these layouts; ``classes`` where the file names none. Errors as ``npz``."""
    arrays = _read(path)
    splits = _separate(arrays) if "x_train" in arrays else _divide(arrays, config, path)
    labels = [split.labels for split in splits.values()]
    if "classes" in arrays:
        classes = [str(word) for word in arrays["classes"].tolist()]
    return assemble(
        name,
        splits["train"],
        splits["test"],
        splits.get("validation"),
        classes=classes or default_classes(*labels),
        share=config.validation,
        train_size=config.train_size,
        split_seed=config.split_seed,
        changes=config,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays by lower-case name."""
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            arrays = {key.lower(): file[key] for key in file.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", fix="correct data.path") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        hint = "store plain numbers or text; object arrays need a pickle, and none is ever read"
        raise DataError(f"cannot read {path}", got=error, expected="a whole .npz file", fix=hint) from error
    if not ({"x", "y"} <= arrays.keys() or {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys()):
        raise DataError(
            f"{path} does not have the arrays that are needed",
            got=", ".join(arrays) or "an empty file",
            expected=LAYOUTS,
        )
    return arrays


def _separate(arrays: dict[str, np.ndarray]) -> dict[str, Split]:
    parts = ["train", "test"] + (["validation"] if "x_validation" in arrays else [])
    for part in parts:
        if f"y_{part}" not in arrays:
            raise DataError(f"the file has x_{part} but no y_{part}")
    return {
        part: TensorSplit(
            as_images(arrays[f"x_{part}"], f"x_{part}"), as_labels(arrays[f"y_{part}"], f"y_{part}"), part
        )
        for part in parts
    }


def _divide(arrays: dict[str, np.ndarray], config: DataConfig, path: Path) -> dict[str, Split]:
    import torch

    every = TensorSplit(as_images(arrays["x"], "x"), as_labels(arrays["y"], "y"), path.name)
    n = len(every)
    family = _marks(arrays["family"], "family", n) if "family" in arrays else None
    if "split" in arrays:
        marks = _marks(arrays["split"], "split", n).astype(str)
        if unknown := sorted(set(marks.tolist()) - {"train", "validation", "test"}):
            raise DataError("split has unknown names", got=unknown, expected="train, validation and test")
        parts = {part: np.flatnonzero(marks == part) for part in ("train", "validation", "test")}
        if not len(parts["validation"]):
            del parts["validation"]
    elif mask := [key for key in ("test", "te") if key in arrays]:
        marked = _marks(arrays[mask[0]], mask[0], n)
        if marked.dtype != np.bool_:
            raise DataError(f"{mask[0]} is not a mask", got=f"type {marked.dtype}", expected="true or false")
        parts = {"train": np.flatnonzero(~marked), "test": np.flatnonzero(marked)}
    else:
        count = resolve_count(config.test, n, "data.test")
        if family is not None:
            test = np.flatnonzero(hold_out(family, count, generator("test", 0)))
        else:
            test = stratified(every.labels, count, generator("test", 0)).numpy()
        parts = {"train": np.setdiff1d(np.arange(n), test), "test": test}
    if family is not None and "validation" not in parts and len(train := parts["train"]):
        count = resolve_count(config.validation, len(train), "data.validation")
        held = hold_out(family[train], count, generator("validation", config.split_seed))
        parts |= {"train": train[~held], "validation": train[held]}
    for part, ids in parts.items():
        if not len(ids):
            raise DataError(f"{path} marks no image as {part}", expected="at least one")
    return {part: every.subset(torch.from_numpy(ids)) for part, ids in parts.items()}


def _marks(value: np.ndarray, what: str, n: int) -> np.ndarray:
    if value.shape != (n,):
        raise DataError(f"{what} does not fit the images", got=f"shape {value.shape}", expected=f"({n},)")
    return value
