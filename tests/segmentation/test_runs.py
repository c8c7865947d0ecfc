"""Supervised runs and distillation on masks, from configuration to record and report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from limbeck.config import parse
from limbeck.errors import GuardError, LimbeckError
from limbeck.runs import Run
from limbeck.training.session import execute, score
from tests.methods.running import stopped_run


def settings(folder: Path, **sections: Any) -> dict[str, Any]:
    """Eight steps an epoch on 16x16 scenes."""
    loop = {"epochs": 1, "batch_size": 16, "precision": "fp32", "threads": 1, "log_every": 1}
    values: dict[str, Any] = {
        "data": {"name": "ellipses", "size": 16, "train_size": 128},
        "student": {"name": "fcn", "options": {"widths": [4, 8], "dilations": [1, 2]}},
        "augment": {"flip": True, "crop_padding": 1},
        "output": str(folder),
        "train": loop,
        "latency": False,
    }
    for name, section in sections.items():
        old = values.get(name)
        values[name] = {**old, **section} if isinstance(old, dict) else section
    return values


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("masks") / "teacher"
    wide = {"name": "fcn", "options": {"widths": [8, 16, 16]}}
    return execute(parse(settings(folder, student=wide, train={"epochs": 6})))


def test_a_supervised_run_learns_and_says_so(teacher: Run) -> None:
    test = teacher.results["last"]["test"]
    assert test["miou"] > 0.5
    assert teacher.info["task"] == "segmentation"
    assert teacher.results["best"]["selected_on"] == "validation miou"
    with np.load(teacher.path / "evaluation.npz") as arrays:
        matrix = arrays["confusion"]
    assert matrix.sum() == 150 * 16 * 16
    assert test["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert score(teacher, "test")["miou"] == pytest.approx(test["miou"], abs=1e-6)


METHODS: list[Any] = [
    "kd", "dkd", "wttm", "ctkd", "bickd", "cwd", {"name": "dist", "temperature": 1, "weight": 0.5}, "rkd_logits", "at",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m if isinstance(m, str) else m["name"])
def test_methods_for_images_teach_pixels(method: Any, teacher: Run, tmp_path: Path) -> None:
    values = settings(
        tmp_path / "run",
        teacher={"run": str(teacher.path)},
        methods=[method],
        data={"train_size": 16, "stride": 4},
    )
    run = execute(parse(values))
    assert run.status == "finished"
    assert run.results["last"]["test"]["teacher_kl"] > 0


def test_distillation_draws_the_student_to_its_teacher(teacher: Run, tmp_path: Path) -> None:
    found = {}
    for name, methods in (("scratch", []), ("kd", [{"name": "kd", "temperature": 1}])):
        values = settings(
            tmp_path / name,
            teacher={"run": str(teacher.path)},
            methods=methods,
            train={"epochs": 4},
        )
        found[name] = execute(parse(values)).results["last"]["test"]["teacher_kl"]
    assert found["kd"] < 0.95 * found["scratch"]


def test_a_stopped_run_goes_on_to_the_same_weights(
    teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(name: str) -> Any:
        return parse(
            settings(
                tmp_path / name,
                teacher={"run": str(teacher.path)},
                methods=["dist"],
                train={"epochs": 2, "accumulate": 2, "ema": 0.9},
                data={"train_size": 64},
            )
        )

    whole = execute(values("whole")).student().state_dict()
    again = stopped_run(monkeypatch, 3, values("again")).student().state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"augment": {"mixup": 0.2}}, "not mixed"),
        ({"methods": ["crd"]}, "crd"),
        ({"student": {"name": "cnn", "options": {"widths": [4]}}}, "score maps"),
        ({"data": {"stride": 20}}, "stride"),
        ({"teacher": {"cache": "memory"}, "methods": ["kd"]}, "teacher.cache"),
    ],
)
def test_what_masks_do_not_have_is_refused(
    sections: dict[str, Any], words: str, teacher: Run, tmp_path: Path
) -> None:
    values = settings(tmp_path / "run", **sections)
    if "methods" in sections:
        values["teacher"] = {"run": str(teacher.path), **sections.get("teacher", {})}
    with pytest.raises(LimbeckError, match=words):
        execute(parse(values))


def test_the_command_line_trains_masks_and_reports(
    teacher: Run, tmp_path: Path, here: Callable[..., Any]
) -> None:
    values = settings(tmp_path / "run", teacher={"run": str(teacher.path)}, methods=["cwd"])
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    done = here("distill", config)
    assert done.code == 0, done.err
    assert "mIoU" in done.out
    assert here("report", teacher.path, tmp_path / "run", "--output", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "mIoU, %" in page
    assert "test mIoU of the last epoch" in page


def test_a_method_for_maps_is_refused_for_images(tmp_path: Path) -> None:
    from limbeck.models import build

    network = build("cnn", classes=10, channels=1, size=(8, 8), widths=[4])
    values = settings(tmp_path / "run", methods=["cwd"], augment={"flip": False, "crop_padding": 0})
    values |= {"data": {"name": "digits"}, "student": {"name": "cnn", "options": {"widths": [4]}}}
    with pytest.raises(GuardError, match="need maps"):
        execute(parse(values), teacher=network)
