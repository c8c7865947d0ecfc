"""Reading records: what a whole one holds, and what a damaged one says."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.report.fabricate import run

from limbeck.errors import RunError
from limbeck.report import read, read_all


def test_a_record_is_read_whole(tmp_path: Path) -> None:
    record = read(run(tmp_path, "bickd", 3))
    assert (record.run.label, record.run.seed, record.finished) == ("bickd", 3, True)
    assert record.run.reconstructed
    assert len(record.train) == 300
    assert len(record.validation) == 10
    assert record.results is not None
    assert record.results.best is not None
    assert record.results.best.selected_on == "validation accuracy"
    assert record.arrays["teacher_student"].shape == (10, 10)
    assert record.settings["data"]["train_size"] == 200


def test_an_unfinished_record_has_no_numbers_and_may_end_in_half_a_line(tmp_path: Path) -> None:
    path = run(tmp_path, "kd", status="running")
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    record = read(path)
    assert not record.finished
    assert record.results is None
    assert len(record.train) == 300


def test_folders_of_runs_are_searched_and_no_run_is_read_twice(tmp_path: Path) -> None:
    paths = [run(tmp_path / "study", "kd", seed) for seed in (0, 1)]
    assert [r.path for r in read_all([tmp_path, paths[0], str(paths[1])])] == paths


def test_no_run_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run to report"):
        read_all([])
    with pytest.raises(RunError, match=r"no run record in .*expected a folder that holds run.json"):
        read_all([tmp_path])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pickled(path: Path) -> None:
    np.savez(path, confusion=np.array([{"an": "object"}], dtype=object))


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("run.json", cut, "not valid JSON"),
    ("run.json", lambda p: p.write_text("[" * 100000), "not valid JSON"),
    ("run.json", lambda p: p.write_text('{"label": "kd"}'), "name: Field required"),
    ("run.json", lambda p: p.write_text(p.read_text().replace('"finished"', '"done"')), "status: "),
    ("run.json", lambda p: p.write_bytes(b"\xff\xfe{}"), "not UTF-8"),
    ("config.yaml", lambda p: p.write_text("a: [1"), "not valid YAML"),
    ("config.yaml", lambda p: p.write_text("!!python/object/apply:os.getcwd []"), "not valid YAML"),
    ("config.yaml", Path.unlink, "missing"),
    ("environment.json", lambda p: p.write_text("3"), "not a JSON object"),
    ("metrics.jsonl", cut, "line 1"),
    ("metrics.jsonl", lambda p: p.write_text('{"kind": "train"}\n'), "line 1 is not a metric line"),
    ("metrics.jsonl", lambda p: p.write_text('{"kind": "train", "step": 1, "terms": 3}\n'), "line 1"),
    ("results.json", Path.unlink, "missing"),
    ("results.json", lambda p: p.write_text("{}"), "last: Field required"),
    (
        "results.json",
        lambda p: p.write_text('{"last": {"test": {"accuracy": "high"}}}'),
        "last.test.accuracy",
    ),
    ("responses.jsonl", lambda p: p.write_text('{"prompt": "a"}'), "line 1 is no prompt with its responses"),
    ("responses.jsonl", lambda p: p.write_text('\n["a"'), "line 2 is no prompt"),
    ("guards.json", lambda p: p.write_text('[{"ok": true}]'), "name: Field required"),
    ("guards.json", lambda p: p.write_text("{}"), "not a JSON list"),
    ("evaluation.npz", Path.unlink, "missing"),
    ("evaluation.npz", cut, "not a readable .npz"),
    ("evaluation.npz", lambda p: p.write_text("not an archive"), "not a readable .npz"),
    ("evaluation.npz", lambda p: p.write_bytes(b""), "not a readable .npz"),
    ("evaluation.npz", one_array, "not a readable .npz"),
    ("evaluation.npz", lambda p: np.savez(p, class_cosine=np.array(["a"])), "holds no numbers"),
    ("evaluation.npz", pickled, "not a readable .npz"),
]


@pytest.mark.parametrize(("name", "damage", "says"), DAMAGE)
def test_damage_names_the_file_and_the_fix(
    tmp_path: Path, name: str, damage: Callable[[Path], object], says: str
) -> None:
    path = run(tmp_path, "kd", steps=20)
    damage(path / name)
    with pytest.raises(RunError) as caught:
        read(path)
    assert str(path / name) in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.fix


def test_numbers_that_are_not_finite_are_read_as_such(tmp_path: Path) -> None:
    path = run(tmp_path, "kd", steps=20)
    results = json.loads((path / "results.json").read_text())
    results["last"]["test"]["nll"] = float("nan")
    (path / "results.json").write_text(json.dumps(results))
    assert read(path).results is not None


def test_arguments_are_documented() -> None:
    for function in (read, read_all):
        assert "Raises:" in inspect.getdoc(inspect.unwrap(function))
