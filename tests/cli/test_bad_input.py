"""Every mistake ends in one clear message and exit code 2, and loses nothing."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.running import SMALL, limbeck, write_config

from limbeck.cli import main


def command(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process."""
    old, sys.argv = sys.argv, ["limbeck", *map(str, words)]
    threads = torch.get_num_threads()
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = old
        torch.set_num_threads(threads)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call the command line, expect exit code 2 and one message with every given part."""

    def check(*words: object, says: tuple[str, ...]) -> str:
        code, _, err = command(*words, capsys=capsys)
        assert code == 2, err
        assert "Traceback" not in err
        assert err.count("limbeck: ") == 1
        for part in says:
            assert part in err, err
        return err

    return check


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = limbeck("train", write_config(folder / "c.yaml", train={"epochs": 8}), "-o", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


CONFIGS = [
    ({"studnet": "cnn"}, ("studnet", "'student'")),
    ({"train": {"epoch": 3}}, ("train.epoch", "'epochs'")),
    ({"train": {"epochs": 0}}, ("train.epochs", "greater than or equal to 1")),
    ({"train": {"epochs": "many"}}, ("train.epochs", "many")),
    ({"train": {"batch_size": 10**6, "drop_last": True}}, ("does not fill one batch",)),
    ({"train": {"precision": "fp8"}}, ("train.precision", "fp8")),
    ({"train": {"optimizer": {"name": "adamm"}}}, ("train.optimizer.name", "adamm")),
    ({"student": "resnet9"}, ("unknown model 'resnet9'", "resnet8")),
    ({"student": {"name": "cnn", "options": {"width": [4]}}}, ("width", "'widths'")),
    ({"student": "mymodels:make"}, ("--allow-code mymodels:make",)),
    ({"data": {"name": "digit"}}, ("digit", "'digits'")),
    ({"data": {"name": "digits", "train_size": 5}}, ("train_size",)),
    ({"data": {"name": "npz"}}, ("path",)),
    ({"data": {"name": "folder", "path": "nowhere"}}, ("nowhere",)),
    ({"methods": ["bicdk"]}, ("bicdk", "'bickd'")),
    ({"methods": ["kd"]}, ("kd needs a teacher", "teacher.run")),
    ({"methods": [{"name": "kd", "temprature": 2}]}, ("temprature", "'temperature'")),
    ({"methods": [{"name": "kd", "temperature": -1}]}, ("temperature", "-1")),
    ({"methods": ["kd"], "teacher": {"run": "nowhere"}}, ("no run in nowhere",)),
    ({"methods": ["kd"], "teacher": {"model": "cnn"}}, ("teacher",)),
    ({"teacher": {"model": {"name": "cnn"}}}, ("untrained network",)),
    ({"augment": {"crop_paddding": 2}}, ("'crop_padding'",)),
]


@pytest.mark.parametrize(("values", "says"), CONFIGS, ids=[str(v)[:60] for v, _ in CONFIGS])
def test_wrong_configuration(values: dict[str, object], says: tuple[str, ...], tmp_path: Path, fails) -> None:  # type: ignore[no-untyped-def]
    fails("distill", write_config(tmp_path / "c.yaml", **values), "-o", tmp_path / "run", says=says)
    assert not (tmp_path / "run" / "student.safetensors").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("student: [", ("not valid YAML at line",)),
        ("just words", ("holds no keys",)),
        ("", ("holds no keys",)),
        ("student: !!python/object/apply:os.system ['touch hacked']", ("not valid YAML",)),
    ],
)
def test_wrong_file(text: str, says: tuple[str, ...], tmp_path: Path, fails, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    fails("distill", tmp_path / "c.yaml", says=says)
    assert not (tmp_path / "hacked").exists()


def test_wrong_words(tmp_path: Path, finished: Path, fails) -> None:  # type: ignore[no-untyped-def]
    config = write_config(tmp_path / "c.yaml")
    fails("distill", tmp_path / "none.yaml", says=("no configuration file",))
    fails("distill", tmp_path, says=("cannot read",))
    fails("distill", says=("no configuration",))
    fails("distill", config, "train.epochs", says=("key=value",))
    fails("distill", config, "train.epochs=[", says=("train.epochs", "YAML"))
    fails("distill", config, "methods.3=kd", says=("methods.3",))
    fails("distill", config, "--resume", finished, says=("exactly as it was started",))
    fails("distill", "--resume", tmp_path / "none", says=("no run in",))
    fails("train", config, "method=kd", says=("limbeck distill",))
    fails("evaluate", tmp_path, says=("no run in",))
    fails("evaluate", finished, "--split", "train", says=("test or validation",))
    fails("evaluate", finished, "--checkpoint", "first", says=("last or best",))
    fails("report", tmp_path / "none", says=("no folder",))
    (tmp_path / "empty").mkdir()
    fails("report", tmp_path / "empty", says=("no run in",))


def test_weights_that_are_a_pickle_truncated_or_of_another_network(
    tmp_path: Path, finished: Path, fails
) -> None:  # type: ignore[no-untyped-def]
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'hacked'}",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"w": torch.zeros(2)}, tmp_path / "plain.pt")
    whole = (finished / "student.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.safetensors").write_bytes(whole)

    def teacher(weights: str, name: str = "cnn") -> Path:
        model = {"name": name, "weights": str(tmp_path / weights)}
        return write_config(tmp_path / "c.yaml", methods=["kd"], teacher={"model": model})

    fails("distill", teacher("evil.pt"), says=("evil.pt", "may run code", ".safetensors"))
    fails("distill", teacher("plain.pt"), says=("plain.pt", "pickle"))
    fails("distill", teacher("cut.safetensors"), says=("cut.safetensors", "not a whole"))
    fails("distill", teacher("none.safetensors"), says=("none.safetensors",))
    fails("distill", teacher("whole.safetensors"), says=("do not fit", "stages.0"))
    assert not (tmp_path / "hacked").exists()


def interrupted(tmp_path: Path) -> Path:
    """A run that stopped half-way, as a kill leaves it."""
    folder = tmp_path / "run"
    code = (
        "import sys; from limbeck.training import trainer; save = trainer.Trainer._save\n"
        "def stop(self):\n    save(self)\n    if self.step >= 10: sys.stdout.flush(); import os; os._exit(9)\n"
        "trainer.Trainer._save = stop\n"
        f"sys.argv = ['limbeck', 'train', {str(write_config(tmp_path / 'c.yaml'))!r}, '-o', {str(folder)!r}]\n"
        "from limbeck.cli import main; main()\n"
    )
    from tests.running import environment

    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    return folder


def test_damaged_checkpoint(tmp_path: Path, fails) -> None:  # type: ignore[no-untyped-def]
    run = interrupted(tmp_path)
    checkpoint = run / "checkpoints" / "last.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    fails("distill", "--resume", run, says=("last.pt", "truncated or damaged"))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    checkpoint.write_bytes(bytes(flipped))
    fails("distill", "--resume", run, says=("last.pt", "damaged"))
    checkpoint.write_bytes(pickle.dumps({"step": 1}))
    fails("distill", "--resume", run, says=("last.pt",))
    torch.save({"format": 99}, checkpoint)
    fails("distill", "--resume", run, says=("another format",))
    torch.save({"format": 1}, checkpoint)
    fails("distill", "--resume", run, says=("last.pt", "is damaged", "world"))
    checkpoint.write_bytes(whole)
    assert limbeck("distill", "--resume", run).returncode == 0


def test_damaged_records(tmp_path: Path, finished: Path, fails) -> None:  # type: ignore[no-untyped-def]
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "results.json").write_text('{"last"')
    fails("report", run, "-o", tmp_path / "r.html", says=("results.json",))
    (run / "model.json").write_text("{")
    fails("evaluate", run, says=("model.json", "damaged"))
    (run / "config.yaml").write_text("data: [")
    fails(
        "distill",
        write_config(tmp_path / "d.yaml", methods=["kd"], teacher={"run": str(run)}),
        says=("model.json",),
    )
    unfinished = interrupted(tmp_path / "half")
    fails("evaluate", unfinished, says=("model.json", "--resume"))
    fails("distill", write_config(tmp_path / "d.yaml"), "-o", unfinished, says=("holds a run", "--resume"))


def test_classes_that_differ(tmp_path: Path, finished: Path, fails) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (90, 8, 8), dtype=np.uint8), np.arange(90) % 3
    np.savez(tmp_path / "three.npz", x=x, y=y)
    data = {"name": "npz", "path": str(tmp_path / "three.npz"), "train_size": None}
    config = write_config(tmp_path / "c.yaml", data=data, methods=["kd"], teacher={"run": str(finished)})
    fails("distill", config, says=("other classes", "10", "3"))


def test_nan_in_the_data(tmp_path: Path, fails) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(0).random((60, 8, 8)).astype(np.float32)
    x[7, 2, 2] = np.nan
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(60) % 3)
    data = {"name": "npz", "path": str(tmp_path / "d.npz"), "train_size": None}
    fails("train", write_config(tmp_path / "c.yaml", data=data), says=("NaN", "d.npz"))


def test_npz_that_holds_objects(tmp_path: Path, fails) -> None:  # type: ignore[no-untyped-def]
    np.savez(tmp_path / "d.npz", x=np.array([{}, {}], dtype=object), y=np.arange(2))
    data = {"name": "npz", "path": str(tmp_path / "d.npz"), "train_size": None}
    fails("train", write_config(tmp_path / "c.yaml", data=data), says=("d.npz", "object"))


def test_a_folder_that_may_not_be_written(tmp_path: Path, fails) -> None:  # type: ignore[no-untyped-def]
    """The kernel's own tree: even root may not make a folder in it."""
    fails(
        "train",
        write_config(tmp_path / "c.yaml"),
        "-o",
        "/sys/limbeck/run",
        says=("cannot write", "choose a folder"),
    )


