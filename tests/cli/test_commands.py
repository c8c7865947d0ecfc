"""The commands as a user meets them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.running import command, environment, write_config
from tests.running import limbeck as call

import limbeck
from limbeck.cli import demo
from limbeck.errors import RunError
from limbeck.methods import METHODS
from limbeck.models import build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    done = call(
        "train", write_config(folder / "t.yaml", student="cnn", train={"epochs": 8}), "-o", folder / "teacher"
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "left, loss" in done.stderr
    return folder / "teacher"


@pytest.fixture(scope="module")
def student(teacher: Path) -> Path:
    config = write_config(teacher.parent / "s.yaml", teacher={"run": str(teacher)}, methods=["bickd"])
    path = teacher.parent / "student"
    done = call("distill", config, "train.epochs=6", "methods.0.temperature=2", "seed=3", "-o", path)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout
    return path


def test_overrides_land_in_the_record(student: Path) -> None:
    config = yaml.safe_load((student / "config.yaml").read_text())
    assert (config["train"]["epochs"], config["seed"]) == (6, 3)
    assert config["methods"][0]["options"] == {"temperature": 2}
    assert json.loads((student / "run.json").read_text())["reconstructed"] is True


def test_evaluate_prints_what_the_run_recorded(student: Path) -> None:
    done = call("evaluate", student)
    assert done.returncode == 0, done.stderr
    scores = limbeck.Run(student).results["last"]["test"]
    assert f"{100 * scores['accuracy']:.2f} %" in done.stdout
    assert f"{scores['nll']:.4f}" in done.stdout
    assert f"{100 * scores['agreement']:.2f} %" in done.stdout
    assert call("evaluate", student, "--checkpoint", "best", "--split", "validation").returncode == 0


def test_report(teacher: Path, student: Path, tmp_path: Path) -> None:
    done = call("report", teacher.parent, "-o", tmp_path / "r.html", "--title", "Both")
    assert done.returncode == 0, done.stderr
    assert "reconstructed" in (tmp_path / "r.html").read_text()


def test_export_rebuilds_the_student_alone(student: Path, tmp_path: Path) -> None:
    done = call("export", student, "-o", tmp_path, "--onnx")
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "model.json").read_text())
    network = build(
        card["model"]["name"],
        classes=len(card["classes"]),
        channels=card["channels"],
        size=tuple(card["size"]),
        **card["model"]["options"],
    )
    network.load_state_dict(load_file(tmp_path / "student.safetensors"))
    images = torch.randn(3, card["channels"], *card["size"])
    with torch.no_grad():
        expected = network.eval()(images)
        assert torch.equal(limbeck.Run(student).student()(images), expected)
    assert float(done.stdout.rsplit("logits: ", 1)[1].rstrip(")\n")) < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


def test_methods_lists_all() -> None:
    done = call("methods")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[2:]}
    assert set(rows) >= set(METHODS)
    assert "reconstructed" in rows["bickd"]


def test_doctor(teacher: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "c.yaml", teacher={"run": str(teacher)}, methods=["kd"], output=str(tmp_path / "r")
    )
    done = call("doctor", config)
    assert done.returncode == 0, done.stderr
    assert "No fault found" in done.stdout
    faulty = call("doctor", config, "augment.flip=true", "teacher.cache=memory")
    assert faulty.returncode == 2
    assert "remembers one answer" in faulty.stderr
    torch.manual_seed(0)
    untrained = build("cnn", classes=10, channels=1, size=(8, 8), widths=(4, 8))
    save_file(untrained.state_dict(), tmp_path / "untrained.safetensors")
    model = {"name": "cnn", "options": {"widths": [4, 8]}, "weights": str(tmp_path / "untrained.safetensors")}
    config = write_config(
        tmp_path / "d.yaml", teacher={"model": model}, methods=["kd"], output=str(tmp_path / "r")
    )
    found = call("doctor", config)
    assert found.returncode == 2
    assert "FAULT  teacher is better than chance" in found.stdout
    assert "load the trained weights" in found.stderr
    assert not (tmp_path / "r").exists()


def test_own_code_runs_only_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(classes, channels, size, width=8):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels*size[0]*size[1], width), nn.ReLU(),\n"
        "                         nn.Linear(width, classes))\n"
    )
    config = write_config(tmp_path / "c.yaml", student={"name": "mine:net", "options": {"width": 12}})
    refused = call("train", config, "-o", "run", cwd=tmp_path)
    assert refused.returncode == 2
    done = call("train", config, "-o", "run", "--allow-code", "mine:net", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert call("evaluate", "run", cwd=tmp_path).returncode == 2
    assert call("evaluate", "run", "--allow-code", "mine:net", cwd=tmp_path).returncode == 0
    missing = call(
        "train", config, "-o", "r2", "student.name=mine:nothing", "--allow-code", "mine:nothing", cwd=tmp_path
    )
    assert missing.returncode == 2
    assert "cannot import" in missing.stderr


def test_a_terminal_gets_a_bar_with_time_left(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", train={"epochs": 30})
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command("train", config, "-o", tmp_path / "run"),
        env={**environment(), "TERM": "xterm", "COLUMNS": "120"},
        stdout=slave,
        stderr=slave,
        close_fds=True,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait() == 0
    text = shown.decode(errors="replace")
    assert "━" in text
    assert "0:00:0" in text
    assert "\x1b[" in text


def test_version() -> None:
    done = call("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"limbeck \S+\n", done.stdout)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['limbeck', '--help']\n"
    code += "try:\n from limbeck.cli import main; main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'matplotlib', 'accelerate', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("[]"), done.stdout
    assert "distill" in done.stdout


def test_demo_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(demo.TEACHER, "train", {"epochs": 2, "batch_size": 64})
    monkeypatch.setitem(demo.TEACHER, "student", "resnet8")
    monkeypatch.setitem(demo.STUDENT, "train", {"epochs": 2, "batch_size": 25})
    demo.run(tmp_path / "demo", seeds=1)
    first = capsys.readouterr().out
    assert "one seed cannot tell" in first
    assert "BicKD (reconstructed)" in first
    assert (tmp_path / "demo" / "report.html").is_file()
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "demo").rglob("student.safetensors")}
    assert len(times) == 5
    demo.run(tmp_path / "demo", seeds=1)
    assert {p: p.stat().st_mtime_ns for p in times} == times
    monkeypatch.setitem(demo.STUDENT, "train", {"epochs": 3, "batch_size": 25})
    with pytest.raises(RunError, match="another configuration"):
        demo.run(tmp_path / "demo", seeds=1)
