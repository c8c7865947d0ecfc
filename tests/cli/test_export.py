"""``limbeck export``: the student alone, as safetensors and as ONNX."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.conftest import Done
from tests.running import environment
from torch import Tensor, nn

import limbeck
from limbeck.cli.export import write_onnx
from limbeck.errors import DependencyError, ModelError

SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 32, "precision": "fp32", "threads": 1, "log_every": 9}
Here = Callable[..., Done]

REBUILD = """
import json, sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import load_file
from limbeck.models import build
folder = Path(sys.argv[1])
card = json.loads((folder / "model.json").read_text())
network = build(card["model"]["name"], classes=len(card["classes"]), channels=card["channels"],
                size=tuple(card["size"]), **card["model"]["options"])
network.load_state_dict(load_file(folder / "student.safetensors"))
with torch.no_grad():
    np.save(folder / "logits.npy", network.eval()(torch.from_numpy(np.load(folder / "images.npy"))).numpy())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> limbeck.Run:
    """A residual network, whose normalisation and shortcuts are all to be carried over."""
    data, path = {"name": "digits", "train_size": 160}, tmp_path_factory.mktemp("export") / "run"
    return limbeck.train("resnet8", data, output=path, train=SHORT, latency=False, quiet=True)


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_two_files_rebuild_it_in_a_fresh_process(
    checkpoint: str, run: limbeck.Run, tmp_path: Path, here: Here
) -> None:
    done = here("export", run.path, "-o", tmp_path / "new" / "folder", "--checkpoint", checkpoint)
    assert done.code == 0, done.err
    folder = tmp_path / "new" / "folder"
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "student.safetensors"]
    assert json.loads((folder / "model.json").read_text()) == run.card()
    images = torch.randn(5, 1, 8, 8)
    np.save(folder / "images.npy", images.numpy())
    subprocess.run([sys.executable, "-c", REBUILD, str(folder)], env=environment(), check=True)
    with torch.no_grad():
        expected = run.student("best" if checkpoint == "best" else "last")(images).numpy()
    np.testing.assert_allclose(np.load(folder / "logits.npy"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_onnx_gives_the_same_logits_at_every_batch_size(run: limbeck.Run, tmp_path: Path, here: Here) -> None:
    done = here("export", run.path, "-o", tmp_path, "--onnx")
    assert (done.code, done.err) == (0, "")
    assert float(done.out.rsplit("logits: ", 1)[1].rstrip(")\n")) < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "student.onnx", "student.safetensors"]
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    student = run.student()
    for rows in (1, 2, 16, 33):
        images = torch.randn(rows, 1, 8, 8)
        (got,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(got, student(images).numpy(), atol=1e-4)


class Choosy(nn.Module):
    """Looks at values to decide what to do, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1)
        return rows * 2 if float(rows.sum()) > 0 else rows


def test_a_network_that_onnx_cannot_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="the network Choosy cannot be written as ONNX"):
        write_onnx(Choosy(), (1, 4, 4), tmp_path / "n.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_without_the_export_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        DependencyError, match=r"ONNX export needs onnxruntime.*pip install 'limbeck\[export\]'"
    ):
        write_onnx(nn.Flatten(), (1, 4, 4), tmp_path / "n.onnx")


def test_places_that_cannot_be_written(run: limbeck.Run, tmp_path: Path, here: Here) -> None:
    (tmp_path / "file").write_text("mine")
    done = here("export", run.path, "-o", tmp_path / "file")
    assert done.code == 2
    assert "cannot write" in done.err
    assert (tmp_path / "file").read_text() == "mine"


def test_own_code_is_run_only_when_it_is_named_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Here
) -> None:
    (tmp_path / "my_export.py").write_text(
        "from torch import nn\n"
        "def net(classes, channels, size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "c.yaml").write_text(
        "student: my_export:net\nlatency: false\ndata: {name: digits, train_size: 100}\n"
        "train: {epochs: 1, precision: fp32, threads: 1}\n"
    )
    assert here("train", "c.yaml", "-o", "run", "--allow-code", "my_export:net").code == 0
    refused = here("export", "run")
    assert refused.code == 2
    assert "--allow-code my_export:net" in refused.err
    assert not (tmp_path / "run" / "export").exists()
    assert here("export", "run", "--allow-code", "my_export:net").code == 0
    card = json.loads((tmp_path / "run" / "export" / "model.json").read_text())
    assert card["model"]["name"] == "my_export:net"
