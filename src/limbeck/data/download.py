"""Files from the network: only when asked for, checked, whole or not at all, resumable."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import DataError

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60


def cache_folder() -> Path:
    """Where downloads are kept: ``$LIMBECK_DATA``, else ``~/.cache/limbeck``."""
    return Path(os.environ.get("LIMBECK_DATA") or Path.home() / ".cache" / "limbeck")


def download(url: str, target: Path, checksum: str) -> Path:
    """Fetch a file unless it is there already.

    The bytes go to ``<target>.part``; an interrupted download continues there. Only a file whose checksum is
    right is renamed to its name, so ``target`` is always whole.

    Args:
        url: http or https address.
        target: where the file shall be.
        checksum: ``"sha256:<hex>"`` or ``"md5:<hex>"`` of the published file.

    Raises:
        DataError: no connection, connection lost (what was got is kept), wrong checksum (it is deleted), or
            the folder cannot be written.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _continue(url, part)
        kind, expected = checksum.split(":")
        got = hash_file(part, kind)
        if got != expected:
            part.unlink()
            raise DataError(
                f"{url} does not have its published {kind} checksum",
                got=got,
                expected=expected,
                fix="run again; if it stays wrong, get the file elsewhere and set data.path",
            )
        os.replace(part, target)
    except OSError as error:
        have = part.stat().st_size if part.is_file() else 0
        raise DataError(
            f"cannot download {url} to {target.parent}",
            got=getattr(error, "reason", None) or error,
            fix=f"run again to continue after {have:,} bytes, or get the file elsewhere and set data.path",
        ) from error
    return target


def _continue(url: str, part: Path) -> None:
    """Append what is missing to the partial file, or start it anew where the server cannot continue."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    have = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={"User-Agent": "limbeck", **({"Range": f"bytes={have}-"} if have else {})})
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            resumed = answer.status == 206
            length = int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if resumed else "wb") as file:
                got = 0
                while chunk := answer.read(CHUNK):
                    got += file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return
        raise
    except HTTPException as error:
        raise ConnectionError(f"the connection broke: {error!r}") from error
    if got < length:
        raise ConnectionError(f"the connection ended after {got:,} of {length:,} bytes")


def hash_file(path: Path, kind: str) -> str:
    """Hexadecimal digest of a file, ``kind`` being sha256 or md5."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
