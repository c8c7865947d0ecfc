"""The comparison's numbers against hand-made ones, and who takes part in it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.report.fabricate import run, study

from limbeck.report import cell, comparison, read, read_all, sentence
from limbeck.report.groups import arrange, caveats, title
from limbeck.report.rows import Row
from limbeck.study.statistics import mean_interval, verdict


def change(path: Path, name: str, edit: Any) -> Path:
    """Edit a JSON file of a record in place."""
    value = json.loads((path / name).read_text())
    edit(value)
    (path / name).write_text(json.dumps(value))
    return path


def accurate(path: Path, accuracy: float, best: float | None = None) -> Path:
    """Set a record's test accuracies."""

    def edit(value: Any) -> None:
        value["last"]["test"]["accuracy"] = accuracy
        value["best"]["test"]["accuracy"] = accuracy if best is None else best

    return change(path, "results.json", edit)


def table(folder: Path, accuracies: dict[str, list[float]], **options: Any) -> dict[str, Row]:
    """Rows by label of a comparison with these accuracies of seeds 0, 1, ..."""
    for label, values in accuracies.items():
        for seed, value in enumerate(values):
            accurate(run(folder, label, seed, steps=10, **options), value)
    return {row.label: row for row in comparison(read_all([folder]))}


def test_rows_are_the_statistics_room_s_numbers(tmp_path: Path) -> None:
    scratch, kd = [0.90, 0.91, 0.93], [0.92, 0.94, 0.95]
    rows = table(tmp_path, {"kd": kd, "scratch": scratch})
    assert list(rows) == ["", "scratch", "kd"]
    assert rows["kd"].values["accuracy"] == mean_interval(kd)
    assert rows["kd"].verdicts["scratch"] == verdict(kd, scratch)
    assert rows["kd"].seeds == (0, 1, 2)
    assert rows[""].role == "teacher"
    assert rows[""].values["parameters"].mean == 272474
    assert cell(rows["scratch"], "kd").text == "–"


def test_last_and_best_are_never_mixed(tmp_path: Path) -> None:
    for label, last, best in (("scratch", 0.5, 0.6), ("kd", 0.7, 0.9)):
        accurate(run(tmp_path, label, steps=10), last, best)
    records = read_all([tmp_path])
    last, best = (
        {r.label: r.values["accuracy"].mean for r in comparison(records, m)} for m in ("last", "best")
    )
    assert (last["scratch"], last["kd"]) == (0.5, 0.7)
    assert (best["scratch"], best["kd"]) == (0.6, 0.9)


def test_groups_are_compared_apart(tmp_path: Path) -> None:
    study(tmp_path / "a", 2, group="one", steps=10)
    study(tmp_path / "b", 2, group="two", steps=10)
    rows = comparison(read_all([tmp_path]))
    assert [r.group for r in rows] == ["one"] * 5 + ["two"] * 5
    assert all(len(r.records) == 2 for r in rows if r.role == "student")


def test_unfinished_and_repeated_runs_are_left_out_and_said(tmp_path: Path) -> None:
    run(tmp_path, "kd", 0, steps=10)
    later = change(
        run(tmp_path, "kd", 0, steps=10, name="again"), "run.json", lambda v: v.update(started="2027")
    )
    run(tmp_path, "kd", 1, steps=10, status="interrupted")
    change(tmp_path / "kd-1", "run.json", lambda v: v.update(reason="SIGTERM"))
    (group,) = arrange(read_all([tmp_path]))
    assert [r.path for r in group.counted] == [later]
    reasons = {r.run.name: reason for r, reason in group.left_out}
    assert reasons == {
        "kd-0": "seed 0 of this method was run again later",
        "kd-1": "unfinished (interrupted: SIGTERM)",
    }


def test_a_teacher_s_own_run_gives_its_cost_and_does_not_compete(tmp_path: Path) -> None:
    teacher = run(tmp_path, "scratch", 7, name="teacher", teacher=None, steps=10)
    change(
        teacher, "run.json", lambda v: v.update(seconds=77.0, student={"name": "resnet20", "parameters": 9})
    )
    run(tmp_path, "kd", 0, teacher=str(teacher), steps=10)
    rows = comparison(read_all([tmp_path]))
    assert [row.label for row in rows] == ["", "kd"]
    assert rows[0].values["seconds"].mean == 77.0
    assert rows[0].records[0].path == teacher


