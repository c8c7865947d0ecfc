"""What the documents say is true: snippets and examples run, presets parse, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from limbeck.config import RunConfig, read
from limbeck.methods import METHODS
from tests.running import ROOT, environment

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WEIGHTS = (
    ROOT / "examples" / "smollm2.py"
)  # needs a file of 93 MB: tests/test_smollm2.py runs it on a small one
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {WEIGHTS})
PRESETS = sorted(
    file for folder in ("", "data-free", "language") for file in (ROOT / "presets" / folder).glob("*.yaml")
)


def run(script: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(script)], cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    script = tmp_path / "readme.py"
    script.write_text(code.replace('"epochs": 20', '"epochs": 2'))
    run(script, tmp_path)
    assert (tmp_path / "runs" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_are_short(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text().splitlines()) <= 90
    assert "%" in run(example, tmp_path)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_parse_and_say_what_they_are_for(preset: Path) -> None:
    assert preset.read_text().startswith("# ")
    config = read(preset)
    for method in config.methods:
        METHODS[method.name](**method.options)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_key_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()

    def keys(model: type[BaseModel]) -> set[str]:
        found = set(model.model_fields)
        for field in model.model_fields.values():
            for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if isinstance(part, type) and issubclass(part, BaseModel):
                    found |= keys(part)
        return found

    assert {key for key in keys(RunConfig) if f"`{key}`" not in text} == set()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_entry(name: str) -> None:
    assert f"`{name}`" in (ROOT / "README.md").read_text()
    assert f"`{name}`" in (ROOT / "docs" / "methods.md").read_text()


def test_a_reconstruction_says_so() -> None:
    for page in PAGES:
        text = page.read_text()
        assert "BicKD" not in text or "econstruct" in text, page
