"""Two real processes (gloo) learn what one process learns from the same global batch."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.running import environment, launch, limbeck, torchrun, write_config

from limbeck.config import TrainConfig
from limbeck.errors import ConfigError
from limbeck.training.trainer import accelerator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No batch statistics, so that two halves of a batch are the whole; 330 images leave an odd last batch."""
    folder = tmp_path_factory.mktemp("ddp")
    trained = limbeck(
        "train", write_config(folder / "t.yaml", student="cnn", train={"epochs": 8}), "-o", folder / "t"
    )
    assert trained.returncode == 0, trained.stderr
    return write_config(
        folder / "run.yaml",
        data={"name": "digits", "train_size": 330},
        teacher={"run": str(folder / "t")},
        methods=["bickd"],
        augment={"crop_padding": 1},
        student={"name": "cnn", "options": {"widths": [8, 8], "norm": "group"}},
        train={"ema": 0.9, "clip": 1.0, "evaluate_every": 7},
    )


@pytest.fixture(scope="module")
def one(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "run"
    done = limbeck("distill", config, "--output", path)
    assert done.returncode == 0, done.stderr
    return path


def assert_close(first: Path, second: Path) -> None:
    mine, theirs = (load_file(path / "student.safetensors") for path in (first, second))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_two_processes_learn_what_one_learns(config: Path, one: Path, tmp_path: Path) -> None:
    done = launch("distill", config, "--output", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "two", one)
    info = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (info["processes"], info["status"]) == (2, "finished")
    curves = [
        [
            json.loads(line)["loss"]
            for line in (p / "metrics.jsonl").read_text().splitlines()
            if '"train"' in line
        ]
        for p in (tmp_path / "two", one)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=2e-3)


def alike(config: Path, folder: Path, *overrides: str) -> None:
    """Train in one process and in two, and hold the students against each other."""
    for start, name in ((limbeck, "one"), (launch, "two")):
        done = start("distill", config, *overrides, "--output", folder / name)
        assert done.returncode == 0, done.stderr
    assert_close(folder / "two", folder / "one")


LEAVING = """
import atexit, sys
from torch import distributed
from limbeck.cli import main

@atexit.register  # runs after what the command registers
def check():
    print("group at the end:", distributed.is_initialized())

sys.argv = ["limbeck", *sys.argv[1:]]
main()
"""


def test_both_processes_leave_the_group(config: Path, tmp_path: Path) -> None:
    """A thread of the group that outlives the interpreter aborts a run that is done."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING)
    words = ["distill", config, "train.epochs=1", "--output", tmp_path / "run"]
    done = subprocess.run(
        torchrun(script, *words), env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("group at the end: False") == 2, done.stdout


def test_features_are_compared_over_the_global_batch(config: Path, tmp_path: Path) -> None:
    kinds = "[at, sp, {name: cc, form: neighbours, weight: 0.02}, rkd, {name: pkt, weight: 0.1}]"
    alike(config, tmp_path, f"methods={kinds}", "train.epochs=1")


def test_peers_are_trained_scored_and_saved(config: Path, tmp_path: Path) -> None:
    alike(config, tmp_path, "methods=[dml]", "teacher=null", "train.epochs=1")
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())["networks"] for name in ("one", "two")
    )
    assert one.keys() == two.keys() == {"peer-1"}
    assert two["peer-1"]["test"]["nll"] == pytest.approx(one["peer-1"]["test"]["nll"], rel=1e-2)
    assert (tmp_path / "two" / "peer-1.safetensors").is_file()


def test_second_views_regions_and_a_learned_temperature(config: Path, tmp_path: Path) -> None:
    alike(config, tmp_path, "methods=[{name: mlkd}, {name: ctkd, ramp: 1}, {name: sdd_kd}]", "train.epochs=2")


def test_memories_are_the_same_in_every_process(config: Path, tmp_path: Path) -> None:
    kinds = "[{name: crd, negatives: 64, weight: 0.1}, dcd, {name: rrd, length: 100, weight: 0.1}, itrd]"
    alike(config, tmp_path, f"methods={kinds}", "train.epochs=2")


def test_stopped_and_resumed(config: Path, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "stopped"
    assert launch("distill", config, "--output", whole).returncode == 0
    process = subprocess.Popen(
        torchrun("-m", "limbeck", "distill", config, "--output", path, "train.checkpoint_every=2"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (path / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert json.loads((path / "run.json").read_text())["status"] in ("interrupted", "running")
    alone = limbeck("distill", "--resume", path)
    assert alone.returncode == 2
    assert "another world" in alone.stderr
    done = launch("distill", "--resume", path)
    assert done.returncode == 0, done.stderr
    assert (path / "student.safetensors").read_bytes() == (whole / "student.safetensors").read_bytes()


def test_answers_about_some_samples_are_shared(config: Path, tmp_path: Path) -> None:
    bought = ["teacher.cache=first_view", "teacher.budget=101", "teacher.rest=labels", "methods=[dkd, dist]"]
    alone = limbeck("distill", config, *bought, "--output", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    done = launch("distill", config, *bought, "--output", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "two", tmp_path / "one")
    one, two = (load_file(tmp_path / name / "answers.safetensors") for name in ("one", "two"))
    assert torch.equal(one["ids"], two["ids"])
    torch.testing.assert_close(one["logits"], two["logits"], rtol=1e-5, atol=1e-5)
    calls = [json.loads((tmp_path / n / "run.json").read_text())["teacher"]["calls"] for n in ("one", "two")]
    assert calls[0]["training"] == calls[1]["training"] == 101


def test_tuples_are_shared_whole(config: Path, tmp_path: Path) -> None:
    words = ["methods=[{name: comparative_kd, sampler: tuples, group_size: 4}]", "label_weight=1"]
    alone = limbeck("distill", config, *words, "--output", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    done = launch("distill", config, *words, "--output", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_launchers_do_not_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``accelerate launch --use_fsdp`` and its like say what they want in the environment; see ``train.shard``."""
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    with pytest.raises(ConfigError, match=f"asks for {kind}.*set train.shard"):
        accelerator(TrainConfig())
