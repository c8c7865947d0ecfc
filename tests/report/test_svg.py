"""Pictures: inert, repeatable, without outside references, and coloured by the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from limbeck.report import plots
from limbeck.report.curves import curves
from limbeck.report.plots import Style
from limbeck.report.svg import draw
from limbeck.study.statistics import mean_interval

HOSTILE = "</text><script>alert(1)</script>$\\frac{1}"
MATRIX = np.linspace(0, 1, 9).reshape(3, 3)


def pictures(name: str, key: str = "k") -> list[str]:
    """One of every kind, with a method and classes of that name."""
    style = Style.of(1)
    lines = [[{"step": s, "loss": 100.0 / s} for s in range(1, 50)] for _ in range(2)]
    found = curves(lines, lambda line: line["loss"], 20)
    assert found is not None
    interval = mean_interval([0.01, 0.02, 0.04])
    bins = np.array([0, 3, 5])
    return [
        plots.learning([(name, style, found)], name, f"{key}0"),
        plots.differences([(name, style, interval, [0.01, 0.02])], name, f"{key}1"),
        plots.reliability(bins, bins / 6, bins / 7, style, name, f"{key}2"),
        plots.heat(MATRIX, 1.0, [name, "_b", "$x$"], name, (name, name), f"{key}3", 0.5, str),
        plots.heat(np.full((30, 30), np.nan), 0.0, [], name, ("a", "b"), f"{key}4"),
        plots.cost([(name, style.colour, "o", interval, interval)] * 3, name, f"{key}5"),
    ]


def test_hostile_text_stays_text() -> None:
    for picture in pictures(HOSTILE):
        tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(picture).iter()}
        assert tags <= {"svg", "g", "defs", "path", "use", "text", "image", "rect", "clipPath"}
        assert not re.search(r"\son\w+=|<style|<!|<\?|https?://(?!www\.w3\.org/2000/svg)", picture)


def test_the_same_picture_twice_is_the_same_text() -> None:
    assert pictures("kd") == pictures("kd")


def test_ids_are_unique_and_references_meet_them() -> None:
    text = "".join(pictures("kd", "a") + pictures("kd", "b"))
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)) <= {(i, "") for i in ids} | {
        ("", i) for i in ids
    }


def test_colours_and_fonts_are_the_page_s() -> None:
    for picture in pictures("kd"):
        assert "var(--" in picture
        assert not re.search(r"#[0-9a-f]{6}\b|font-family|DejaVu", picture)


def test_matplotlib_s_settings_are_left_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(lambda axes: axes.plot([1, 2]), "x", "k")
    assert dict(matplotlib.rcParams) == before


def test_curves_average_only_where_every_seed_has_a_value() -> None:
    def get(line: dict[str, Any]) -> Any:
        return line.get("loss")

    full = [{"step": s, "loss": 1.0} for s in (0, 2, 4)]
    short = [{"step": 0, "loss": 3.0}, {"step": 1, "loss": float("nan")}, {"step": 2, "loss": 5.0}]
    found = curves([full, short], get)
    assert found is not None
    np.testing.assert_array_equal(found.steps, [0, 2, 4])
    np.testing.assert_array_equal(found.mean, [2.0, 3.0, np.nan])
    assert curves([[{"step": 0}], []], get) is None
    assert curves([[{"step": 0, "loss": "x"}]], get) is None
