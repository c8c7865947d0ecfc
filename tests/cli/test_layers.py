"""``limbeck layers``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import limbeck


def test_the_table_marks_stages_embedding_and_classifier(here: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = here("layers", "vgg8", "--size", 28, "--channels", 1, "--classes", 10)
    assert code == 0
    title, header, *rows = out.splitlines()
    assert title == "vgg8 on images 1×28×28: 3,917,706 parameters"
    assert header.split() == ["name", "kind", "output"]
    cells = [row.split(maxsplit=3) for row in rows]
    marked = {row[0]: (row[2], row[3]) for row in cells if len(row) == 4 and row[0] != "embedding"}
    assert marked["relu0"] == ("64×28×28", "stem")
    assert [marked[f"relu{i}"] for i in range(1, 5)] == [
        ("128×14×14", "stage 1"),
        ("256×7×7", "stage 2"),
        ("512×4×4", "stage 3"),
        ("512×4×4", "stage 4"),
    ]
    assert marked["block1"] == ("128×14×14", "stage 1 before its activation")
    assert marked["classifier"] == ("10", "classifier")
    assert rows[-2].split() == ["embedding", "what", "classifier", "reads", "512", "embedding"]


def test_data_decides_and_options_are_the_networks(here: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = here("layers", "cnn", "widths=[4,8]", "--data", "digits", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["input"], found["stages"], found["parameters"]) == (
        [1, 8, 8],
        ["stages.0", "stages.1"],
        438,
    )
    last = found["layers"][-1]
    assert last == {
        "name": "fc",
        "kind": "Linear",
        "shape": [10],
        "signed": True,
        "marks": ["classifier"],
    }
    assert found["layers"][-2]["shape"] == [8]


def test_the_student_of_a_run(here: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    train = {"epochs": 1, "precision": "fp32"}
    limbeck.train("cnn", "digits", output=tmp_path / "run", train=train)
    code, out, _ = here("layers", tmp_path / "run")
    assert (code, "on images 1×8×8" in out) == (0, True)
    code, _, err = here("layers", tmp_path / "run", "--size", 9)
    assert (code, "give the folder alone" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet20x"], "'resnet20'"),
        (["cnn", "width=3"], "no option 'width'"),
        (["cnn", "--data", "digit"], "'digits'"),
        (["mine:net"], "--allow-code mine:net"),
    ],
)
def test_mistakes_are_one_message(
    here: Callable[..., tuple[int, str, str]], words: list[str], message: str
) -> None:
    code, out, err = here("layers", *words)
    assert (code, out) == (2, "")
    assert message in err
