"""The loop: accumulation, clipping, averaging, schedules, early stop, several players, records."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import limbeck
from limbeck.config import PlayerOptimizer, TrainConfig
from limbeck.data import AugmentConfig, DataConfig, Loader, Views, load
from limbeck.errors import ConfigError, RunError
from limbeck.methods.base import Term
from limbeck.models import build
from limbeck.procedures import Distillation, Update
from limbeck.signals import Batch
from limbeck.tasks import Classification
from limbeck.training.learner import Learner
from limbeck.training.progress import Progress
from limbeck.training.record import Record
from limbeck.training.trainer import Trainer, accelerator

DATA = load(DataConfig(train_size=160))
FEW = {"name": "digits", "train_size": 100}


def loader(batch_size: int = 32) -> Loader:
    views = Views(AugmentConfig(), DATA.train, 0, DATA.mean, DATA.std)
    return Loader(views, batch_size, seed=0, shuffle=True, train=True)


def learner(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    student = build("cnn", classes=10, channels=1, size=(8, 8), widths=(8, 8), norm="none")
    return Learner(student, Classification(10), [], label_weight=1.0)


def trainer(folder: Path, procedure: Any = None, **settings: Any) -> Trainer:
    config = TrainConfig(**{"epochs": 2, "batch_size": 32, "precision": "fp32", "log_every": 1, **settings})
    device = accelerator(config)
    record = Record(folder)
    record.open()
    scores = iter(range(1000))
    return Trainer(
        config,
        procedure or Distillation(learner(), None, device.autocast),
        loader(config.batch_size),
        evaluate=lambda model: {"accuracy": -float(next(scores))},
        metric="accuracy",
        record=record,
        seed=0,
        accelerator=device,
        progress=Progress(1, "", quiet=True),
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.student.state_dict()


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-4, atol=1e-6)


def by_hand(steps: int, rate: float = 0.05, clip: float | None = None) -> list[dict[str, torch.Tensor]]:
    """The same training written out: plain SGD on cross-entropy, cosine schedule; weights after each step."""
    student = learner().student
    optimiser = torch.optim.SGD(student.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    batches = [batch for epoch in range(2) for batch in loader().epoch(epoch)]
    seen = []
    for step, batch in enumerate(batches[:steps]):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / len(batches))).item())
        optimiser.zero_grad()
        nn.functional.cross_entropy(student(batch.inputs), batch.labels).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(student.parameters(), clip)
        optimiser.step()
        seen.append(copy.deepcopy(student.state_dict()))
    return seen


def test_it_is_the_loop_one_would_write_by_hand(tmp_path: Path) -> None:
    ours = trainer(tmp_path)
    ours.fit()
    assert ours.step == ours.steps == 10
    assert_close(weights(ours), by_hand(10)[-1])


def test_clipping(tmp_path: Path) -> None:
    ours = trainer(tmp_path, clip=0.05)
    ours.fit()
    assert_close(weights(ours), by_hand(10, clip=0.05)[-1])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(row["gradient_norm"] for row in rows if row["kind"] == "train") > 0.05


@pytest.mark.parametrize("pieces", [2, 3, 50])
def test_accumulation_changes_nothing(pieces: int, tmp_path: Path) -> None:
    whole, split = trainer(tmp_path / "a"), trainer(tmp_path / "b", accumulate=pieces)
    whole.fit()
    split.fit()
    assert_close(weights(split), weights(whole))


def test_the_averaged_student_is_the_one_that_counts(tmp_path: Path) -> None:
    ours = trainer(tmp_path, ema=0.8)
    ours.fit()
    mean: dict[str, torch.Tensor] = {}
    for state in by_hand(10):
        mean = {n: t.clone() if not mean else 0.8 * mean[n] + 0.2 * t for n, t in state.items()}
    assert_close(weights(ours), mean)


def test_early_stop_keeps_the_best(tmp_path: Path) -> None:
    ours = trainer(tmp_path, epochs=9, early_stop=2)
    ours.fit()
    assert (ours.stopped_early, ours.epoch) == (True, 3)
    assert ours.best["step"] == 5


def test_without_a_metric_the_last_is_kept(tmp_path: Path) -> None:
    ours = trainer(tmp_path, epochs=3)
    ours.metric = None
    ours.fit()
    assert ours.best["epoch"] == 3
    assert not ours.stopped_early


def test_evaluation_every_n_steps(tmp_path: Path) -> None:
    ours = trainer(tmp_path, evaluate_every=4)
    ours.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [4, 8, 10]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 11))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    ours = trainer(tmp_path, optimizer={"learning_rate": 1e30})
    with pytest.raises(RunError, match=r"not finite at step .*cross_entropy"):
        ours.fit()
    again = trainer(tmp_path / "other")
    again.record.path.joinpath("checkpoints", "last.pt").write_bytes(ours.record.checkpoint.read_bytes())
    again.restore()
    assert all(tensor.isfinite().all() for tensor in weights(again).values())


class TwoPlayers:
    """A procedure with two optimisers: a helper network moves first, then the student sees what it became."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.players: dict[str, nn.Module] = {"student": learner(), "helper": nn.Linear(4, 1)}
        self.seen: list[float] = []
        self.steps = 0

    def step(self, batch: Batch) -> Iterator[Update]:
        before = self.players["helper"](torch.ones(1, 4)).mean()
        yield Update("helper", {"push": Term(before, 1.0)})
        after = self.players["helper"](torch.ones(1, 4)).mean()
        self.seen.append(float(after.detach() - before.detach()))
        self.steps += 1
        yield Update("student", self.players["student"](batch, None))

    def figures(self) -> dict[str, float]:
        return {"pushes": float(len(self.seen))}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def test_a_procedure_drives_several_optimisers_and_resumes(tmp_path: Path) -> None:
    procedure = TwoPlayers()
    ours = trainer(tmp_path / "a", procedure, accumulate=2)
    ours.fit()
    assert len(procedure.seen) == 20
    assert all(moved < 0 for moved in procedure.seen)
    assert_close(weights(ours), by_hand(10)[-1])
    rows = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert set(rows[0]["terms"]) == {"helper.push", "student.cross_entropy"}
    assert rows[0]["pushes"] == 2
    other = TwoPlayers()
    nn.init.zeros_(other.players["helper"].weight)  # type: ignore[arg-type]
    again = trainer(tmp_path / "b", other)
    again.record.checkpoint.write_bytes(ours.record.checkpoint.read_bytes())
    again.restore()
    assert other.steps == 20
    assert_close(again.plain["helper"].state_dict(), ours.plain["helper"].state_dict())


