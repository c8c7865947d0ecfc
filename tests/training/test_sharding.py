"""Language models cut into shards (FSDP2) in two real processes (gloo) learn what whole ones learn."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.running import Running, environment, launch, torchrun, two, write_config
from tests.training.test_language import SMALL, assert_same, config, teacher, text
from torch import nn

from limbeck import Run
from limbeck.errors import ConfigError
from limbeck.sharding import cut, cut_frozen
from limbeck.training.session import assemble, score

__all__ = ["teacher", "text"]
SPLITS = {"train": 160, "validation": 17, "test": 33}
"""The last batch of 16 leaves nothing for the second process."""
DSKD = ["train.accumulate=2"]
ALONE = """
import torch
from torch import distributed as dist, nn
from limbeck.sharding import cut, cut_frozen, full, is_cut, shared, whole

class Layer(nn.Linear):
    pass

class Net(nn.Sequential):
    _no_split_modules = ["Layer"]

def net():
    torch.manual_seed(0)
    return Net(nn.Embedding(7, 4), Layer(4, 4), nn.ReLU(), Layer(4, 4), nn.Linear(4, 3))

dist.init_process_group("gloo")
first, cpu, x, reference = dist.get_rank() == 0, torch.device("cpu"), torch.arange(3), net()
for model in (net(), net().requires_grad_(False)):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if next(model.parameters()).requires_grad:
        cut(model, model, cpu)
    else:
        cut_frozen(model, cpu)
    held = [p.to_local() if hasattr(p, "to_local") else p for p in model[1].parameters()]
    assert is_cut(model) and sum(p.numel() for p in held) == 10, held  # of 20
    for _ in range(2):
        with torch.no_grad(), whole(model):
            for _ in range(3 if first else 1):  # no process waits for another
                assert torch.equal(model(x), reference(x))
    saved = full(model.state_dict())
    if first:
        assert all(torch.equal(saved[name], tensor) for name, tensor in before.items())
    doubled = {name: 2 * tensor for name, tensor in reversed(before.items())}
    model.load_state_dict(shared(doubled, model.state_dict()))
    with torch.no_grad():
        again = net()
        again.load_state_dict(doubled)
        assert torch.equal(model(x), again(x))
dist.destroy_process_group()
"""


def test_parts_of_networks(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    done = subprocess.run(
        torchrun(tmp_path / "alone.py"), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def path(text: dict[str, Any], teacher: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    rows = Path(text["path"]).read_text().splitlines()
    for name, count in SPLITS.items():
        (folder / f"{name}.jsonl").write_text("\n".join(rows[:count]))
        rows = rows[count:]
    return write_config(
        folder / "run.yaml",
        data={**text, "path": str(folder), "train_size": None},
        student={**SMALL, "options": {**SMALL["options"], "n_layer": 2}},
        teacher={"run": str(teacher.path)},
        methods=[{"name": "dskd", "options": {"start": "random"}}],
        train={
            "optimizer": {"name": "adamw", "learning_rate": 0.01},
            "batch_size": 16,
            "epochs": 2,
            "clip": 1.0,
            "precision": "fp32",
            "threads": 1,
        },
    )


@pytest.fixture(scope="module")
def both(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("both") / "run"
    done = launch("distill", path, *DSKD, "train.shard=both", "--output", folder)
    assert done.returncode == 0, done.stderr
    return Run(folder)


def alike(run: Run, path: Path, more: list[str], folder: Path) -> None:
    """Whole networks in two processes learn the same."""
    done = launch("distill", path, *more, "--output", folder)
    assert done.returncode == 0, done.stderr
    known = Run(folder)
    assert_same(run, known, rtol=1e-3, atol=1e-5)
    for mine, theirs in (
        (run.results["last"]["test"], known.results["last"]["test"]),
        (run.results["last"]["validation"], known.results["last"]["validation"]),
        (run.results["best"]["test"], known.results["best"]["test"]),
    ):
        assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_both_networks(both: Run, path: Path, tmp_path: Path) -> None:
    alike(both, path, DSKD, tmp_path / "whole")
    assert score(both, "test")["perplexity"] == pytest.approx(both.results["last"]["test"]["perplexity"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shard", "more"),
    [
        ("student", ["train.gradient_checkpointing=true", "data.responses=5", "data.new_tokens=4"]),
        ("both", ["sampling={by: both, new_tokens: 4, top_k: 5, gamma: 2}"]),
    ],
    ids=["layers computed again, responses", "texts of both"],
)
def test_shards(shard: str, more: list[str], path: Path, tmp_path: Path) -> None:
    words = [*more, "methods=[token_kd]"]
    done = launch("distill", path, *words, f"train.shard={shard}", "--output", tmp_path / "cut")
    assert done.returncode == 0, done.stderr
    alike(Run(tmp_path / "cut"), path, words, tmp_path / "whole")


@pytest.mark.slow
def test_stopped_and_resumed(both: Run, path: Path, tmp_path: Path) -> None:
    words = [path, *DSKD, "train.shard=both", "train.checkpoint_every=2", "train.log_every=2"]
    process = Running("distill", *words, "--output", tmp_path / "run", variables=two())
    while not (tmp_path / "run" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert Run(tmp_path / "run").status in ("interrupted", "running")
    done = launch("distill", "--resume", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert_same(Run(tmp_path / "run"), both)


@pytest.mark.parametrize(
    ("more", "processes", "what"),
    [
        ({}, "1", "there is one"),
        ({"student": {**SMALL, "lora": {"rank": 2}}}, "2", "student.lora does not go with train.shard"),
        ({"train": {"ema": 0.9}}, "2", "train.ema does not go with"),
        ({"train": {"precision": "fp16"}}, "2", "train.precision=fp16 does not go with"),
        ({"data": {"name": "digits"}, "student": {"name": "cnn"}}, "2", "train.shard is for runs on text"),
    ],
)
def test_refusals(
    more: dict[str, Any],
    processes: str,
    what: str,
    text: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    given = {**more, "train": {"shard": "student", **more.get("train", {})}}
    with pytest.raises(ConfigError, match=what):
        assemble(config(given.pop("data", text), tmp_path, **given))


def test_a_single_number_cannot_be_cut() -> None:
    module = nn.Module()
    module.temperature = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ConfigError, match="temperature is one number and cannot be cut"):
        cut(module, module, torch.device("cpu"))


def test_a_teacher_without_known_layers_cannot_be_cut() -> None:
    with pytest.raises(ConfigError, match="Linear does not say what its layers are"):
        cut_frozen(nn.Linear(2, 3), torch.device("cpu"))
