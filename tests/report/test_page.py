"""The page as text: repeatable, self-contained, and whole for few, old or odd records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.fabricate import run, study

from limbeck.errors import RunError
from limbeck.report import read_all, render, write


def words(page: str) -> str:
    """The page's text with tags and runs of white space taken out."""
    body = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def arrays(path: Path, change: Any) -> None:
    """Change a record's arrays in place."""
    with np.load(path / "evaluation.npz") as archive:
        found = dict(archive)
    change(found)
    np.savez(path / "evaluation.npz", **found)


def synthetic(path: Path, images: np.ndarray) -> None:
    np.savez(path / "synthetic.npz", steps=np.arange(len(images)) * 10, images=images)


def test_generated_images_are_shown_and_damaged_ones_refused(tmp_path: Path) -> None:
    path = run(tmp_path / "runs", "cpsc", steps=20)
    rng = np.random.default_rng(0)
    synthetic(path, rng.integers(0, 255, (4, 10, 2, 3, 6, 6), dtype=np.uint8))
    page = write([path], tmp_path / "page.html").read_text()
    assert "Generated images" in page
    assert "step 30" in page
    assert "data:image/png;base64," in page
    synthetic(path, np.zeros((4, 10, 2, 3, 6), np.uint8))
    with pytest.raises(RunError, match="holds no images by class"):
        render(read_all([path]))


def test_responses_stand_side_by_side_and_cannot_break_the_page(tmp_path: Path) -> None:
    for label, text in (("scratch", "4"), ("kd", " 5")):
        row = {"prompt": "2 + 3 = <b>", "reference": "5", "student": text, "teacher": "5", "before": ""}
        (run(tmp_path, label, steps=20) / "responses.jsonl").write_text(json.dumps(row) + "\n")
    page = render(read_all([tmp_path]))
    assert "2 + 3 = &lt;b&gt;" in page
    table = page[page.index('class="responses"') :].partition("</details>")[0]
    rows = [words(row).split() for row in re.split("<tr[^>]*>", table)[1:]]
    assert rows == [
        ["Reference", "5"], ["Teacher", "5", "✓"], ["Student", "before", "nothing"],
        ["From", "scratch", "4"], ["KD", "5", "✓"],
    ]  # fmt: skip


def test_one_file_is_written_and_equal_records_give_equal_pages(tmp_path: Path) -> None:
    runs = [run(tmp_path / "runs", label, steps=20) for label in ("bickd", "scratch")]
    first = write(runs, tmp_path / "a" / "page.html", title="Title")
    second = write([tmp_path / "runs"], tmp_path)
    assert first == tmp_path / "a" / "page.html"
    assert second == tmp_path / "report.html"
    assert sorted(p.name for p in first.parent.iterdir()) == ["page.html"]
    assert first.read_text() == second.read_text().replace("Limbeck report", "Title")


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = render(read_all(study(tmp_path, 1, steps=20)))
    assert set(re.findall(r"https?://[^\"'\s]+", page)) == {"http://www.w3.org/2000/svg"}
    assert re.findall(r'\b(?:src|href)="(?!#|data:)', page) == []
    assert not re.search(r"@import|@font-face", page)
    assert "default-src 'none'" in page
    assert len(page) < 1_000_000


def test_a_single_run(tmp_path: Path) -> None:
    text = words(render(read_all([run(tmp_path, "bickd", steps=20)])))
    assert "BicKD (reconstructed): no verdict : no finished run from scratch to compare with." in text
    assert "One run per method." in text
    assert "Limbeck's own reading of the paper was run" in text


def test_one_seed_cannot_tell(tmp_path: Path) -> None:
    text = words(render(read_all(study(tmp_path, 1, steps=20))))
    assert "KD: no evidence : one seed cannot tell" in text
    assert "±" not in text.partition("Comparison")[2].partition("Learning curves")[0]


def test_runs_without_a_teacher(tmp_path: Path) -> None:
    text = words(
        render(read_all([run(tmp_path, "scratch", seed, teacher=None, steps=20) for seed in (0, 1)]))
    )
    assert "From scratch: baseline" in text
    assert "These runs recorded no teacher predictions" in text
    assert "reconstructed" not in text.lower()
    assert "Agreement, %" not in text


