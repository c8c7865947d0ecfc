"""The wheel holds what it should, and works outside the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.running import ROOT, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(
        [sys.executable, *words, "-w", str(folder), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("limbeck-*.whl")
    return made


def test_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"limbeck/py.typed", "limbeck/report/templates/script.js"} <= set(names)
    assert any(name.endswith(".html.jinja") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith("limbeck") for name in names)


def test_it_works_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    words = [
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(target),
    ]
    subprocess.run([sys.executable, *words, str(wheel)], check=True, capture_output=True)
    place = {**environment(), "PYTHONPATH": str(target)}
    code = "import limbeck; print(limbeck.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=place, capture_output=True, text=True, check=True
    )
    assert str(target) in found.stdout
    told = subprocess.run(
        [sys.executable, "-m", "limbeck", "--version"],
        cwd=tmp_path,
        env=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == f"limbeck {wheel.name.split('-')[1]}\n"
