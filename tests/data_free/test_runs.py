"""Whole runs without data: what they see, what they keep, how they go on, what they refuse."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.running import ROOT
from torch import nn

import limbeck
from limbeck.config import parse, read
from limbeck.data import Data, DataConfig, TensorSplit, from_arrays, load
from limbeck.data_free.steps import Steps
from limbeck.errors import ConfigError, LimbeckError, ModelError
from limbeck.models import build
from limbeck.models.generators import build_generator
from limbeck.procedures import data_free as loop
from limbeck.procedures.data_free import DataFree
from limbeck.runs import Run
from limbeck.training.checkpoint import save_weights
from limbeck.training.data_free import DataFreeParts
from limbeck.training.progress import Progress
from limbeck.training.session import execute, score
from limbeck.training.trainer import RunInterrupted, Trainer

MARK = 8.0
SMALL = {"latent": 8, "options": {"width": 4}}
FEW: dict[str, Any] = {"iterations": 3, "generator": SMALL, "generator_steps": 2, "student_steps": 2}
TIMING = ("images_per_second", "memory_mb")


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    """A few steps of supervised training, enough to be above chance."""
    data = load(DataConfig())
    torch.manual_seed(0)
    net = build("cnn", classes=10, channels=1, size=(8, 8), widths=(8, 8))
    rule = torch.optim.Adam(net.parameters(), 1e-2)
    images, labels = data.train.fetch(torch.arange(640))
    images = (images - data.mean[0]) / data.std[0]
    for _ in range(6):
        for x, y in zip(images.split(64), labels.split(64), strict=True):
            nn.functional.cross_entropy(net(x), y).backward()
            rule.step()
            rule.zero_grad()
    return net


def settings(preset: str, output: Path, **more: Any) -> Any:
    free = {**FEW, "preset": preset, **more.pop("data_free", {})}
    if preset == "noise":
        free["generator"] = {}
    if preset in ("deepinversion", "adi", "cmi"):
        free = {**free, "rebuild_every": 2, "memory": 40}
        if preset != "cmi":
            free["generator"] = {}
    train = {"epochs": 2, "batch_size": 16, "precision": "fp32", "log_every": 1, **more.pop("train", {})}
    values = {"student": {"name": "cnn", "options": {"widths": [4, 6]}}, "data_free": free, "train": train}
    return parse({**values, "output": str(output), "latency": False, **more})


def run(config: Any, teacher: nn.Module, **more: Any) -> Run:
    return execute(config, teacher=teacher, progress=Progress(1, "", quiet=True), **more)


class Forbidden(TensorSplit):
    """Real training images that nobody may ask for."""

    def raw(self, ids: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a real training image was read")

    fetch = subset = relabelled = raw  # type: ignore[assignment]


def poisoned(data: Data) -> Data:
    """Training images cannot be read; the others carry a mark in a corner."""
    train = Forbidden(data.train.images, data.train.labels, "train")  # type: ignore[attr-defined]
    marked = []
    for split in (data.validation, data.test):
        images = split.images.clone()  # type: ignore[attr-defined]
        images[:, 0, 0, 0] = MARK
        marked.append(TensorSplit(images, split.labels, split.name))
    return replace(data, train=train, validation=marked[0], test=marked[1])


PRESETS = ["cpsc", "cpsc_official", "dafl", "dfad", "dfq", "deepinversion", "adi", "cmi", "noise"]


@pytest.mark.parametrize("preset", PRESETS)
def test_no_player_sees_a_real_image_before_the_final_test(
    preset: str, teacher: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = poisoned(load(DataConfig()))
    mark = (MARK - data.mean[0]) / data.std[0]  # about 20, far from any image that is made
    seen: list[bool] = []
    looked: list[bool] = []

    def watch(model: nn.Module, given: Any) -> None:
        seen.append(bool((given[0] > mark / 2).any()))

    def watch_generator(terms: Any, config: Any) -> Any:
        looked.append(bool((terms.images > mark / 2).any()))
        return judge(terms, config)

    judge, fit = loop.generator_terms, Trainer.fit
    monkeypatch.setattr(loop, "generator_terms", watch_generator)
    student = build("cnn", classes=10, channels=1, size=(8, 8), widths=(4, 6))
    student.register_forward_pre_hook(watch)
    last: list[int] = []

    def fitted(self: Trainer) -> None:
        fit(self)
        last.append(len(seen))

    monkeypatch.setattr(Trainer, "fit", fitted)
    train = {"guards": "warn"}  # the teacher does not know the marks
    config = settings(preset, tmp_path / "run", data={"name": "object:digits"}, train=train)
    done = run(config, teacher, student=student, data=data)
    assert done.status == "finished"
    assert not any(seen[: last[0]])
    assert any(seen[last[0] :])  # the marks would have been noticed
    assert not any(looked)
    assert done.results["best"]["epoch"] == 2
    assert done.results["best"]["selected_on"] == "nothing, it is the last"
    assert done.info["samples"]["train"] == 0
    rows = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    assert "accuracy" not in next(row for row in rows if row["kind"] == "validation")
    if preset not in ("noise", "dafl", "dfad", "dfq"):
        assert 0 <= done.results["last"]["test"]["hit_rate"] <= 1
    with np.load(done.path / "synthetic.npz") as arrays:
        assert arrays["images"].shape[1:] == (10, 4, 1, 8, 8)
        assert arrays["steps"][[0, -1]].tolist() == [0, 6]


def changed(run: Run) -> dict[str, Any]:
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return {
        "rows": [{key: value for key, value in row.items() if key not in TIMING} for row in rows],
        "student": (run.path / "student.safetensors").read_bytes(),
        "pictures": (run.path / "synthetic.npz").read_bytes(),
        "last": run.results["last"],
    }


@pytest.mark.parametrize("preset", ["cpsc", "cmi", "adi"])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    preset: str, teacher: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = changed(run(settings(preset, tmp_path / "whole"), teacher))
    step = DataFree.step

    def stop(self: DataFree, batch: Any) -> Any:
        if batch.epoch == 1 and int(batch.ids[0]) == 16:
            os.kill(os.getpid(), signal.SIGTERM)
        yield from step(self, batch)

    config = settings(preset, tmp_path / "stopped")
    monkeypatch.setattr(DataFree, "step", stop)
    with pytest.raises(RunInterrupted):
        run(config, teacher)
    monkeypatch.setattr(DataFree, "step", step)
    assert Run(tmp_path / "stopped").status == "interrupted"
    assert changed(run(config, teacher, resume=True)) == whole


def test_seeds_give_other_images_and_equal_seeds_the_same(teacher: nn.Module, tmp_path: Path) -> None:
    first, again, other = (
        changed(run(settings("cpsc", tmp_path / name, seed=seed), teacher))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first["pictures"] != other["pictures"]


def procedure(teacher: nn.Module, **free: Any) -> DataFree:
    """A loop of its own, without a trainer."""
    config = settings("cpsc", Path("unused"), data_free=free)
    torch.manual_seed(0)
    return DataFreeParts(config, teacher=teacher).procedure()


def test_the_generator_s_phase_leaves_student_and_teacher_alone(teacher: nn.Module) -> None:
    ours = procedure(teacher)
    student = ours.learner.student.train()
    before = [value.clone() for value in (*student.state_dict().values(), *teacher.state_dict().values())]
    batch = next(Steps(16, 3).epoch(0))
    update = next(ours.step(batch))
    assert update.player == "generator"
    assert set(update.terms) == {"bn", "ce", "kl", "mse", "scl"}
    sum(term.value * term.weight for term in update.terms.values()).backward()
    after = (*student.state_dict().values(), *teacher.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in (*student.parameters(), *teacher.parameters()))
    assert all(p.requires_grad for p in student.parameters())
    assert student.training
    assert ours.player is not None
    assert all(p.grad is not None and bool(p.grad.any()) for p in ours.player.generator.fc.parameters())
    assert all(p.grad is not None for p in ours.player.adapter.parameters())


def test_a_released_student_is_in_training_mode_and_its_optimiser_forgets(teacher: nn.Module) -> None:
    ours = procedure(teacher, preset="cpsc_official")
    before = ours.learner.student.stages[0][1].running_mean.clone()
    batch = next(Steps(16, 3).epoch(0))
    update = next(ours.step(batch))
    assert update.fresh
    assert not torch.equal(before, ours.learner.student.stages[0][1].running_mean)


def test_any_method_teaches_on_synthetic_images(teacher: nn.Module, tmp_path: Path) -> None:
    config = settings("cpsc", tmp_path / "run", methods=["dkd", "sp"])
    done = run(config, teacher)
    (row, *_) = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    assert {"student.dkd", "student.sp", "student.cross_entropy"} <= {
        name for name in row["terms"] if name.startswith("student")
    } | {name.rpartition(".")[0] for name in row["terms"]}
    assert done.info["label"] == "cpsc+dkd+sp"


def test_real_images_may_be_watched_but_choose_nothing(teacher: nn.Module, tmp_path: Path) -> None:
    done = run(settings("noise", tmp_path / "run", data_free={"watch": "validation"}), teacher)
    rows = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    assert sum("accuracy" in row for row in rows) == 2
    assert done.results["best"]["epoch"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"augment": {"flip": True}}, "no augment"),
        ({"augment": {"mixup": 0.2}}, "no augment"),
        ({"train": {"accumulate": 2}}, "no train.accumulate"),
        ({"train": {"early_stop": 2}}, "no train.early_stop"),
        ({"data": {"name": "digits", "noise": {"rate": 0.2}}}, "no data.noise"),
        ({"data": {"name": "text"}}, "no data.name=text"),
        ({"label_weight": 1.0}, "label_weight without methods"),
        ({"data_free": {"generator": {"name": "dcgan"}}}, "unknown generator 'dcgan'"),
        ({"methods": ["mlkd"]}, "makes batches or views of its own"),
    ],
)
def test_settings_that_a_data_free_run_does_not_have(
    wrong: dict[str, Any], message: str, teacher: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, ModelError), match=message) as caught:
        run(settings("cpsc", tmp_path / "run", **wrong), teacher)
    assert len(str(caught.value).splitlines()) == 1


def test_a_teacher_is_needed_with_batch_norm_and_the_classes(tmp_path: Path) -> None:
    def of(teacher: nn.Module | None) -> None:
        execute(settings("cpsc", tmp_path / "run"), teacher=teacher, progress=Progress(1, "", quiet=True))

    with pytest.raises(ConfigError, match="needs a teacher"):
        of(None)
    with pytest.raises(ModelError, match="no batch normalisation"):
        of(build("cnn", classes=10, channels=1, size=(8, 8), norm="none"))
    with pytest.raises(LimbeckError, match="classes agree"):
        of(build("cnn", classes=7, channels=1, size=(8, 8), widths=(8, 8)))


def other_size(*, classes: int, channels: int, size: tuple[int, int], latent: int) -> nn.Module:
    return build_generator(
        "conditional", classes=classes, channels=channels, size=(16, 16), latent=latent, width=4
    )


def test_a_generator_for_another_size(teacher: nn.Module, tmp_path: Path) -> None:
    own = "tests.data_free.test_runs:other_size"
    free = {"generator": {"name": own, "latent": 8, "options": {}}}
    with pytest.raises(ModelError, match="images of another size; got 1x16x16; expected 1x8x8"):
        run(settings("cpsc", tmp_path / "a", data_free=free), teacher, allow_code=[own])
    with pytest.raises(ModelError, match="is code"):
        run(settings("cpsc", tmp_path / "b", data_free=free), teacher)
    larger = build_generator("conditional", classes=10, channels=1, size=(28, 28), latent=8, width=4)
    save_weights(tmp_path / "g.safetensors", larger.state_dict())
    free = {"generator": {**SMALL, "weights": str(tmp_path / "g.safetensors")}}
    with pytest.raises(ModelError, match="do not fit the network"):
        run(settings("cpsc", tmp_path / "c", data_free=free), teacher)


def test_one_sample_and_more_classes_than_samples(teacher: nn.Module) -> None:
    ours = procedure(teacher)
    ours.batch_size = 3
    for update in ours.step(next(Steps(3, 3).epoch(0))):
        assert all(bool(torch.isfinite(term.value)) for term in update.terms.values())


@pytest.mark.parametrize("name", ["cifar100-wrn_40_2-wrn_16_1-cpsc", "cifar10-wrn_40_2-wrn_16_1-cmi"])
def test_published_presets_take_a_step(name: str) -> None:
    """Two images, one update of each player, everything else at published size."""
    config = read(ROOT / "presets" / "data-free" / f"{name}.yaml")
    free = config.data_free.model_copy(update={"generator_steps": 1, "student_steps": 1, "memory": 4})
    train = config.train.model_copy(update={"batch_size": 2, "precision": "fp32"})
    classes = 100 if "cifar100" in name else 10
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (4 * classes, 32, 32, 3)), np.arange(4 * classes) % classes
    data = from_arrays(x, y, x[:classes], y[:classes])
    network = build("wrn_40_2", classes=classes, channels=3, size=(32, 32))
    alone = config.model_copy(update={"data_free": free, "train": train, "teacher": None})
    loop = DataFreeParts(alone, data=data, teacher=network).procedure()
    players = []
    for update in loop.step(next(Steps(2, 1).epoch(0))):
        loss = sum(term.value * term.weight for term in update.terms.values())
        assert bool(torch.isfinite(loss))
        loss.backward()
        players.append(update.player)
    assert players == ["generator", "student"]


def test_in_python(teacher: nn.Module, tmp_path: Path) -> None:
    done = limbeck.distill(
        "cnn",
        teacher,
        "digits",
        method=None,
        data_free={**FEW, "preset": "cpsc"},
        output=tmp_path / "run",
        train={"epochs": 1, "batch_size": 16, "precision": "bf16"},
        latency=False,
        quiet=True,
    )
    assert done.info["label"] == "cpsc"
    assert set(score(done, "test")) == set(done.results["last"]["test"]) - {
        "hit_rate",
        "agreement",
        "teacher_kl",
    }
    assert (done.path / "generator.safetensors").is_file()