def test_only_unfinished_runs(tmp_path: Path) -> None:
    paths = [
        run(tmp_path, "kd", seed, status=status, steps=20)
        for seed, status in enumerate(("running", "failed"))
    ]
    (paths[0] / "metrics.jsonl").unlink()
    text = words(render(read_all(paths)))
    assert "No run of this comparison is finished, so there is no verdict and no number yet." in text
    assert "These runs are unfinished." in text
    assert "is in no number: unfinished (failed)." in text


def test_several_groups_have_a_verdict_each(tmp_path: Path) -> None:
    for group in ("few labels", ""):
        for label in ("scratch", "bickd"):
            run(tmp_path / group / "runs", label, group=group, steps=20)
    page = render(read_all([tmp_path]))
    assert re.findall(r"<h2 id=\"g\d\">(.*?)</h2>", page) == [
        "Verdict: few labels",
        "Verdict: runs without a group",
    ]
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_link_meets_its_target(tmp_path: Path) -> None:
    page = render(
        read_all([run(tmp_path, label, seed, steps=20) for label in ("scratch", "kd") for seed in (0, 1)])
    )
    ids = set(re.findall(r'\sid="([^"]+)"', page))
    links = re.findall(r'href="#([^"]+)"', page)
    assert len([link for link in links if link.startswith("run-")]) == 2 * 4
    assert set(links) <= ids


def test_failed_guards_and_different_environments_are_counted(tmp_path: Path) -> None:
    paths = [run(tmp_path, "kd", seed, steps=20) for seed in range(3)]
    (paths[1] / "guards.json").write_text(
        json.dumps([{"name": "student trains", "ok": False, "detail": "frozen"}])
    )
    environment = json.loads((paths[2] / "environment.json").read_text())
    (paths[2] / "environment.json").write_text(json.dumps({**environment, "torch": "2.99"}))
    (paths[0] / "guards.json").unlink()
    text = words(render(read_all(paths)))
    assert "student trains failed 0 of 1 failed: frozen" in text
    assert "2.13.0 (2 runs), 2.99 (1 run)" in text


def test_numbers_that_are_not_finite_are_shown_as_missing(tmp_path: Path) -> None:
    path = run(tmp_path, "kd", steps=20)
    results = json.loads((path / "results.json").read_text())
    results["last"]["test"] = dict.fromkeys(results["last"]["test"], float("nan"))
    results["cost"] = {"parameters": None, "latency_ms_1": "slow"}
    (path / "results.json").write_text(json.dumps(results))
    lines = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text(
        "\n".join([lines[0].replace('"loss": ', '"loss": NaN, "x": '), *lines[1:]])
    )
    arrays(path, lambda a: a.update(class_cosine=np.full((10, 10), np.nan)))
    page = render(read_all([path]))
    assert "KD failed" in words(page)
    assert "Left out: 1 value not finite." in page
    assert not re.search(r"\bnan\b", words(page))


def test_many_classes_two_classes_and_odd_arrays(tmp_path: Path) -> None:
    many = [
        run(tmp_path / "m", label, classes=[f"class {i}" for i in range(100)], steps=20)
        for label in ("kd", "bickd")
    ]
    two = [run(tmp_path / "t", "kd", classes=["yes", "no"], steps=20)]
    odd = run(tmp_path / "o", "kd", steps=20)
    arrays(
        odd,
        lambda a: a.update(
            class_cosine=np.zeros(3), teacher_student=np.zeros((2, 3)), reliability_count=np.zeros(4)
        ),
    )
    none = run(tmp_path / "n", "kd", steps=20)
    arrays(none, dict.clear)
    for paths in (many, two, [odd], [none]):
        assert "Verdict" in render(read_all(paths))


def test_nine_methods_are_told_apart(tmp_path: Path) -> None:
    page = render(read_all([run(tmp_path, f"method {i}", steps=20) for i in range(9)]))
    legend = re.findall(r'<li><span class="mark (s\d)" aria-hidden="true">(.)</span>', page)[:9]
    assert len(set(legend)) == 9


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write([run(tmp_path, "kd", steps=20)], tmp_path / "file" / "report.html")


def test_no_run() -> None:
    with pytest.raises(RunError, match="no run to report"):
        render([])
