"""ASDT as a run: no mask reaches training, it resumes, it leaves pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from limbeck.config import parse
from limbeck.data import DataConfig, MaskData, MaskSplit, load
from limbeck.data.scenes import build, save
from limbeck.errors import DataError, LimbeckError
from limbeck.runs import Run
from limbeck.training.session import execute
from tests.methods.running import stopped_run
from tests.running import launch

FIELD = {"iterations": 2, "sigma_xy": 5, "sigma_rgb": 25, "weight": 6, "smooth_weight": 0}
METHOD = {
    "name": "asdt",
    "classify": 6,
    "switch": {"period": 4, "slots": 2, "start": 8},
    "exponents": [1, 4],
    "confidence": 0.5,
    "cam_field": FIELD,
    "head_field": FIELD,
    "energy": 0.001,
}


def settings(folder: Path, **sections: Any) -> Any:
    values: dict[str, Any] = {
        "data": {"name": "ellipses", "size": 16, "train_size": 64, "weak": True},
        "student": {"name": "asdt", "options": {"widths": [6, 8, 8], "hidden": 8}},
        "methods": [METHOD],
        "augment": {"flip": True},
        "output": str(folder),
        "train": {"epochs": 2, "batch_size": 8, "precision": "fp32", "threads": 1, "log_every": 1},
        "latency": False,
    }
    for name, section in sections.items():
        old = values.get(name)
        values[name] = {**old, **section} if isinstance(old, dict) else section
    return values


def test_a_run_reports_every_part_and_leaves_pictures(tmp_path: Path, here: Callable[..., Any]) -> None:
    config = tmp_path / "asdt.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "run")))
    done = here("train", config)
    assert done.code == 0, done.err
    assert "reconstruction" in done.out
    run = Run(tmp_path / "run")
    assert run.info["reconstructed"]
    test = run.results["last"]["test"]
    assert {"miou", "miou_student", "miou_teacher", "miou_cam", "miou_fused_crf"} <= set(test)
    rows = run.metrics("train")
    assert [("asdt.student_by_head" in row["terms"]) for row in rows] == [
        step > 8 and (step // 2) % 2 == 0 for step in range(1, 17)
    ]
    pictures = sorted((run.path / "pictures").glob("*.png"))
    assert [path.name for path in pictures] == ["masks-0000008.png", "masks-0000016.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (6 * 16, 8 * 16)
    assert here("report", run.path, "--output", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "masks-0000016" in page


def test_no_mask_reaches_training(tmp_path: Path) -> None:
    """The weights are the same whatever the masks were, and no split that is trained on holds one."""
    weights = []
    for name, value in (("true", None), ("wrong", 3)):
        data = load(DataConfig(name="ellipses", size=16, train_size=64, weak=True))
        assert isinstance(data, MaskData)
        for split in (data.validation, data.test):  # only these have masks at all
            assert isinstance(split, MaskSplit)
            if value is not None:
                split.known.fill_(value)
        assert data.train.labels.shape == (64, 4)
        run = execute(parse(settings(tmp_path / name)), data=data)
        weights.append(run.student().state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = execute(parse(settings(tmp_path / "whole")))
    again = stopped_run(monkeypatch, 10, parse(settings(tmp_path / "again")))
    mine, theirs = again.student().state_dict(), whole.student().state_dict()
    assert all(torch.equal(tensor, mine[name]) for name, tensor in theirs.items())
    assert [r["terms"] for r in again.metrics("train")] == [r["terms"] for r in whole.metrics("train")]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"data": {"weak": False}}, "offers masks"),
        ({"student": {"name": "fcn", "options": {"widths": [4]}}}, "classification branch"),
        ({"teacher": {"run": "nowhere"}}, "no teacher beside"),
        (
            {
                "data": {"name": "digits", "size": None, "weak": False},
                "student": {"name": "cnn", "options": {}},
            },
            "masks",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(sections: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=words) as caught:
        execute(parse(settings(tmp_path / "run", **sections)))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs and squares with alpha, ten of each."""
    root, random = tmp_path_factory.mktemp("stamps"), np.random.default_rng(0)
    y, x = np.mgrid[:20, :20] - 9.5
    for name, shape in (("discs", np.hypot(y, x) < 8), ("squares", np.maximum(abs(y), abs(x)) < 7)):
        (root / name).mkdir()
        for i in range(10):
            art = np.zeros((20, 20, 4), np.uint8)
            art[..., :3] = random.integers(0, 255, 3)
            art[..., 3] = 255 * shape
            Image.fromarray(art).save(root / name / f"{i}.png")
    return root


def test_scenes_share_no_object_and_are_always_the_same(stamps: Path, tmp_path: Path) -> None:
    kinds = {"disc": ("discs",), "square": ("squares",)}
    made, again = (build(stamps, kinds, size=16) for _ in range(2))
    assert made.content == again.content != build(stamps, kinds, size=16, seed=1).content
    for name in kinds:
        parts = [set(made.objects[part][name]) for part in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10
        assert all(parts)
    save(made, tmp_path / "scenes.npz")
    full, weak = (
        load(DataConfig(name="scenes", path=str(tmp_path / "scenes.npz"), weak=w)) for w in (False, True)
    )
    assert full.classes == ("background", "disc", "square")
    seen = torch.stack([(full.train.labels == k).flatten(1).any(1) for k in range(3)], 1)
    assert torch.equal(weak.train.labels.bool(), seen)
    with np.load(tmp_path / "scenes.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "train_masks"}
    np.savez(tmp_path / "no_masks.npz", **arrays)
    assert len(load(DataConfig(name="scenes", path=str(tmp_path / "no_masks.npz"), weak=True)).train) == 600
    with pytest.raises(DataError, match="train_masks"):
        load(DataConfig(name="scenes", path=str(tmp_path / "no_masks.npz")))


def test_scenes_from_the_command_line(stamps: Path, tmp_path: Path, here: Callable[..., Any]) -> None:
    out = tmp_path / "s.npz"
    words = ("data", "scenes", "--stamps", stamps, "--out", out, "--size", 16)
    done = here(*words, "--class", "disc=discs", "--class", "square=squares")
    assert done.code == 0, done.err
    assert "sha256" in done.out
    for more, text in (
        (("--class", "disc"), "NAME=FOLDER"),
        (("--class", "cat=cats"), "no folder"),
        (("--class", "disc=discs", "--backgrounds", tmp_path / "none"), "backgrounds"),
    ):
        done = here(*words, *more)
        assert done.code == 2
        assert text in done.err
    with pytest.raises(DataError, match="limbeck data scenes"):
        load(DataConfig(name="scenes", path=str(tmp_path / "nothing.npz")))


@pytest.mark.slow
def test_two_processes_keep_one_beat(tmp_path: Path) -> None:
    """Their means are over each one's own pixels, so weights are not those of one process; the switch is."""
    config = tmp_path / "asdt.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "run")))
    done = launch("train", config)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    rows = run.metrics("train")
    assert [("asdt.student_by_head" in row["terms"]) for row in rows] == [
        step > 8 and (step // 2) % 2 == 0 for step in range(1, 17)
    ]
    assert run.info["processes"] == 2
    matrix = np.load(run.path / "evaluation.npz")["confusion_fused"]
    assert matrix.sum() == 150 * 16 * 16
