"""The page of a study as text: every part, every link, and damaged or incomplete studies."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.fabricate_study import make, robust
from tests.report.test_page import words

from limbeck.errors import RunError
from limbeck.report.studies import figures, read_study, render_study, write_figures, write_study
from limbeck.report.studies.axes import Curve, axis_name, method_sweeps, setting_sweeps
from limbeck.report.studies.configs import NOT_SET, flat, own, shared

TUNING = {"trials": 3, "seeds": [100], "space": {"kd": {"temperature": [1, 2, 4]}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make(tmp_path_factory.mktemp("study") / "out", tuning=TUNING)
    robust(path)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return render_study(folder)


def small(path: Path, **more: Any) -> Path:
    """One pair and setting, two methods, two seeds."""
    pairs = {"only": {"student": "mlp", "teacher": "resnet20"}}
    return make(
        path,
        **{"pairs": pairs, "data": {"default": {}}, "methods": ["scratch", "kd"], "seeds": [0, 1], **more},
    )


def test_every_link_meets_its_target_and_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(ids)
    assert {i for i in ids if re.fullmatch(r"run-\d+", i)} <= links, "every run is reachable"


def test_two_clicks_lead_from_a_cell_to_the_configuration(page: str) -> None:
    cell = re.search(r'<a href="#(g0-m\d+)">[\d.]+ ± ', page)
    assert cell
    row = page.partition(f'<tr id="{cell[1]}">')[2].partition("</tr>")[0]
    run = re.search(r'<a href="#(run-\d+)">0</a>', row)
    assert run
    entry = page.partition(f'id="{run[1]}">')[2].partition("</details>")[0]
    assert "runs/small/clean/" in entry
    assert "methods: " in entry


def test_what_is_shared_and_what_is_a_run_s_own_is_the_whole_configuration(folder: Path, page: str) -> None:
    import html

    import yaml

    def lines(text: str) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in html.unescape(text).splitlines() if line)

    base = lines(re.findall(r'<pre id="shared"[^>]*>(.*?)</pre>', page, re.S)[0])
    blocks = re.findall(r'<p><code>([^<]+)</code>.*?<pre class="own"[^>]*>(.*?)</pre>', page, re.S)
    assert len(blocks) == len(list(folder.rglob("run.json")))
    for path, text in blocks:
        mine = lines(text)
        above = {key for key in base if any(key.startswith(f"{each}.") for each in mine)}
        found = {
            key: value
            for key, value in (base | mine).items()
            if key not in above - mine.keys() and value != NOT_SET
        }
        assert found == flat(yaml.safe_load((Path(path) / "config.yaml").read_text()))


def test_the_numbers_are_those_of_the_study(folder: Path, page: str) -> None:
    study = read_study(folder)
    text = words(page)
    for group in study.groups:
        for method in group.methods:
            assert f"{100 * (method.mean or 0):.2f} ± " in text
            for found in method.against.values():
                assert f"{abs(100 * (found.mean or 0)):.2f}" in text
    assert study.ranking is not None
    for rank in study.ranking.mean_rank.values():
        assert f"{rank:.2f}" in text


def test_all_parts_are_there(page: str) -> None:
    text = words(page)
    for part in (
        "Helped against scratch", "Ranking by accuracy", "All groups", "Temperature", "Noise rate",
        "Parameters of the student", "small · noise 20 %: against scratch",
        "small · clean: recall by class against scratch",
        "small · clean: accuracy under corruptions against scratch", "PGD 8/255", "probe on other", "Tuning",
        "temperature: end of its list", "symmetric label noise 0.4 (36.0 % of the training labels are wrong)",
        "Not tuned:", "Reconstructed, because", "trial 2, seed 100", "temperature = 4: 0.7200", "Environment",
    ):  # fmt: skip
        assert part in text, part


def test_equal_records_give_equal_pages_without_outside_references(
    folder: Path, page: str, tmp_path: Path
) -> None:
    out = write_study(folder, tmp_path)
    assert out == tmp_path / "report.html"
    assert out.read_text() == page
    assert set(re.findall(r"https?://[^\"'\s]+", page)) == {"http://www.w3.org/2000/svg"}
    assert re.findall(r'\b(?:src|href)="(?!#|data:)', page) == []


def test_a_study_without_its_run_folders_keeps_its_numbers(tmp_path: Path) -> None:
    path = small(tmp_path / "out")
    for part in ("runs", "teachers"):
        shutil.rmtree(path / part)
    text = words(render_study(path))
    assert "Its folder is not there, so its configuration is not known." in text
    assert "±" in text


def test_missing_and_failed_runs_are_named(tmp_path: Path) -> None:
    path = small(tmp_path / "out", skip=1)
    text = words(render_study(path))
    assert "1 of 4 student runs are in no number: missing." in text
    assert "kd, seed 1 is in no number: missing" in text
    assert "No ranking" in text


def test_one_seed_and_no_baseline(tmp_path: Path) -> None:
    path = small(tmp_path / "out", seeds=[0], baselines=["scratch"], methods=["kd", "dist"])
    text = words(render_study(path))
    assert "No baseline is finished, so there is no verdict." in text
    assert "There is one seed, so nothing can be said about chance." in text


def test_nothing_is_finished(tmp_path: Path) -> None:
    path = small(tmp_path / "out", skip=4)
    text = words(render_study(path))
    assert "No run of this group is finished." in text


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads((path / "study.json").read_text())
    how(found)
    (path / "study.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda s: s.pop("rows"), "rows: Field required"),
        (lambda s: s["rows"][0].update(key="../../etc"), "rows.0.key: .*below the study's folder"),
        (lambda s: s["rows"][0].update(key="/etc"), "below the study's folder"),
        (lambda s: s["comparisons"][0]["methods"][0].update(mean="high"), "comparisons.0.methods.0.mean"),
        (lambda s: s["comparisons"][0]["methods"][0].update(mean=float("nan")), "finite number"),
        (lambda s: s.update(metrics={}), "metrics: there is none"),
        (lambda s: s.update(format=9), "not of format 1"),
    ],
)  # fmt: skip
def test_a_damaged_study_is_one_message(
    folder: Path, tmp_path: Path, how: Callable[[dict[str, Any]], object], says: str
) -> None:
    shutil.copy(folder / "study.json", tmp_path)
    change(tmp_path, how)
    with pytest.raises(RunError, match=r"(?s)study\.json is damaged.*" + says + ".*--results"):
        render_study(tmp_path)


@pytest.mark.parametrize(
    "name", ["robustness.json", "probe-x.json", "run.json", "evaluation.npz", "config.yaml"]
)
def test_a_damaged_run_is_one_message(tmp_path: Path, name: str) -> None:
    path = small(tmp_path / "out")
    (path / "runs/only/default/kd/seed0" / name).write_text("[1, 2")
    with pytest.raises(RunError, match=name):
        render_study(path)


def test_sweeps_are_found(folder: Path) -> None:
    study = read_study(folder)
    (temperature,) = method_sweeps(study)
    assert temperature.key == "temperature"
    points = tuple((float(t), f"dist temperature={t}") for t in (1, 2, 4))
    assert temperature.curves == (Curve("dist", points),)
    (noise,) = setting_sweeps(study)
    assert axis_name(noise.key) == "noise rate"
    assert noise.curves[0].points == ((0.0, "clean"), (0.2, "noise 20 %"), (0.4, "noise 40 %"))


def test_two_swept_keys_and_values_that_go_together(tmp_path: Path) -> None:
    alpha = [{"weight": 0.9, "label_weight": 0.1}, {"weight": 0.5, "label_weight": 0.5}]
    kd = {"methods": ["kd"], "sweep": {"temperature": [1, 4], "alpha": alpha}}
    path = small(
        tmp_path / "out", methods={"scratch": None, "kd": kd}, skip=10, sweep={"data.train_size": [50, 100]}
    )
    study = read_study(path)
    temperature, weight = method_sweeps(study)
    assert [c.name for c in temperature.curves] == ["kd alpha=0.9", "kd alpha=0.5"]
    assert weight.curves[0].points == (
        (0.5, "kd temperature=1 alpha=0.5"),
        (0.9, "kd temperature=1 alpha=0.9"),
    )
    (size,) = setting_sweeps(study)
    assert size.curves[0].points == ((50.0, "train_size=50"), (100.0, "train_size=100"))


def test_numbers_that_go_together_are_one_axis(tmp_path: Path) -> None:
    calls = {
        f"{n} calls": {"data.train_size": n, "teacher.budget": n, "train.epochs": 4000 // n}
        for n in (500, 1000)
    }
    data = {**calls, "other": {"data.name": "fashion-mnist"}}
    base = {"teacher": {"cache": "memory"}}
    (found,) = setting_sweeps(read_study(small(tmp_path / "out", base=base, data=data, skip=12)))
    assert found.key == "teacher.budget"
    assert found.curves == (Curve("", ((500.0, "500 calls"), (1000.0, "1000 calls"))),)


def test_the_shared_part_of_configurations() -> None:
    runs = [flat({"a": {"b": 1, "c": 2}, "seed": 3}), flat({"a": {"b": 1, "c": 3}}), flat({"a": None})]
    base = shared(runs)
    assert base == {"a.b": "1"}
    assert [own(run, base) for run in runs] == [{"a.c": "2"}, {"a.c": "3"}, {"a": "null"}]
    assert own({"d": "1"}, base) == {"d": "1", "a.b": NOT_SET}


def test_costs_that_were_measured_have_a_picture_each(tmp_path: Path) -> None:
    study = read_study(small(tmp_path / "study", metrics=["accuracy", "processor_seconds", "tokens"]))
    titles = [picture.title for picture in figures.cost(study, study.groups[0])]
    assert titles == ["only: against training time", "only: against tokens"]
    study = read_study(small(tmp_path / "other"))
    assert [picture.title for picture in figures.cost(study, study.groups[0])] == titles[:1]


def test_figures_are_png_files(folder: Path, tmp_path: Path) -> None:
    found = write_figures(folder, tmp_path / "figures")
    names = [path.name for path in found]
    assert names[0] == "made-up-study-ranking.png"
    assert set(names) == {path.name for path in (tmp_path / "figures").iterdir()}
    for part in ("against-scratch", "against-kd", "temperature-accuracy", "noise-rate-nll", "cost", "classes",
                 "corruptions", "parameters-of-the-student-accuracy"):  # fmt: skip
        assert f"made-up-study-{part}.png" in names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)
