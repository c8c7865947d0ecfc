"""The page in a real browser: quiet, sortable, inert, readable when narrow, dark or printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.fabricate import CLASSES, run, study

from limbeck.report import write

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'>{{7*7}}$x_\x01\ud800知識"
SHOWN = HOSTILE.partition("\x01")[0]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = study(folder / "runs", steps=60)
    runs.append(run(folder / "runs", "dkd", status="interrupted", steps=20))
    return write(runs, folder / "report.html", title="Test report")


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    classes = [HOSTILE, *CLASSES[1:]]
    long = {"config": {"note": HOSTILE + "x" * 300}}
    runs = [
        run(
            folder,
            label,
            seed,
            name=f"{HOSTILE}{label}{seed}",
            classes=classes,
            steps=20,
            group=HOSTILE,
            **long,
        )
        for label in ("scratch", "kd", HOSTILE + "w" * 60)
        for seed in (0, 1)
    ]
    runs.append(run(folder, "kd", 0, group="another", steps=20, name="alone"))
    return write(runs, folder / "report.html", title=HOSTILE + "W" * 80)


def test_the_verdict_comes_first_and_all_parts_are_there(page_file: Path, opened: Any) -> None:
    with opened(page_file) as page:
        headings = page.locator("h2, h3").all_inner_texts()
        assert headings == [
            "Verdict", "Caveats", "Comparison", "Learning curves", "Reliability", "Student against teacher",
            "Class columns", "Cost against accuracy", "Guards", "Environment", "Runs",
        ]  # fmt: skip
        verdicts = page.locator(".verdicts li").all_inner_texts()
        assert any(text.startswith("BicKD (reconstructed)") for text in verdicts)
        assert all("95 % interval" in text or "measured against" in text for text in verdicts)
        assert "10 epochs, 60 steps, batches of 64" in page.locator(".regime").first.inner_text()
        assert "dkd-0 (dkd, seed 0) is in no number: unfinished" in page.locator(".caveats").inner_text()
        assert page.locator("figure svg").count() == 2 + 6 + 5 + 4 + 5 + 3
        assert page.locator("[id]").evaluate_all("all => all.length === new Set(all.map(e => e.id)).size")


def methods(page: Any) -> list[str]:
    names = page.locator("#g0-last tbody.student th").all_inner_texts()
    return [name.split("\n")[0] for name in names]


def test_the_table_sorts_by_click_and_by_key(page_file: Path, opened: Any) -> None:
    with opened(page_file) as page:
        before = methods(page)
        head = page.locator("#g0-last thead th", has_text="NLL")
        cells = page.locator("#g0-last tbody.student td:nth-child(4)")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        values = [float(v) for v in cells.evaluate_all("all => all.map(c => c.dataset.value)")]
        assert values == sorted(values)
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        falling = [float(v) for v in cells.evaluate_all("all => all.map(c => c.dataset.value)")]
        assert falling == sorted(values, reverse=True)
        page.locator("#g0-last thead th", has_text="Against KD").locator("button").press("Space")
        assert head.get_attribute("aria-sort") == "none"
        assert methods(page)[-2:] == ["From scratch", "KD"], "rows without a number come last"
        page.locator("#g0-last thead button").first.click()
        assert methods(page) == sorted(before, key=str.lower)
        assert page.locator("#g0-last tbody.teacher tr").count() == 1


def test_a_row_leads_to_its_run_and_opens_it(page_file: Path, opened: Any) -> None:
    with opened(page_file) as page:
        page.locator("#g0-last tbody.student tr", has_text="BicKD").locator("a").first.click()
        page.wait_for_timeout(300)
        shown = page.locator("details.run[open]")
        assert shown.count() == 1
        text = shown.inner_text()
        assert "bickd-0" in text
        assert "learning_rate: 0.05" in text
        assert "last epoch (10)" in text
        assert "best epoch (6)" in text


@pytest.mark.parametrize("width", [360, 1200])
def test_hostile_names_are_inert_and_never_widen_the_page(
    hostile_file: Path, opened: Any, width: int
) -> None:
    with opened(hostile_file, width) as page:
        assert page.evaluate("window.hacked") is None
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == 0
        assert SHOWN in page.locator("h1").inner_text()
        assert SHOWN in page.locator(".run-name").first.inner_text()
        assert page.locator("svg text", has_text="<script>").count() > 0
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_window_scrolls_tables_and_nothing_else(page_file: Path, opened: Any, width: int) -> None:
    with opened(page_file, width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.locator("figure svg").evaluate_all(
            "all => all.map(s => s.getBoundingClientRect().width)"
        )
        assert min(sizes) >= 240
        assert page.evaluate("document.querySelector('.scroll').scrollWidth") > width or width > 700


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => {
    const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = c.slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255, 255];
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  document.querySelectorAll('details').forEach(d => d.open = true);
  const worst = {text: [99, ''], svg: [99, ''], line: [99, '']};
  const keep = (kind, value, what) => { if (value < worst[kind][0]) worst[kind] = [value, what]; };
  for (const e of document.querySelectorAll('body *:not(svg *):not(script)')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    keep('text', ratio(rgba(getComputedStyle(e).color), behind(e)), e.tagName + '.' + e.className);
  }
  for (const e of document.querySelectorAll('svg text')) {
    keep('svg', ratio(rgba(getComputedStyle(e).fill), behind(e)), e.textContent);
  }
  for (let i = 0; i < 8; i++) {
    const colour = getComputedStyle(document.documentElement).getPropertyValue('--s' + i);
    keep('line', ratio(rgba(colour), behind(document.body)), i);
  }
  return {...worst, paper: light(behind(document.body))};
}"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrast(page_file: Path, opened: Any, mode: str) -> None:
    with opened(page_file, color_scheme=mode) as page:
        found = page.evaluate(CONTRAST)
        assert (found["paper"] < 0.05) == (mode == "dark")
        assert found["text"][0] >= 4.5, found
        assert found["svg"][0] >= 4.5, found
        assert found["line"][0] >= 3.0, found


def test_print_uses_light_paper_and_shows_tables_whole(page_file: Path, opened: Any) -> None:
    with opened(page_file, 718, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth") <= 718
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_without_scripts_everything_is_still_readable(page_file: Path, opened: Any) -> None:
    with opened(page_file, java_script_enabled=False) as page:
        assert page.locator("figure svg").count() > 20
        assert page.locator("details.run").count() == 13
