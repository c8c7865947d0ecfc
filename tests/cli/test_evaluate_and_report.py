"""What ``evaluate``, ``report`` and ``methods`` print, number by number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Done

import limbeck
from limbeck.cli.inspect import find_runs
from limbeck.cli.tables import SHOWN
from limbeck.methods import METHODS, describe

FEW = {"name": "digits", "train_size": 160}
SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 32, "precision": "fp32", "threads": 1, "log_every": 1}
Here = Callable[..., Done]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and two students, one of them deeper."""
    folder = tmp_path_factory.mktemp("runs")
    quick = {"quiet": True, "latency": False}
    teacher = limbeck.train("cnn", "digits", output=folder / "teacher", train={**SHORT, "epochs": 5}, **quick)
    for name, method in (("kd", "kd"), ("deep/er/bickd", "bickd")):
        limbeck.distill("mlp", teacher, FEW, method=method, output=folder / name, train=SHORT, **quick)
    return folder


def printed(out: str) -> dict[str, str]:
    """The rows of a table of one column: heading -> number as text."""
    rows = [line for line in out.splitlines()[2:] if "  " in line]
    return {heading.strip(): value.strip() for heading, value in (row.rsplit("  ", 1) for row in rows)}


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluate_prints_every_recorded_number(checkpoint: str, split: str, runs: Path, here: Here) -> None:
    run = limbeck.Run(runs / "kd")
    done = here("evaluate", run.path, "--split", split, "--checkpoint", checkpoint)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"kd: {checkpoint} epoch, float32\n")
    recorded = run.results[checkpoint][split]
    found = printed(done.out)
    assert len(found) >= 10
    for key, (heading, _) in SHOWN.items():
        if key in recorded:
            number, unit = found[heading].removesuffix(" %"), found[heading].endswith("%")
            expected = recorded[key] * (100 if unit else 1)
            assert float(number) == pytest.approx(expected, abs=0.0051 if unit else 5.1e-5), heading


def test_evaluate_goes_on_without_a_teacher_that_has_gone(runs: Path, tmp_path: Path, here: Here) -> None:
    shutil.copytree(runs / "kd", tmp_path / "kd")
    config = (tmp_path / "kd" / "config.yaml").read_text()
    (tmp_path / "kd" / "config.yaml").write_text(config.replace(str(runs / "teacher"), "nowhere"))
    done = here("evaluate", tmp_path / "kd")
    assert done.code == 0, done.err
    assert "agreement with teacher" not in done.out
    assert "Its teacher is not where it was" in done.out


def test_a_run_is_found_at_any_depth_and_counted_once(runs: Path, here: Here, tmp_path: Path) -> None:
    assert [path.name for path in find_runs([runs])] == ["bickd", "kd", "teacher"]
    twice = find_runs([runs / "kd", runs, runs / "." / "deep" / ".." / "kd"])
    assert sorted(path.name for path in twice) == ["bickd", "kd", "teacher"]
    done = here("report", runs, runs / "kd", "-o", tmp_path / "new" / "page.html", "--title", "<b>Title")
    assert done.code == 0, done.err
    page = (tmp_path / "new" / "page.html").read_text()
    assert done.out == f"report: {tmp_path / 'new' / 'page.html'}\n"
    assert "&lt;b&gt;Title" in page
    assert "<b>Title" not in page


def test_methods_prints_each_with_its_paper_weights_and_status(here: Here) -> None:
    done = here("methods")
    assert done.code == 0
    assert "\x1b" not in done.out
    heading = done.out.splitlines()[1]
    for column in ("name", "status", "needs", "default weights", "paper"):
        assert column in heading
    rows = {line.split()[0]: line for line in done.out.splitlines()[2:]}
    assert list(rows) == list(METHODS)
    for row in describe():
        for value in row.values():
            assert value in rows[row["name"]]
    assert [name for name, line in rows.items() if line.split()[1] == "reconstructed"] == [
        "bickd",
        "m2pkd",
        "asdt",
    ]


def test_what_distill_prints_about_a_finished_run(runs: Path, here: Here) -> None:
    done = here("distill", "--resume", runs / "deep" / "er" / "bickd")
    assert done.code == 0
    assert "already finished" in done.out
    assert "a reconstruction" in done.out
    for heading in ("test, last epoch", "test, best epoch", "teacher"):
        assert heading in done.out
    plain = here("distill", "--resume", runs / "kd")
    assert "reconstruction" not in plain.out
    accuracy = json.loads((runs / "kd" / "results.json").read_text())["last"]["test"]["accuracy"]
    assert f"{100 * accuracy:.2f} %" in plain.out
