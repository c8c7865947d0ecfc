"""What methods may hook into: initialisation, second batches, observations, the head, ramps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.config import parse
from limbeck.errors import ConfigError
from limbeck.methods.base import Ask, Method, Setting, Term, Terms
from limbeck.models import build
from limbeck.ramps import Ramp
from limbeck.signals import Batch, Signals
from limbeck.taps import EMBEDDING, Layout
from limbeck.tasks import Classification
from limbeck.teachers import LiveTeacher
from limbeck.training.session import execute
from limbeck.training.trainer import RunInterrupted, Trainer


class Everything(Method):
    """Uses every hook, and keeps what it saw."""

    name = "everything"
    paper = "none"
    status = "control"
    needs = frozenset({"logits", "features", "exact_views"})
    head = True
    initial_epochs = 1

    class Options(Method.Options):
        temperature: float = 4.0

    options: Options

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[tuple[float, float]] = []

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        assert teacher is not None
        assert teacher.embedding is not None
        assert setting.classes == 10
        assert len(setting.labels) == 160
        self.student_taps, self.teacher_taps = (EMBEDDING,), (EMBEDDING,)
        self.hint = nn.Linear(student.shape(EMBEDDING)[0], teacher.embedding[0])
        self.peer = setting.build(number=1)

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        signals.extra["peer"] = self.peer(batch.inputs)

    def second(self, student: Ask, teacher: Ask, batch: Batch) -> Batch | None:
        inputs = batch.inputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((student(inputs) - teacher(inputs)).square().sum(), inputs)
        assert gradient.any()
        return Batch(batch.inputs + 0.1 * gradient.sign(), batch.labels, batch.ids, batch.epoch)

    def initial(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        self.seen.append((self.epoch, self.options.temperature))
        return {"hint": self._hint(student, teacher)}

    def _hint(self, student: Signals, teacher: Signals | None) -> Term:
        mapped = self.hint(student.features[EMBEDDING].float())
        return Term((mapped - self.taught(teacher).features[EMBEDDING]).square().mean())

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        self.seen.append((self.epoch, self.options.temperature))
        weight, bias = student.extra["head"]
        again = nn.functional.linear(student.features[EMBEDDING], weight, bias)
        torch.testing.assert_close(again.float(), student.logits.float(), rtol=2e-2, atol=2e-2)
        second = student.extra["second"].logits - self.taught(teacher).extra["second"].logits
        labels = nn.functional.cross_entropy(student.extra["peer"], batch.labels)
        return {"second": Term(second.square().mean()), "peer": Term(labels)}

    def networks(self) -> dict[str, nn.Module]:
        return {"peer": self.peer}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LiveTeacher:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    run = execute(_config(folder, epochs=8))
    return LiveTeacher(run.student(), Classification(10))


def _config(folder: Path, methods: Sequence[Any] = (), epochs: int = 2, **more: Any) -> Any:
    values: dict[str, Any] = {
        "data": {"name": "digits", "train_size": 160},
        "student": {"name": "cnn", "options": {"widths": [4, 8]}},
        "output": str(folder),
        "methods": list(methods),
        "label_weight": 1.0,
        "train": {"epochs": epochs, "batch_size": 32, "precision": "fp32", "log_every": 1, "threads": 1},
        "latency": False,
    }
    return parse({**values, **more})


def _entry(**more: Any) -> dict[str, Any]:
    return {"name": "object:everything", **more}


def test_all_hooks_in_one_run(tmp_path: Path, teacher: LiveTeacher) -> None:
    method = Everything()
    schedule = {"temperature": {"start": 4, "end": 1}}
    run = execute(_config(tmp_path, [_entry(schedule=schedule)]), methods=[method], teacher=teacher)
    rows = run.metrics("train")
    assert len(rows) == 15  # one epoch to begin with, two of the main stage
    assert [list(row["terms"]) for row in (rows[0], rows[5])] == [
        ["everything.hint"],
        ["cross_entropy", "everything.second", "everything.peer"],
    ]
    assert [row["learning_rate"] for row in rows[:6]] == [0.05] * 6
    assert rows[-1]["learning_rate"] < 0.01
    trained = [at for at in method.seen if at[0] != 0.0]
    assert trained[0][0] == -1.0
    assert trained[-1] == (pytest.approx(1.8), pytest.approx(4 - 0.9 * 3))
    assert [row["epoch"] for row in run.metrics("validation")] == [2, 3]
    first, last = (rows[i]["terms"]["everything.peer"]["raw"] for i in (5, -1))
    assert last < first
    assert set(run.results["networks"]["peer"]["test"]) >= {"accuracy", "ece"}
    assert (tmp_path / "peer.safetensors").is_file()


def test_a_run_stopped_at_any_step_goes_on_to_the_same_numbers(
    tmp_path: Path, teacher: LiveTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = execute(_config(tmp_path / "whole", [_entry()]), methods=[Everything()], teacher=teacher)
    for stop in (3, 5, 8):
        folder = tmp_path / str(stop)

        def stopped(self: Trainer, stop: int = stop) -> None:
            if self.step == stop:
                self._save()
                raise RunInterrupted("stopped", fix="go on", number=15)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_stop_if_asked", stopped)
            with pytest.raises(RunInterrupted):
                execute(_config(folder, [_entry()]), methods=[Everything()], teacher=teacher)
        again = execute(_config(folder, [_entry()]), methods=[Everything()], teacher=teacher, resume=True)
        for name, tensor in whole.student().state_dict().items():
            assert torch.equal(tensor, again.student().state_dict()[name]), (stop, name)


def test_momentum_is_forgotten_when_the_main_stage_begins(
    tmp_path: Path, teacher: LiveTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = Trainer._optimise

    def watch(self: Trainer, *arguments: Any) -> Any:
        sizes.append(len(self.optimizers["student"].state))
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_optimise", watch)
    execute(_config(tmp_path, [_entry()], epochs=1), methods=[Everything()], teacher=teacher)
    assert sizes[0] == sizes[5] == 0
    assert all(sizes[1:5])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"temprature": {"start": 1, "end": 2}}, "nearest|expected 'temperature'"),
        ({"temperature": {"start": 1, "end": 0}}, "temperature"),
        ({"weight": {"start": 1, "end": -1}}, "below 0"),
        ({"temperature": {"start": 1, "end": 2, "since": 5, "until": 3}}, "later than since"),
        ({"form": {"start": 1, "end": 2}}, "no number 'form'"),
    ],
)
def test_ramps_that_cannot_be(schedule: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        execute(_config(tmp_path, [{"name": "kd", "schedule": schedule}]))


@pytest.mark.parametrize(
    ("ramp", "values"),
    [
        (Ramp(start=1, end=0), [1.0, 0.5, 0.0]),
        (Ramp(start=1, end=0, shape="cosine"), [1.0, 0.5, 0.0]),
        (Ramp(start=4, end=1, shape="exponential"), [4.0, 2.0, 1.0]),
        (Ramp(start=0, end=1, shape="step"), [0.0, 0.0, 1.0]),
        (Ramp(start=0, end=1, shape="sigmoid"), [0.006738, 0.286505, 1.0]),
        (Ramp(start=0, end=1, since=5), [0.0, 0.0, 1.0]),
        (Ramp(start=0, end=1, until=5), [0.0, 1.0, 1.0]),
    ],
)
def test_ramp_values(ramp: Ramp, values: list[float]) -> None:
    assert [ramp.at(epoch, 10) for epoch in (0.0, 5.0, 10.0)] == pytest.approx(values, abs=1e-6)


def test_the_head_of_a_network_without_one(tmp_path: Path, teacher: LiveTeacher) -> None:
    class NoHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 10, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean((2, 3))

    class Head(Method):
        name, paper, status, head = "head", "none", "control", True

    with pytest.raises(Exception, match="no linear layer"):
        execute(
            _config(tmp_path, [{"name": "object:head"}]), student=NoHead(), methods=[Head()], teacher=teacher
        )


def test_another_network_differs_and_disturbs_nothing(tmp_path: Path) -> None:
    found: list[Tensor] = []

    class Peers(Method):
        name, paper, status, needs = "peers", "none", "control", frozenset[str]()

        def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
            before = torch.get_rng_state()
            for number in (1, 2, 1):
                found.append(setting.build(number=number).state_dict()["fc.weight"])
            assert torch.equal(before, torch.get_rng_state())

        def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
            return {}

    model = build("cnn", classes=10, channels=1, size=(8, 8), widths=(4, 8))
    for student in (None, model):
        found.clear()
        entry = {"name": "object:peers"}
        execute(
            _config(tmp_path / str(student is None), [entry], epochs=1), student=student, methods=[Peers()]
        )
        assert torch.equal(found[0], found[2])
        assert not torch.equal(found[0], found[1])