class Forgetful(TwoPlayers):
    """The helper has an optimiser of its own, and forgets its moments where it is told to."""

    def __init__(self, fresh: bool = False) -> None:
        super().__init__()
        own = {"name": "adam", "learning_rate": 0.25, "weight_decay": 0.0, "schedule": {"name": "constant"}}
        self.optimizers = {"helper": PlayerOptimizer(**own)}
        self.fresh = fresh

    def step(self, batch: Batch) -> Iterator[Update]:
        drawn = self.players["helper"](torch.full((1, 4), 1.0 + self.steps)).mean()
        self.steps += 1
        yield Update("helper", {"push": Term(drawn, 1.0)}, fresh=self.fresh)
        yield Update("student", self.players["student"](batch, None))


@pytest.mark.parametrize("fresh", [False, True])
def test_a_player_has_an_optimiser_and_a_schedule_of_its_own(fresh: bool, tmp_path: Path) -> None:
    ours = trainer(tmp_path, Forgetful(fresh))
    before = ours.plain["helper"].bias.detach().clone()
    ours.fit()
    assert isinstance(ours.optimizers["helper"].optimizer, torch.optim.Adam)
    weight = torch.zeros(1, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=0.25)
    for _ in range(10):  # the gradient of the bias is 1 at each step: moments play no part in it
        weight.grad = torch.ones(1)
        adam.step()
    torch.testing.assert_close(ours.plain["helper"].bias.detach() - before, weight.detach())
    (state,) = {float(x["step"]) for x in ours.optimizers["helper"].optimizer.state.values()}
    assert state == (1.0 if fresh else 10.0)
    assert_close(weights(ours), by_hand(10)[-1])


def test_an_optimiser_for_a_player_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no player generator.*expected helper, student"):
        trainer(tmp_path, TwoPlayers(), optimizers={"generator": {"name": "adam"}})


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_mixed_precision_learns_and_losses_stay_in_float32(precision: str, tmp_path: Path) -> None:
    run = limbeck.train(
        "cnn",
        DATA,
        output=tmp_path,
        quiet=True,
        train={"epochs": 4, "batch_size": 16, "precision": precision},
    )
    assert run.results["last"]["test"]["accuracy"] > 0.3
    assert (
        run.info["precision"] == "bf16" if precision == "bf16" else run.info["precision"] in ("bf16", "fp32")
    )


def test_a_precision_that_this_device_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fp16"):
        limbeck.train("cnn", DATA, output=tmp_path, quiet=True, train={"precision": "fp16"})


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to learn"):
        limbeck.train("cnn", DATA, output=tmp_path, quiet=True, label_weight=0)


def test_nothing_to_learn_from_after_the_initialisation(tmp_path: Path) -> None:
    teacher = limbeck.train("cnn", FEW, output=tmp_path / "t", quiet=True, train={"epochs": 1})
    with pytest.raises(ConfigError, match="nothing to learn"):
        limbeck.distill("cnn", teacher, FEW, method="fsp", output=tmp_path / "s", quiet=True, label_weight=0)


def test_the_folder_is_locked_while_a_run_writes_it(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    with pytest.raises(RunError, match="another process"):
        trainer(tmp_path)
    first.record.close()
    trainer(tmp_path)


def test_runs_repeat(tmp_path: Path) -> None:
    settings = {"epochs": 2, "precision": "fp32", "threads": 1}
    runs = [limbeck.train("cnn", FEW, output=tmp_path / name, quiet=True, train=settings) for name in "ab"]
    states = [(run.path / "student.safetensors").read_bytes() for run in runs]
    assert states[0] == states[1]
    other = limbeck.train("cnn", FEW, output=tmp_path / "c", quiet=True, train=settings, seed=1)
    assert (other.path / "student.safetensors").read_bytes() != states[0]
