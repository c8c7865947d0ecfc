"""The page of a study in a real browser: two clicks to a configuration, narrow, dark, hostile names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import expect
from tests.report.fabricate_study import make, robust
from tests.report.test_browser import CONTRAST, HOSTILE, SHOWN

from limbeck.report.studies import write_study
from limbeck.report.studies.configs import flat


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tuning = {"trials": 3, "seeds": [100], "space": {"kd": {"temperature": [1, 2, 4]}}}
    path = make(tmp_path_factory.mktemp("study") / "out", seeds=[0, 1], tuning=tuning)
    robust(path)
    return path


@pytest.fixture(scope="module")
def page_file(folder: Path) -> Path:
    return write_study(folder, folder / "report.html")


def test_two_clicks_from_a_number_to_its_whole_configuration(
    folder: Path, page_file: Path, opened: Any
) -> None:
    with opened(page_file) as page:
        page.locator("#overview-0 tbody tr", has_text="bickd").locator("td a").last.click()
        row = page.locator("tr:target")
        row.wait_for(state="visible")
        row.locator(".seeds a", has_text="1").click()
        run = page.locator("details.run[open]")
        run.wait_for(state="visible")
        path = Path(run.locator("code").inner_text())
        assert path == folder / "runs/large/noise-40/bickd/seed1"
        whole = run.locator("pre.whole").inner_text().splitlines()
        shown = dict(line.split(": ", 1) for line in whole if line)
        assert shown == flat(yaml.safe_load((path / "config.yaml").read_text()))
        expect(run.locator("summary")).to_be_in_viewport()  # waits: the page scrolls smoothly


def test_sorting_and_folding(page_file: Path, opened: Any) -> None:
    with opened(page_file) as page:
        ranks = page.locator("#overview-0 tbody td:nth-child(2)")
        before = [float(v) for v in ranks.all_inner_texts()]
        assert before == sorted(before)
        page.locator("#overview-0 thead button", has_text="mean rank").click(click_count=2)
        assert [float(v) for v in ranks.all_inner_texts()] == sorted(before, reverse=True)
        page.locator("nav a", has_text="Tuning").click()
        page.locator(".trials summary").first.click()
        page.locator(".trials a").last.click()
        assert "trial 2, seed 100" in page.locator("details.run[open]").inner_text()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_narrow_and_readable(page_file: Path, opened: Any, mode: str) -> None:
    with opened(page_file, 380, color_scheme=mode) as page:
        found = page.evaluate(CONTRAST)  # opens everything
        assert (found["paper"] < 0.05) == (mode == "dark")
        assert found["text"][0] >= 4.5, found
        assert found["svg"][0] >= 4.5, found
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        widths = page.locator("figure svg").evaluate_all(
            "all => all.map(s => s.getBoundingClientRect().width)"
        )
        assert min(widths) >= 260


def test_hostile_names_are_inert(tmp_path: Path, opened: Any) -> None:
    pairs = {"only": {"student": "mlp", "teacher": "resnet20"}}
    out = make(tmp_path / "out", pairs=pairs, data={"default": {}}, methods=["scratch", "kd"], seeds=[0, 1])
    text = (out / "study.json").read_text()
    for name in ("kd", "only", "accuracy", "made-up study", "Numbers from a generator."):
        text = text.replace(json.dumps(name), json.dumps(HOSTILE + name + "w" * 80))
    (out / "study.json").write_text(text)
    config = out / "runs/only/default/kd/seed0/config.yaml"
    config.write_text(config.read_text() + f"note: {json.dumps(SHOWN)}\n")
    with opened(write_study(out, tmp_path), 380) as page:
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("window.hacked") is None
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == 0
        assert SHOWN in page.locator("h1").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_without_scripts_the_differences_are_readable(page_file: Path, opened: Any) -> None:
    with opened(page_file, java_script_enabled=False) as page:
        assert page.locator("pre.own").count() == len(list(page_file.parent.rglob("run.json")))
        assert "train.epochs: 3" in page.locator("#shared").text_content()
