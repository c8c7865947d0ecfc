"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from .errors import RunError

_REASONS = {
    errno.ENOSPC: ("no space left on the disk", "free some space, then resume the run"),
    errno.EDQUOT: ("disk quota exceeded", "free some space, then resume the run"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("permission denied", "choose a folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose a folder that you may write to"),
}


def cannot_write(path: Path, error: OSError) -> RunError:
    """The message for a failed write, naming the file, the reason and the fix."""
    reason, fix = _REASONS.get(error.errno or 0, (error.strerror or str(error), "check the folder"))
    return RunError(f"cannot write {path}: {reason}", fix=fix + "; files written before are untouched")


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file through a temporary neighbour, fsync and rename.

    Args:
        path: the file to create or replace.
        write: called with the open temporary file; who may read it is left to the process's umask.

    Raises:
        RunError: the disk is full, or the folder may not be written. The old file is left as it was.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> write_atomic(folder / "a.txt", lambda f: f.write(b"whole"))
        >>> (folder / "a.txt").read_bytes()
        b'whole'
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp").open("xb") as file:
            temporary = Path(file.name)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; errors as ``write_atomic``."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; errors as ``write_atomic``."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed writer left in a folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write NumPy arrays as one compressed ``.npz`` atomically.

    Raises:
        RunError: as ``write_atomic``.
    """
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, lambda file: file.write(buffer.getvalue()))
