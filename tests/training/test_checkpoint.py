"""Whatever bytes a checkpoint or weights file holds: the state, or one clear error, and no code is run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import CheckpointError
from limbeck.training import checkpoint

TENSOR = torch.arange(12.0).view(3, 4)
FOLDER = HealthCheck.function_scoped_fixture


def bytes_of(path: Path, *, weights: bool) -> bytes:
    if weights:
        checkpoint.save_weights(path, {"w": TENSOR})
    else:
        checkpoint.save(path, {"w": TENSOR, "step": 3})
    return path.read_bytes()


@pytest.mark.parametrize("weights", [False, True], ids=["checkpoint", "weights"])
@settings(max_examples=150, deadline=None, suppress_health_check=[FOLDER])
@given(data=st.data())
def test_changed_bytes_are_found_or_harmless(weights: bool, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "file"
    whole = bytearray(bytes_of(path, weights=weights))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(bytes(whole[:cut] if data.draw(st.booleans()) else whole))
    read: Any = checkpoint.load_weights if weights else checkpoint.load
    with suppress(CheckpointError):
        assert isinstance(read(path), dict)


@settings(max_examples=100, deadline=None, suppress_health_check=[FOLDER])
@given(content=st.binary(max_size=200), archive=st.booleans())
def test_any_bytes_at_all(tmp_path: Path, content: bytes, archive: bool) -> None:
    path = tmp_path / "file"
    if archive:
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("archive/data.pkl", content)
            made.writestr("archive/version", b"3\n")
            made.writestr("archive/byteorder", b"little")
    else:
        path.write_bytes(content)
    for read in (checkpoint.load, checkpoint.load_weights):
        with suppress(CheckpointError):
            assert isinstance(read(path), dict)


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["pickle", "archive", "legacy", "inside a tensor's archive"])
def test_no_form_of_pickle_runs(form: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "c.pt", tmp_path / "ran"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Code(mark)))
    elif form == "inside a tensor's archive":
        buffer = io.BytesIO()
        torch.save({"w": TENSOR}, buffer)
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                evil = name.endswith("data.pkl")
                new.writestr(name, pickle.dumps(Code(mark)) if evil else old.read(name))
    else:
        torch.save({"w": Code(mark)}, path, _use_new_zipfile_serialization=form == "archive")
    for read in (checkpoint.load, checkpoint.load_weights):
        with pytest.raises(CheckpointError):
            read(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Code(mark)))
    assert mark.exists(), "the trap itself must work"
