"""Taps while the student runs in two processes, in bfloat16 and through ``torch.compile``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.running import environment, launch, limbeck, write_config

COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No batch statistics, so that two halves of a batch are the whole."""
    folder = tmp_path_factory.mktemp("taps")
    done = limbeck(
        "train", write_config(folder / "t.yaml", student="cnn", train={"epochs": 4}), "-o", folder / "t"
    )
    assert done.returncode == 0, done.stderr
    return write_config(
        folder / "run.yaml",
        teacher={"run": str(folder / "t")},
        methods=[
            {
                "name": "fitnets",
                "weight": 0.01,
                "student_layers": ["input of stages.1.3"],
                "teacher_layers": ["stages.1"],
            },
            {"name": "at", "weight": 0.01},
            {"name": "dcd"},
        ],
        augment={"crop_padding": 1},
        student={"name": "cnn", "options": {"widths": [8, 8], "norm": "group"}},
    )


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def distil(config: Path, run: Path, *overrides: str, processes: int = 1) -> Path:
    start = limbeck if processes == 1 else launch
    done = start("distill", config, "--output", run, *overrides)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def one(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distil(config, tmp_path_factory.mktemp("one") / "run")


def assert_same(first: Path, second: Path, rel: float) -> None:
    assert losses(first) == pytest.approx(losses(second), rel=rel)
    mine, theirs = (load_file(path / "student.safetensors") for path in (first, second))
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=10 * rel, atol=0.1 * rel)


@pytest.mark.slow
def test_two_processes(config: Path, one: Path, tmp_path: Path) -> None:
    assert_same(distil(config, tmp_path / "two", processes=2), one, 2e-3)


@COMPILER
@pytest.mark.slow
def test_compiled(config: Path, one: Path, tmp_path: Path) -> None:
    assert_same(distil(config, tmp_path / "run", "train.compile=true"), one, 1e-3)


@COMPILER
@pytest.mark.slow
def test_compiled_in_two_processes_in_bfloat16(config: Path, one: Path, tmp_path: Path) -> None:
    run = distil(config, tmp_path / "run", "train.compile=true", "train.precision=bf16", processes=2)
    assert losses(run) == pytest.approx(losses(one), rel=0.02)


@pytest.mark.slow
def test_without_a_compiler_it_is_one_message(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    done = limbeck("distill", config, "--output", tmp_path / "run", "train.compile=true", fresh=True)
    assert done.returncode == 2
    assert "torch.compile cannot run the network CNN" in done.stderr
    assert "train.compile=false" in done.stderr
    assert "Traceback" not in done.stderr


STEPS = """
from functools import partial
import torch
from torch import nn
from torch._dynamo.utils import counters
from limbeck.signals import Batch
from limbeck.taps import Taps
from limbeck.tasks import Classification
from limbeck.training.learner import Learner

def same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)

torch.compile = partial(torch.compile, backend="aot_eager", fullgraph=True)
shared = nn.ReLU()
network = nn.Sequential(
    nn.Conv2d(1, 4, 3), shared, nn.Conv2d(4, 4, 3), shared, nn.Flatten(), nn.Linear(64, 10)
)
compiled, plain = (Learner(network, Classification(10), [], 1.0) for _ in range(2))
compiled.taps = plain.taps = Taps(["0", "3", "input of 1#2", "embedding"], classifier="5")
compiled.compile_student()
parameters = list(network.parameters())
for step in range(12):
    x = torch.randn(3 if step % 4 == 3 else 4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
    batch = Batch(x, torch.zeros(len(x)).long(), torch.arange(len(x)))
    gradients = []
    seen = [learner.look(batch) for learner in (compiled, plain)]
    for signals in seen:
        loss = signals.logits.square().mean() + sum(f.square().mean() for f in signals.features.values())
        gradients.append(torch.autograd.grad(loss, parameters))
    assert sorted(seen[0].features) == ["0", "3", "embedding", "input of 1#2"]
    same(*([s.features[name] for name in sorted(s.features)] for s in seen))
    same(*gradients)
assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
print(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
"""


@pytest.mark.slow
def test_each_step_gets_its_own_features_from_one_graph() -> None:
    """Hooks come and go with each step while the graph stays; twelve steps, odd last batches among them.

    A process of its own: here every function, hooks too, is wrapped to check shapes.
    """
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "0"]
