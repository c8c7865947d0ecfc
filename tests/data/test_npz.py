from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data import Data, DataConfig, load
from limbeck.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (60, 6, 5), dtype=np.uint8)
Y = np.arange(60) % 3


def read(folder: Path, config: dict[str, Any] | None = None, **arrays: Any) -> Data:
    path = folder / "shapes.npz"
    np.savez(path, **arrays)
    return load(DataConfig(name="npz", path=str(path), **(config or {})))


def test_separate_arrays(tmp_path: Path) -> None:
    data = read(tmp_path, x_train=X[:40], y_train=Y[:40], x_test=X[40:], y_test=Y[40:])
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 20)
    assert (data.name, data.classes, data.size) == ("shapes", ("0", "1", "2"), (6, 5))
    named = read(
        tmp_path,
        x_train=X[:30], y_train=Y[:30], x_validation=X[30:40], y_validation=Y[30:40], x_test=X[40:], y_test=Y[40:],
        classes=np.array(["a", "b", "c"]),
    )  # fmt: skip
    assert (len(named.train), len(named.validation), named.classes) == (30, 10, ("a", "b", "c"))


def test_a_mask_of_test_images_with_capital_names(tmp_path: Path) -> None:
    mask = np.arange(60) % 4 == 0
    data = read(tmp_path, X=X, Y=Y, te=mask)
    assert len(data.test) == 15
    assert torch.equal(data.test.images[:, 0], torch.from_numpy(X[mask]))  # type: ignore[attr-defined]


def test_a_split_by_name(tmp_path: Path) -> None:
    marks = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    data = read(tmp_path, x=X, y=Y, split=marks)
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)
    data = read(tmp_path, x=X, y=Y, split=np.where(marks == "validation", "train", marks))
    assert (len(data.train), len(data.validation), len(data.test)) == (45, 5, 10)


def test_without_marks_the_test_split_is_drawn_once_and_for_all(tmp_path: Path) -> None:
    first = read(tmp_path, x=X, y=Y)
    other = read(tmp_path, {"split_seed": 5, "validation": 3}, x=X, y=Y)
    assert len(first.test) == 12
    assert torch.bincount(first.test.labels).tolist() == [4, 4, 4]
    assert torch.equal(first.test.images, other.test.images)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "does not have the arrays.*got x;"),
        ({}, "an empty file"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "does not have the arrays"),
        ({"x": X, "y": Y[:-1]}, "60 images but 59 labels"),
        ({"x": X, "y": Y - 1}, "labels outside the classes"),
        ({"x": X, "y": Y, "classes": np.array(["a", "b"])}, "labels outside the classes"),
        ({"x": np.where(X[0, 0, 0] == X, np.nan, X), "y": Y}, "NaN or infinite"),
        ({"x": np.full((60, 2, 2), np.inf), "y": Y}, "NaN or infinite"),
        ({"x": X, "y": np.array([{}] * 60)}, "cannot read.*object arrays need a pickle"),
        ({"x": X, "y": Y, "te": np.zeros(60, bool)}, "marks no image as test"),
        ({"x": X, "y": Y, "te": np.ones(60, bool)}, "marks no image as train"),
        ({"x": X, "y": Y, "te": np.zeros(60)}, "not a mask"),
        ({"x": X, "y": Y, "te": np.zeros(3, bool)}, "does not fit the images"),
        ({"x": X, "y": Y, "split": np.array(["dev"] * 60)}, "unknown names"),
        ({"x": X[:0], "y": Y[:0]}, "is empty"),
        ({"x": X, "y": Y.astype(float)}, "not a list of class ids"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no zip", b"\x93NUMPY"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read"):
        load(DataConfig(name="npz", path=str(path)))


def test_a_truncated_file_a_single_array_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot read"):
        load(DataConfig(name="npz", path=str(path)))
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(DataError, match="cannot read"):
        load(DataConfig(name="npz", path=str(tmp_path / "one.npy")))
    with pytest.raises(DataError, match="there is no file"):
        load(DataConfig(name="npz", path=str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match=r"set data\.path"):
        load(DataConfig(name="npz"))