def test_a_student_that_taught_the_next_generation_still_competes(tmp_path: Path) -> None:
    first = run(tmp_path, "scratch", 0, steps=10)
    run(tmp_path, "kd", 0, teacher=str(first), steps=10)
    assert [row.label for row in comparison(read_all([tmp_path]))] == ["", "scratch", "kd"]


def test_a_seed_without_a_finite_accuracy_is_named_and_left_out(tmp_path: Path) -> None:
    rows = table(tmp_path, {"scratch": [0.5, 0.6], "kd": [0.7, math.nan]})
    assert rows["kd"].failed == (1,)
    assert rows["kd"].verdicts["scratch"].n == 1
    (group,) = arrange(read_all([tmp_path]))
    assert any("kd-1" in line and "not a finite number" in line for line in caveats(group))


def test_all_seeds_without_a_finite_accuracy(tmp_path: Path) -> None:
    rows = table(tmp_path, {"scratch": [0.5], "kd": [math.nan]})
    assert str(sentence(rows["kd"])) == "KD failed: its accuracy is not a finite number in any seed."
    assert cell(rows["kd"], "accuracy").text == "–"


OVER = "over training from scratch"


@pytest.mark.parametrize(
    ("scratch", "kd", "says"),
    [
        ([0.90, 0.91, 0.92], [0.92, 0.931, 0.94],
         f" helped: +2.0 points {OVER} (95 % interval +1.9 to +2.2, 3 seeds)."),
        ([0.90, 0.91, 0.92], [0.92, 0.90, 0.94],
         f": no evidence: +1.0 points {OVER} (95 % interval −3.3 to +5.3, 3 seeds)."),
        ([0.92, 0.93, 0.95], [0.90, 0.91, 0.92],
         " hurt: −2.3 points against training from scratch (95 % interval −3.8 to −0.9, 3 seeds)."),
        ([0.90], [0.92], f": no evidence: one seed cannot tell (+2.0 points {OVER})."),
        ([0.90, 0.91], [0.90, 0.91], ": no evidence: equal to training from scratch in all 2 seeds."),
        ([0.50, 0.75], [0.75, 1.00],
         f": no evidence: the difference is the same in all 2 seeds, so its spread is unknown (+25.0 points {OVER})."),
    ],
)  # fmt: skip
def test_sentences(tmp_path: Path, scratch: list[float], kd: list[float], says: str) -> None:
    assert str(sentence(table(tmp_path, {"scratch": scratch, "kd": kd})["kd"])) == "KD" + says


def test_sentences_without_a_baseline_or_a_common_seed(tmp_path: Path) -> None:
    alone = table(tmp_path / "a", {"bickd": [0.9]})["bickd"]
    assert (
        str(sentence(alone))
        == "BicKD (reconstructed): no verdict: no finished run from scratch to compare with."
    )
    run(tmp_path / "b", "scratch", 0, steps=10)
    run(tmp_path / "b", "kd", 1, steps=10)
    apart = comparison(read_all([tmp_path / "b"]))[2]
    assert str(sentence(apart)) == "KD: no evidence: no seed in common with training from scratch."


def test_the_sentence_against_kd(tmp_path: Path) -> None:
    rows = table(tmp_path, {"scratch": [0.5, 0.5, 0.5], "kd": [0.6, 0.61, 0.62], "bickd": [0.7, 0.712, 0.72]})
    assert "; better than KD (+10.1 points, +9.8 to +10.4)." in str(sentence(rows["bickd"]))


def test_different_settings_are_said(tmp_path: Path) -> None:
    run(tmp_path, "scratch", 0, steps=10)
    run(tmp_path, "kd", 0, steps=20, config={"train": {"epochs": 20}})
    run(tmp_path, "kd", 1, steps=20, config={"train": {"epochs": 30}})
    (group,) = arrange(read_all([tmp_path]))
    found = "\n".join(caveats(group))
    assert "Runs of KD do not share one configuration: train.epochs is 20, 30." in found
    assert "Methods differ in more than the method: train.epochs is 10 (From scratch), 20 (KD)." in found
    assert "steps run is 10 (From scratch), 20 (KD)" in found


def test_equal_settings_need_no_caveat(tmp_path: Path) -> None:
    (group,) = arrange(read_all(study(tmp_path, 2, steps=10)))
    assert caveats(group) == []


def test_reconstructed_is_part_of_the_name(tmp_path: Path) -> None:
    record = read(run(tmp_path, "kd+bickd", steps=10))
    assert title("kd+bickd", [record]) == "KD + BicKD (reconstructed)"
    assert title("my method") == "my method"
