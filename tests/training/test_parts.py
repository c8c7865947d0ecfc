"""The parts a run is made of: schedules, precision, checkpoints, the environment, teachers."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.config import OptimizerConfig, ScheduleConfig, parse
from limbeck.errors import CheckpointError, ConfigError, ModelError
from limbeck.methods import KD
from limbeck.signals import Batch
from limbeck.tasks import Classification
from limbeck.teachers import LiveTeacher, MemoryTeacher, Teacher
from limbeck.training import checkpoint, precision, record, schedule
from limbeck.training.parts import Parts

CPU = torch.device("cpu")


def factors(steps: int, steps_per_epoch: int = 10, **settings: Any) -> list[float]:
    config = ScheduleConfig(**settings)
    return [schedule.factor(config, step, steps_per_epoch, steps) for step in range(steps)]


def test_constant_and_cosine_schedules() -> None:
    assert factors(20, name="constant") == [1.0] * 20
    cosine = factors(20, name="cosine")
    assert cosine == pytest.approx([(1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)])
    assert factors(20, name="linear") == pytest.approx([1 - step / 20 for step in range(20)])
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[-1] > 0


def test_step_schedule_decays_at_fractions_of_epochs() -> None:
    found = factors(20, name="step", milestones=(0.5, 1.0), factor=0.1)
    assert found == pytest.approx([1.0] * 5 + [0.1] * 5 + [0.01] * 10)


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "linear"])
def test_warmup_rises_to_the_full_rate(name: str) -> None:
    found = factors(30, name=name, warmup=0.4)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4] == pytest.approx(1.0)
    assert factors(3, name=name, warmup=1.0) == pytest.approx([0.1, 0.2, 0.3])


def test_optimisers_leave_frozen_parameters_alone() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    sgd = schedule.optimizer(OptimizerConfig(nesterov=True), model.parameters())
    adam = schedule.optimizer(OptimizerConfig(name="adamw", weight_decay=0.1), model.parameters())
    assert isinstance(sgd, torch.optim.SGD)
    assert isinstance(adam, torch.optim.AdamW)
    assert [len(o.param_groups[0]["params"]) for o in (sgd, adam)] == [1, 1]
    assert (sgd.param_groups[0]["nesterov"], adam.param_groups[0]["weight_decay"]) == (True, 0.1)


@pytest.mark.parametrize(
    ("bf16", "amx", "found"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_auto_precision_follows_the_hardware(
    bf16: bool, amx: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert precision.resolve("auto", CPU) == found
    assert precision.resolve("auto", torch.device("meta")) == "fp32"
    assert [precision.resolve(p, CPU) for p in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_a_checkpoint_comes_back_exactly(tmp_path: Path) -> None:
    state = {"step": 3, "weights": {"w": torch.randn(4, 5)}, "names": ["a"], "rate": 1e-9}
    checkpoint.save(tmp_path / "deep" / "c.pt", state)
    again = checkpoint.load(tmp_path / "deep" / "c.pt")
    assert torch.equal(again.pop("weights")["w"], state.pop("weights")["w"])  # type: ignore[index]
    assert again == state


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_checkpoints_that_cannot_be_used(tmp_path: Path) -> None:
    path, mark = tmp_path / "c.pt", tmp_path / "hacked"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(path)
    torch.save({"x": Evil(mark)}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        checkpoint.load(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(path)
    checkpoint.save(path, {"w": torch.randn(100)})
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            checkpoint.load(path)
    assert not mark.exists()


def test_weights_come_back_exactly_even_when_shared_or_strided(tmp_path: Path) -> None:
    tensor = torch.randn(4, 3)
    state = {"a": tensor, "b": tensor, "turned": tensor.t(), "half": tensor.bfloat16(), "n": torch.tensor(7)}
    checkpoint.save_weights(tmp_path / "w.safetensors", state)
    again = checkpoint.load_weights(tmp_path / "w.safetensors")
    assert set(again) == set(state)
    assert all(torch.equal(again[name], state[name]) for name in state)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.load_weights(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="cannot read weights"):
        checkpoint.load_weights(tmp_path)


def test_weights_that_do_not_fit_are_named_and_change_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    state["extra"] = state.pop("1.bias")
    state["0.weight"] = torch.zeros(5, 2)
    with pytest.raises(ModelError) as caught:
        checkpoint.fill(model, state, "w.safetensors")
    for part in ("w.safetensors", "missing 1.bias", "left over extra", "0.weight is (5, 2)", "has (3, 2)"):
        assert part in str(caught.value)
    with pytest.raises(ModelError, match="and 1 more"):
        checkpoint.fill(model, {"other": torch.zeros(1)}, "nothing")
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_the_environment_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = record.environment()
    assert set(found) == {
        "limbeck", "python", "torch", "platform", "cpu", "gpu", "threads", "packages", "git", "command",
    }  # fmt: skip
    assert (found["torch"], found["git"]) == (torch.__version__, None)
    assert {"numpy", "accelerate", "safetensors"} <= set(found["packages"])


def make_batch(ids: list[int], inputs: Tensor) -> Batch:
    rows = torch.tensor(ids)
    return Batch(inputs[rows], rows % 3, rows)


def test_a_live_teacher_is_frozen() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    teacher = LiveTeacher(model, Classification(3))
    assert isinstance(teacher, Teacher)
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    batch = make_batch([0, 1, 2], torch.randn(3, 4, requires_grad=True))
    first, second = teacher.signals(batch).logits, teacher.signals(batch).logits
    assert not first.requires_grad
    assert torch.equal(first, second)
    before = teacher.fingerprint()
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    assert teacher.fingerprint() != before


def test_a_remembered_teacher_says_what_the_live_one_says_and_is_asked_once() -> None:
    inputs, asked = torch.randn(6, 4), []
    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda *_: asked.append(1))
    live = LiveTeacher(model, Classification(3))
    memory = MemoryTeacher(live, 6)
    for ids in ([0, 1], [4, 2], [1, 4, 0, 2], [2, 5, 3], [5, 4, 3, 2, 1, 0]):
        batch = make_batch(ids, inputs)
        torch.testing.assert_close(memory.signals(batch).logits, inputs[ids] @ model.weight.T + model.bias)
    assert len(asked) == 3
    mixed = make_batch([0], inputs)
    mixed.mixing = torch.ones(1)
    with pytest.raises(ConfigError, match="mixup or cutmix"):
        memory.signals(mixed)


class Inside(KD):
    """A method that looks inside the networks."""

    needs = frozenset({"logits", "features"})


def parts(tmp_path: Path, methods: list[Any] | None = None, **sections: Any) -> Parts:
    weights = tmp_path / "teacher.safetensors"
    options = {"widths": [4]}
    if not weights.exists():
        from limbeck.models import build

        network = build("mlp", classes=10, channels=1, size=(8, 8), widths=(4,))
        checkpoint.save_weights(weights, network.state_dict())
    values = {
        "student": {"name": "mlp", "options": options},
        "data": {"name": "digits", "train_size": 100},
        "methods": [] if methods else ["kd"],
        "teacher": {"model": {"name": "mlp", "options": options, "weights": str(weights)}, "cache": "memory"},
        "train": {"precision": "fp32"},
        **sections,
    }
    return Parts(parse(values), methods=methods or [])


def test_a_remembered_teacher_is_refused_where_it_would_be_wrong(tmp_path: Path) -> None:
    assert isinstance(parts(tmp_path).teacher, MemoryTeacher)
    for augment in ({"flip": True}, {"crop_padding": 1}, {"mixup": 0.5}, {"cutmix": 1.0}):
        with pytest.raises(ConfigError, match="remembers one answer"):
            parts(tmp_path, augment=augment)
    with pytest.raises(ConfigError, match=r"kd.*features"):
        parts(tmp_path, methods=[Inside()])


def test_the_teacher_stays_out_of_the_students_state(tmp_path: Path) -> None:
    made = parts(tmp_path)
    assert made.live is not None
    theirs = {id(p) for p in made.live.model.parameters()}
    assert not theirs & {id(p) for p in made.learner.parameters()}
    assert not any("teacher" in name for name in made.learner.state_dict())
