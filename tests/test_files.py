"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from limbeck.errors import RunError
from limbeck.files import remove_leftovers, write_atomic, write_json, write_text
from tests.running import environment


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="no space left on the disk") as caught:
        write_atomic(path, fail)
    assert "files written before are untouched" in str(caught.value)
    assert path.read_text() == '{\n  "old": true\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_another_error_leaves_no_file_either(tmp_path: Path) -> None:
    def fail(file: IO[bytes]) -> None:
        raise ValueError("not of the disk")

    with pytest.raises(ValueError, match="not of the disk"):
        write_atomic(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB; where mounting is not allowed, the shell's own limit on file sizes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    yield folder
    if mounted.returncode == 0:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """In a process of its own, whose files may not grow beyond 64 KiB where the mount was refused."""
    write_text(small_disk / "kept", "whole")
    mounted = small_disk.is_mount()
    limit = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
    )
    script = (
        "import resource, signal, sys; from pathlib import Path; from limbeck.files import write_atomic\n"
        f"{'' if mounted else limit}"
        f"write_atomic(Path({str(small_disk / 'big')!r}), lambda file: file.write(bytes(200_000)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "RunError: cannot write" in done.stderr
    assert ("no space left on the disk" if mounted else "File too large") in done.stderr
    assert sorted(p.name for p in small_disk.iterdir()) == ["kept"]
    assert (small_disk / "kept").read_text() == "whole"


def test_a_checkpoint_that_does_not_fit_on_the_disk(small_disk: Path) -> None:
    """torch reports a failed write as an error about positions; the user is told about the disk."""
    script = (
        "import resource, signal, torch; from pathlib import Path\n"
        "from limbeck.errors import RunError; from limbeck.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        f"path = Path({str(small_disk / 'last.pt')!r})\n"
        "checkpoint.save(path, {'w': torch.ones(100)})\n"
        "try: checkpoint.save(path, {'w': torch.zeros(100_000)})\n"
        "except RunError as error: print(error)\n"
        "assert torch.equal(checkpoint.load(path)['w'], torch.ones(100))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "last.pt: no space left" in done.stdout or "last.pt: File too large" in done.stdout
    assert [p.name for p in small_disk.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_follows_the_umask(mask: int, tmp_path: Path) -> None:
    old = os.umask(mask)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EDQUOT, "disk quota exceeded"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_reasons_are_plain(number: int, says: str, tmp_path: Path) -> None:
    def fail(file: IO[bytes]) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(RunError, match=says):
        write_atomic(tmp_path / "a", fail)


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "a", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(RunError, match="cannot write"):
            write_text(path, "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "x"


def test_leftovers_of_a_killed_writer_go(tmp_path: Path) -> None:
    (tmp_path / ".last.pt.abc.tmp").write_bytes(b"half")
    for name in ("last.pt", "mine.tmp", ".hidden"):
        (tmp_path / name).write_bytes(b"whole")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "last.pt", "mine.tmp"]
    remove_leftovers(tmp_path / "nowhere")
