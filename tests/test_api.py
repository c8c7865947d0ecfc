"""Distilling in a few lines of Python."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import limbeck
from limbeck.data import DataConfig, load
from limbeck.errors import CheckpointError, ConfigError, DataError, RunError
from limbeck.methods import KD, BicKD
from limbeck.tasks import Classification
from limbeck.teachers import LiveTeacher
from limbeck.training.session import score
from limbeck.training.trainer import RunInterrupted, Trainer
from tests.running import environment

FEW = {"name": "digits", "train_size": 160}
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 32, "precision": "fp32", "threads": 1, "log_every": 1}


def network(width: int = 16) -> nn.Sequential:
    torch.manual_seed(width)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> limbeck.Run:
    path = tmp_path_factory.mktemp("teacher") / "run"
    return limbeck.train("cnn", "digits", output=path, train={**SHORT, "epochs": 5}, quiet=True)


def distill(student: Any, teacher: Any, path: Path, **settings: Any) -> limbeck.Run:
    settings = {"train": SHORT, "data": None, **settings}
    data = settings.pop("data") or FEW
    return limbeck.distill(student, teacher, data, output=path, quiet=True, **settings)


@pytest.mark.parametrize("source", ["run", "path", "text", "network"])
def test_teachers_of_every_form_teach_alike(source: str, teacher: limbeck.Run, tmp_path: Path) -> None:
    forms = {"run": teacher, "path": teacher.path, "text": str(teacher.path), "network": teacher.student()}
    run = distill("cnn", forms[source], tmp_path / "a", method="kd", temperature=2.0)
    same = distill("cnn", teacher, tmp_path / "b", method="kd", temperature=2.0)
    assert run.results["last"]["test"] == same.results["last"]["test"]
    assert run.config.methods[0].options == {"temperature": 2.0}


@pytest.mark.parametrize("method", [KD, KD(temperature=4.0), "kd", ["kd"], [KD()]], ids=str)
def test_methods_of_every_form(method: Any, teacher: limbeck.Run, tmp_path: Path) -> None:
    run = distill("cnn", teacher, tmp_path / "a", method=method)
    assert (run.info["label"], run.info["kind"]) == ("kd", "distill")


def test_several_methods_add_up(teacher: limbeck.Run, tmp_path: Path) -> None:
    run = distill("cnn", teacher, tmp_path / "a", method=["kd", "dist"], label_weight=0.5)
    terms = run.metrics("train")[0]["terms"]
    assert set(terms) == {"cross_entropy", "kd", "dist.inter", "dist.intra"}
    assert terms["cross_entropy"]["weight"] == 0.5
    assert run.metrics("train")[0]["loss"] == pytest.approx(sum(term["weighted"] for term in terms.values()))


def test_a_method_that_is_used_twice_keeps_both_its_terms(teacher: limbeck.Run, tmp_path: Path) -> None:
    run = distill("cnn", teacher, tmp_path / "a", method=[KD(temperature=1.0), KD(temperature=8.0)])
    row = run.metrics("train")[0]
    assert set(row["terms"]) == {"cross_entropy", "kd", "kd_2"}
    assert row["loss"] == pytest.approx(sum(term["weighted"] for term in row["terms"].values()))


def test_own_networks_and_data_sets(tmp_path: Path) -> None:
    data = load(DataConfig())
    images, labels = data.train.fetch(torch.arange(400))
    pair = (TensorDataset(images, labels), TensorDataset(*data.test.fetch(torch.arange(100))))
    big, small = network(64), network()
    limbeck.train(big, pair, output=tmp_path / "t", train={**SHORT, "epochs": 5}, quiet=True)
    run = distill(small, big, tmp_path / "s", data=pair, method=BicKD)
    assert run.info["student"]["name"] == "object:Sequential"
    rebuilt = run.student(model=network())
    for name, tensor in rebuilt.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[name])
    with pytest.raises(limbeck.LimbeckError, match="handed over in Python"):
        run.student()


def test_splits_of_ones_own(teacher: limbeck.Run, tmp_path: Path) -> None:
    data = load(DataConfig(train_size=100))
    run = distill("cnn", teacher, tmp_path / "a", data=data, method="kd")
    assert run.info["samples"]["train"] == 100


def test_a_run_with_objects_is_resumed_with_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = network(64)
    limbeck.train(big, FEW, output=tmp_path / "t", train={**SHORT, "epochs": 5}, quiet=True)
    whole = distill(network(), big, tmp_path / "whole", method=KD())
    save = Trainer._save

    def stop(self: Trainer) -> None:
        save(self)
        if self.step == 5:
            raise RunInterrupted("enough", fix="resume", number=15)

    monkeypatch.setattr(Trainer, "_save", stop)
    student = network()
    with pytest.raises(RunInterrupted):
        distill(student, big, tmp_path / "cut", method=KD())
    monkeypatch.undo()
    with pytest.raises(limbeck.LimbeckError, match="handed over in Python"):
        limbeck.resume(tmp_path / "cut", quiet=True)
    run = limbeck.resume(tmp_path / "cut", student=network(), teacher=big, methods=[KD()], quiet=True)
    weights = [(r.path / "student.safetensors").read_bytes() for r in (run, whole)]
    assert weights[0] == weights[1]
    with pytest.raises(RunError, match="already finished"):
        limbeck.resume(tmp_path / "cut", student=network(), teacher=big, methods=[KD()], quiet=True)


def test_mistakes(teacher: limbeck.Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="temprature"):
        distill("cnn", teacher, tmp_path / "a", method="kd", temprature=2)
    with pytest.raises(ConfigError, match="nothing takes the settings epochs"):
        distill("cnn", teacher, tmp_path / "b", method=["kd", "dist"], epochs=3)
    with pytest.raises(ConfigError, match="cannot be mixed"):
        distill("cnn", teacher, tmp_path / "c", method=["kd", KD()])
    with pytest.raises(ConfigError, match="needs a teacher"):
        distill("cnn", None, tmp_path / "d", method="kd")
    kept = {"run": str(teacher.path), "cache": "memory"}
    with pytest.raises(ConfigError, match="remembers one answer"):
        distill("cnn", kept, tmp_path / "e", method="kd", augment={"flip": True})


@pytest.mark.parametrize("data", [5, (1, 2, 3)], ids=["number", "triple"])
def test_what_is_no_data(data: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is no data"):
        inspect.unwrap(limbeck.train)("cnn", data, output=tmp_path / "a", quiet=True)
    assert not (tmp_path / "a").exists()


def test_a_remembered_teacher_teaches_the_same(teacher: limbeck.Run, tmp_path: Path) -> None:
    live = distill("cnn", teacher, tmp_path / "a", method="kd")
    remembered = {"run": str(teacher.path), "cache": "memory"}
    kept = distill("cnn", remembered, tmp_path / "b", method="kd")
    assert kept.accuracy == pytest.approx(live.accuracy, abs=0.01)
    first, second = (run.metrics("train") for run in (live, kept))
    assert [row["loss"] for row in second] == pytest.approx([row["loss"] for row in first], rel=1e-4)


def test_tensorboard_holds_the_terms(teacher: limbeck.Run, tmp_path: Path) -> None:
    import warnings

    run = distill("cnn", teacher, tmp_path / "a", method="kd", train={**SHORT, "tensorboard": True})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"terms/kd", "terms/cross_entropy", "train/loss", "validation/accuracy"} <= tags
    written = [event.value for event in events.Scalars("terms/kd")]
    assert written == pytest.approx([row["terms"]["kd"]["raw"] for row in run.metrics("train")], rel=1e-5)


def test_the_public_names() -> None:
    names = ["METHODS", "LimbeckError", "Method", "Run", "born_again", "distill", "resume", "train"]
    assert limbeck.__all__ == names
    for name in dir(limbeck):
        if name != "__version__":
            assert getattr(limbeck, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = limbeck.nonsense  # type: ignore[attr-defined]


def test_importing_costs_nothing() -> None:
    heavy = ("torch", "transformers", "matplotlib", "accelerate", "sklearn", "scipy", "jinja2")
    code = f"import sys, limbeck; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


class Mine(KD):
    """A method that no table knows."""

    name = "mine"


def interrupted(
    path: Path, monkeypatch: pytest.MonkeyPatch, *words: Any, step: int = 5, **settings: Any
) -> None:
    """A run that stopped after a checkpoint at this step, or the first one after it."""
    save = Trainer._save

    def stop(self: Trainer) -> None:
        save(self)
        if self.step >= step:
            raise RunInterrupted("enough", fix="resume", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", stop)
        with pytest.raises(RunInterrupted):
            distill(*words, path, **settings)


def same_weights(*runs: limbeck.Run) -> bool:
    return len({(run.path / "student.safetensors").read_bytes() for run in runs}) == 1


def test_a_method_object_of_the_table_is_recorded_by_name_and_resumed_without_it(
    teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill("cnn", teacher, tmp_path / "whole", method=KD(temperature=2.0))
    assert whole.config.methods[0].name == "kd"
    assert whole.config.methods[0].options["temperature"] == 2.0
    interrupted(tmp_path / "cut", monkeypatch, "cnn", teacher, method=KD(temperature=2.0))
    with pytest.raises(CheckpointError, match=r"another method; got kd\(temperature=3\.0"):
        limbeck.resume(tmp_path / "cut", methods=[KD(temperature=3.0)], quiet=True)
    with pytest.raises(ConfigError, match="other methods than the run was configured with"):
        limbeck.resume(tmp_path / "cut", methods=[KD(temperature=2.0), BicKD()], quiet=True)
    assert same_weights(limbeck.resume(tmp_path / "cut", quiet=True), whole)


def test_a_method_of_ones_own_must_be_handed_over_again(
    teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill("cnn", teacher, tmp_path / "whole", method=Mine)
    assert (whole.config.methods[0].name, whole.config.label) == ("object:mine", "mine")
    interrupted(tmp_path / "cut", monkeypatch, "cnn", teacher, method=Mine)
    with pytest.raises(ConfigError, match="method mine was handed over in Python"):
        limbeck.resume(tmp_path / "cut", quiet=True)
    assert same_weights(limbeck.resume(tmp_path / "cut", methods=[Mine()], quiet=True), whole)
    assert score(whole, "test") == pytest.approx(whole.results["last"]["test"], abs=1e-6)


def test_data_of_ones_own_must_be_handed_over_again(
    teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(DataConfig(train_size=160))
    whole = distill("cnn", teacher, tmp_path / "whole", data=data, method="kd")
    interrupted(tmp_path / "cut", monkeypatch, "cnn", teacher, data=data, method="kd")
    with pytest.raises(DataError, match="data digits was handed over in Python"):
        limbeck.resume(tmp_path / "cut", quiet=True)
    other = load(DataConfig(train_size=160, split_seed=1))
    with pytest.raises(CheckpointError, match="another training data"):
        limbeck.resume(tmp_path / "cut", data=other, quiet=True)
    assert same_weights(limbeck.resume(tmp_path / "cut", data=data, quiet=True), whole)


def test_a_remembered_teacher_remembers_the_same_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution's last bits depend on the batch around a sample, so its answers must not."""
    big = limbeck.train("resnet8", "digits", output=tmp_path / "t", train=SHORT, quiet=True, latency=False)
    kept, few = {"run": str(big.path), "cache": "memory"}, {"name": "digits", "train_size": 150}
    odd = {**SHORT, "epochs": 4, "batch_size": 37, "checkpoint_every": 3, "guards": "warn"}
    whole = distill("cnn", kept, tmp_path / "whole", data=few, method="kd", train=odd)
    interrupted(tmp_path / "cut", monkeypatch, "cnn", kept, step=3, data=few, method="kd", train=odd)
    assert same_weights(limbeck.resume(tmp_path / "cut", quiet=True), whole)


