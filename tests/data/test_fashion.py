from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import DataConfig, fashion, load
from limbeck.data.assembly import statistics
from limbeck.errors import DataError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
INSTALLED = all((fashion.SYSTEM_FOLDER / name).is_file() for name in fashion.FILES)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 20)):
        images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def read(place: Path) -> object:
    return load(DataConfig(name="fashion-mnist", path=str(place), validation=10))


def test_four_files_gzipped_or_plain(place: Path) -> None:
    packed = place / f"{IMAGES}.gz"
    (place / IMAGES).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    data = load(DataConfig(name="fashion-mnist", path=str(place), validation=10))
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 20)
    assert data.classes[9] == "Ankle boot"
    assert (data.mean, data.std) == ((0.286,), (0.353,))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES, lambda content: content[:-5], "length that its header says"),
        (IMAGES, lambda content: content + b"x", "length that its header says"),
        (IMAGES, lambda content: content[:6], "not an IDX file"),
        (IMAGES, lambda content: b"", "not an IDX file.*first bytes none"),
        (IMAGES, lambda content: b"\x00\x00\x0d\x03" + content[4:], "not an IDX file.*00000d03"),
        (LABELS, lambda content: idx(np.zeros(39, np.uint8)), "40 images but 39 labels"),
        (LABELS, lambda content: idx(np.full(40, 10, np.uint8)), "labels outside the classes"),
        (LABELS, lambda content: idx(np.zeros((40, 28, 28), np.uint8)), "exchanged"),
        (IMAGES, lambda content: idx(np.zeros((0, 28, 28), np.uint8)), "0 images but 40"),
    ],
)
def test_damaged_files(place: Path, name: str, change: object, message: str) -> None:
    path = place / f"{name}.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        read(place)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-9], lambda c: b"not gzip", lambda c: c[:40] + b"\xff" * 99 + c[140:]]
)
def test_damaged_compression(place: Path, damage: object) -> None:
    path = place / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=f"cannot read .*{IMAGES}"):
        read(place)


def test_a_missing_file_is_named(place: Path) -> None:
    (place / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"lacks a file.*{LABELS}"):
        read(place)


def test_without_files_three_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"dataset-fashion-mnist.*data.path.*data.download=true"):
        load(DataConfig(name="fashion-mnist"))


def test_the_cache_folder_is_used(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    (cache / "fashion-mnist").mkdir(parents=True)
    for name in fashion.FILES:
        (place / name).rename(cache / "fashion-mnist" / name)
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setenv("LIMBECK_DATA", str(cache))
    assert len(load(DataConfig(name="fashion-mnist", validation=10)).test) == 20


@pytest.mark.skipif(not INSTALLED, reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_data_have_the_published_counts_and_statistics() -> None:
    data = load(DataConfig(name="fashion-mnist"))
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert torch.bincount(data.validation.labels).tolist() == [600] * 10
    mean, std = statistics(data.train)
    assert mean == pytest.approx(data.mean, abs=0.003)
    assert std == pytest.approx(data.std, abs=0.003)
