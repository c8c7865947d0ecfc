"""Archives in CIFAR's format are made here, as Python 2 wrote them; hostile ones are refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data import DataConfig, load
from limbeck.data.restricted import read_batch
from limbeck.errors import DataError


class OldPickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes what Python 2 wrote at protocol 2: text as byte strings, NumPy's old module name."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes) -> None:
        if len(value) < 256:
            self.write(b"U" + struct.pack("<B", len(value)) + value)
        else:
            self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    def save_text(self, value: str) -> None:
        self.save_bytes(value.encode())

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{name or value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_text
    dispatch[type(pickle.dumps)] = save_global
    dispatch[type] = save_global


def old_pickle(value: Any) -> bytes:
    buffer = io.BytesIO()
    OldPickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def cifar10_files() -> dict[str, bytes]:
    files = {
        name: old_pickle(
            {"data": pixels(20, seed), "labels": [k % 10 for k in range(20)], "batch_label": name}
        )
        for seed, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"])
    }
    names = [f"class {k}" for k in range(10)]
    return files | {"batches.meta": old_pickle({"label_names": names, "num_vis": 3072})}


def cifar100_files(train: int = 200, test: int = 200, present: int = 100) -> dict[str, bytes]:
    files = {}
    for name, count in (("train", train), ("test", test)):
        fine, coarse = [k % present for k in range(count)], [k % 20 for k in range(count)]
        values = {"data": pixels(count, 1), "fine_labels": fine, "coarse_labels": coarse}
        files[name] = old_pickle(values)
    return files | {"meta": old_pickle({"fine_label_names": [f"c{k}" for k in range(100)]})}


def archive(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", cifar10_files())


def test_the_writer_of_this_test_writes_what_numpy_reads() -> None:
    value = {"data": pixels(3, 0), "labels": [1, 2, 3]}
    again = pickle.loads(old_pickle(value), encoding="bytes")
    assert np.array_equal(again[b"data"], value["data"])
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in old_pickle(value)


@pytest.mark.parametrize("form", ["archive", "folder of archive", "folder", "parent folder"])
def test_cifar10_from_every_place(ten: Path, tmp_path: Path, form: str) -> None:
    extracted = tmp_path / "extracted" / "cifar-10-batches-py"
    extracted.mkdir(parents=True)
    for name, content in cifar10_files().items():
        (extracted / name).write_bytes(content)
    place = {
        "archive": ten,
        "folder of archive": tmp_path,
        "folder": extracted,
        "parent folder": extracted.parent,
    }
    data = load(DataConfig(name="cifar10", path=str(place[form]), validation=0.2))
    assert (len(data.train), len(data.validation), len(data.test)) == (80, 20, 20)
    assert (data.channels, data.size, data.classes[3]) == (3, (32, 32), "class 3")
    expected = torch.from_numpy(pixels(20, 5)).reshape(20, 3, 32, 32)
    assert torch.equal(data.test.images, expected)  # type: ignore[attr-defined]
    assert data.std == (0.247, 0.2435, 0.2616)


def test_cifar100_uses_the_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", cifar100_files())
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    data = load(DataConfig(name="cifar100", validation=100))
    assert (len(data.classes), len(data.train), len(data.test)) == (100, 100, 200)
    assert data.mean == (0.5071, 0.4867, 0.4408)


def test_missing_archive_names_the_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"data.path.*data.download=true.*cifar-100-python.tar.gz"):
        load(DataConfig(name="cifar100"))


def test_truncated_archive(ten: Path) -> None:
    ten.write_bytes(ten.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot read"):
        load(DataConfig(name="cifar10", path=str(ten)))
    ten.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot read"):
        load(DataConfig(name="cifar10", path=str(ten)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_2", None, "lacks data_batch_2"),
        ("data_batch_2", b"", "damaged"),
        ("data_batch_2", old_pickle({"data": pixels(20, 0)})[:-500], "damaged"),
        ("data_batch_2", old_pickle([1, 2]), "it holds a list"),
        ("data_batch_2", old_pickle({"labels": [0] * 20}), "no array 'data'"),
        (
            "data_batch_2",
            old_pickle({"data": pixels(20, 0)[:, :100].copy(), "labels": [0] * 20}),
            "no array 'data'",
        ),
        ("data_batch_2", old_pickle({"data": pixels(20, 0), "labels": [0] * 19}), "20 images but 19 labels"),
        ("data_batch_2", old_pickle({"data": pixels(20, 0), "labels": ["cat"] * 20}), "no list of numbers"),
        ("data_batch_2", old_pickle({"data": pixels(2, 0), "labels": [0, 10]}), "labels outside the classes"),
        (
            "data_batch_2",
            old_pickle({"data": np.zeros((2, 3072)), "labels": [0, 1]}),
            "not of unsigned bytes",
        ),
        ("batches.meta", old_pickle({"names": []}), "no list 'label_names'"),
    ],
)
def test_damaged_members(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    files = cifar10_files()
    if content is None:
        del files[name]
    else:
        files[name] = content
    path = archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", files)
    with pytest.raises(DataError, match=message):
        load(DataConfig(name="cifar10", path=str(path)))


class Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps({"data": Command(trace)}, protocol=protocol)
        files = cifar10_files() | {"test_batch": content}
        path = archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", files)
        with pytest.raises(DataError, match=r"test_batch.*was refused; got it asks for (posix|nt)\.system"):
            load(DataConfig(name="cifar10", path=str(path)))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"\x80\x04\x8c\x05numpy\x94\x8c\x10ndarray.__class__\x94\x93.",
        b"cnumpy\nndarray\n(dS'arguments'\nI1\nsb.",
        b"}S'a'\ncnumpy.core.multiarray\n_reconstruct\n(N}S'__init__'\nI1\nstbs.",
        b"}S'data'\ncnumpy.core.multiarray\n_reconstruct\n)R(I1\n(I2\ntI3\nI0\nS'ab'\ntbs.",
        b"}S'data'\ncnumpy.core.multiarray\n_reconstruct\n)R(I1\n(I99\ntcnumpy\ndtype\n(S'u1'\ntRI0\nS'ab'\ntbs.",
        b"}S'data'\ncnumpy.core.multiarray\n_reconstruct\n)Rs.",
        b"}S'data'\n(lS'x'\nacnumpy\nndarray\nas.",
        b"P1\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\xff.",
        b"]" + b"(" * 2000,
        os.urandom(200),
    ],
)
def test_crafted_pickles_are_refused_and_change_nothing(content: bytes) -> None:
    good = old_pickle({"data": pixels(1, 0)})
    with pytest.raises(DataError, match="was refused"):
        read_batch(content, "batch")
    assert read_batch(good, "batch")["data"].shape == (1, 3072)


def test_a_fortran_ordered_array_keeps_its_pixels() -> None:
    value = np.asfortranarray(pixels(4, 0))
    assert np.array_equal(read_batch(old_pickle({"data": value}), "batch")["data"], value)