def test_a_changed_network_is_refused_on_resume(
    teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "cut", monkeypatch, "mlp", teacher, method="kd")
    settings = (tmp_path / "cut" / "config.yaml").read_text()
    (tmp_path / "cut" / "config.yaml").write_text(settings.replace("name: mlp", "name: cnn"))
    with pytest.raises(CheckpointError, match="started with another configuration"):
        limbeck.resume(tmp_path / "cut", quiet=True)


def test_a_live_teacher_and_teachers_that_are_none(teacher: limbeck.Run, tmp_path: Path) -> None:
    live = LiveTeacher(teacher.student(), Classification(10))
    run = distill("cnn", live, tmp_path / "a", method="kd")
    assert same_weights(run, distill("cnn", teacher, tmp_path / "b", method="kd"))
    unchecked: Any = inspect.unwrap(limbeck.distill)
    with pytest.raises(ConfigError, match="this is no teacher; got int"):
        unchecked("cnn", 5, FEW, method="kd", output=tmp_path / "c", quiet=True)
    with pytest.raises(ConfigError, match=r"method=\[\.\.\.\]"):
        unchecked("cnn", teacher, FEW, methods=["kd"], output=tmp_path / "d", quiet=True)


def test_the_folder_is_named_after_what_is_in_it(
    teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, short = load(DataConfig(train_size=160)), {**SHORT, "epochs": 1}
    run = limbeck.distill(network(), teacher, data, method=[KD(), BicKD()], seed=3, quiet=True, train=short)
    assert str(run.path) == "runs/digits-object-Sequential-kd+bickd-seed3"
    assert str(limbeck.train("mlp", FEW, quiet=True, train=short).path) == "runs/digits-mlp-scratch-seed0"
    named = limbeck.train("mlp", FEW, quiet=True, train=short, name="mine")
    assert (str(named.path), named.info["name"]) == ("runs/mine", "mine")


def test_a_student_is_scored_after_its_teacher_has_gone(teacher: limbeck.Run, tmp_path: Path) -> None:
    shutil.copytree(teacher.path, tmp_path / "t")
    run = distill("cnn", tmp_path / "t", tmp_path / "a", method="kd", label_weight=0)
    recorded = run.results["last"]["test"]
    assert score(run, "test") == pytest.approx(recorded, abs=1e-6)
    shutil.rmtree(tmp_path / "t")
    alone = score(run, "test")
    assert "agreement" not in alone
    assert alone == pytest.approx({key: recorded[key] for key in alone}, abs=1e-6)


def test_tensorboard_forgets_the_steps_that_a_resumed_run_repeats(
    teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, board = tmp_path / "cut", {**SHORT, "tensorboard": True, "checkpoint_every": 3}
    log = Trainer._log

    def die(self: Trainer, *words: Any) -> None:
        log(self, *words)
        if self.step == 5:
            raise RuntimeError("killed two steps after a checkpoint")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_log", die)
        with pytest.raises(RuntimeError, match="killed"):
            distill("cnn", teacher, path, method="kd", train=board)
    run = limbeck.resume(path, quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("terms/kd")] == list(range(1, 11))
    assert [row["step"] for row in run.metrics("train")] == list(range(1, 11))