def test_full_disk_loses_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    """The write of one checkpoint is made to fail as a full disk fails it; ``tests/test_files.py`` fills a real one."""
    config = write_config(
        tmp_path / "c.yaml",
        student={"name": "mlp", "options": {"widths": [256]}},
        train={"epochs": 3, "optimizer": {"name": "adamw", "learning_rate": 1e-3}},
    )
    assert limbeck("train", config, "-o", tmp_path / "whole").returncode == 0
    script = (
        "import errno, os, sys\n"
        "from limbeck import files\n"
        "real, count = os.fsync, [0]\n"
        "def full(handle):\n"
        "    if '.pt.' in os.readlink(f'/proc/self/fd/{handle}'):\n"
        "        count[0] += 1\n"
        "        if count[0] == 3: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(handle)\n"
        "os.fsync = full\n"
        f"sys.argv = ['limbeck', 'train', {str(config)!r}, '-o', {str(tmp_path / 'run')!r}]\n"
        "from limbeck.cli import main; main()\n"
    )
    from tests.running import environment

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "no space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    again = limbeck("train", "--resume", tmp_path / "run")
    assert again.returncode == 0, again.stderr
    weights = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]


def test_small_is_a_valid_configuration() -> None:
    from limbeck.config import parse

    assert parse(yaml.safe_load(yaml.safe_dump(SMALL))).label == "scratch"
