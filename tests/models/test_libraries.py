"""Networks of timm and transformers, by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.running import command, environment, write_config
from tests.running import limbeck as run

import limbeck
from limbeck import models
from limbeck.errors import DependencyError, ModelError
from limbeck.taps import layout

KIND: dict[str, Any] = {"classes": 10, "channels": 1, "size": (8, 8)}
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 2,
}
VISION = Path(sys.prefix) / "vision"
timm = pytest.mark.skipif(not VISION.is_dir(), reason=f"timm is not in {VISION}: make test puts it there")


def test_a_transformer_is_made_for_the_data() -> None:
    net = models.build("transformers:vit", **KIND, **VIT)
    images = torch.randn(3, 1, 8, 8)
    assert net(images).shape == (3, 10)
    found = layout(net, images)
    assert found.stages == tuple(f"network.vit.layers.{i}" for i in range(4))
    assert [found.shape(stage) for stage in found.stages] == [(17, 16)] * 4
    assert (found.embedding, found.classifier) == ((16,), "network.classifier")


STEPS = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}


@pytest.mark.parametrize(
    ("name", "options", "stages"),
    [
        ("resnet", STEPS, {"resnet.embedder.embedder": (8, 16, 16), "resnet.encoder.stages.0": (8, 8, 8)}),
        (
            "convnext",
            {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "patch_size": 2},
            {"convnext.encoder.stages.0": (8, 16, 16), "convnext.encoder.stages.1": (16, 8, 8)},
        ),
        (
            "swin",
            {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 2},
            {"swin.encoder.layers.0": (64, 16), "swin.encoder.layers.1": (64, 16)},
        ),
    ],
)
def test_stages_are_blocks_and_not_what_is_inside_the_next(
    name: str, options: dict[str, Any], stages: dict[str, tuple[int, ...]]
) -> None:
    net = models.build(f"transformers:{name}", classes=10, channels=1, size=(32, 32), **options)
    found = layout(net, torch.randn(2, 1, 32, 32))
    ours = {stage.removeprefix("network."): found.shape(stage) for stage in found.stages}
    assert dict(list(ours.items())[:2]) == stages


def test_same_seed_same_weights() -> None:
    def weights() -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        return models.build("transformers:vit", **KIND, **VIT).state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pretrained_weights_of_a_folder(tmp_path: Path) -> None:
    trained = models.build("transformers:vit", **KIND, **VIT)
    trained.network.save_pretrained(tmp_path / "vit")  # type: ignore[operator, union-attr]
    name = f"transformers:{tmp_path}/vit"
    same = models.build(name, **KIND, pretrained=True)
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(same.eval()(images), trained.eval()(images))
    fresh = models.build(name, **KIND)
    assert not torch.equal(fresh.eval()(images), trained(images))
    fewer = models.build(name, classes=3, channels=1, size=(8, 8), pretrained=True)
    body = [k for k in trained.state_dict() if "classifier" not in k]
    assert len(body) > 40
    assert all(torch.equal(fewer.state_dict()[k], trained.state_dict()[k]) for k in body)
    assert fewer.eval()(images).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transformers:vitt", {}, r"no image classifier 'vitt'; expected 'vit'"),
        ("transformers:vit", {"hidden": 3}, r"no option 'hidden'"),
        ("transformers:vit", {"pretrained": True}, r"no pretrained weights"),
        ("transformers:vit", {"hidden_size": "wide"}, r"transformers:vit cannot be made"),
        ("transformers:nobody/nothing", {}, r"transformers:nobody/nothing cannot be made; got OSError"),
        ("transformers:nobody/nothing", {"pretrained": True}, r"network connection"),
    ],
)
def test_what_cannot_be_made_is_told(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.build(name, **KIND, **options)


@pytest.mark.parametrize("name", ["timm:resnet18", "transformers:vit"])
def test_a_missing_package_comes_with_the_line_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name.partition(":")[0], None)
    with pytest.raises(DependencyError, match=r"need.*pip install 'limbeck\[vision\]'"):
        models.build(name, **KIND)


def test_a_package_that_does_not_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(DependencyError, match=r"timm is installed but does not import.*nms.*fit torch 2"):
        models.build("timm:resnet18", **KIND)


@pytest.mark.slow
def test_a_transformer_is_trained_scored_and_exported(tmp_path: Path) -> None:
    student = {"name": "transformers:vit", "options": VIT}
    config = write_config(tmp_path / "c.yaml", student=student, output=str(tmp_path / "run"))
    assert run("train", config).returncode == 0
    assert run("evaluate", tmp_path / "run").returncode == 0
    done = run("export", tmp_path / "run", "--onnx")
    assert done.returncode == 0, done.stderr
    assert "student.onnx" in done.stdout
    net = limbeck.Run(tmp_path / "run").student()
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


COMPLETED = """
import torch
try:
    import torchvision
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
"""Lets torchvision import beside a torch that its compiled half was not built for.

Its Python half asks at import for two operators of object detection, which PyPI's build (for CUDA) cannot give
beside a CPU torch. Declared without an implementation they let everything else of torchvision, and so timm, run
as it is.
"""


@pytest.fixture
def vision(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Processes that have timm, and torchvision without its compiled half."""
    place = environment()
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(COMPLETED)
    place["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "start"), place["PYTHONPATH"], str(VISION)])

    def start(*words: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", code] if code else command(*words)
        return subprocess.run(line, env=place, capture_output=True, text=True, timeout=300, check=False)

    return start


LOOK = """
import json, torch
from limbeck import models
from limbeck.errors import ModelError
from limbeck.taps import layout
seen = {}
for name, options in (("timm:resnet18", {}), ("timm:vit_tiny_patch16_224", {"patch_size": 8})):
    net = models.build(name, classes=7, channels=1, size=(32, 32), **options)
    found = layout(net, torch.zeros(2, 1, 32, 32))
    inplace = any(getattr(m, "inplace", False) for m in net.modules())
    seen[name] = [found.stages, [found.shape(s) for s in found.stages], found.classifier, found.embedding, inplace]
for name, options in (("timm:resnet19", {}), ("timm:resnet18", {"deep": 1}), ("timm:resnet18", {"pretrained": True})):
    try:
        models.build(name, classes=7, channels=1, size=(32, 32), **options)
    except ModelError as error:
        seen[name + str(options)] = str(error)
print(json.dumps(seen))
"""


@timm
@pytest.mark.slow
def test_networks_of_timm(vision: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = vision(code=LOOK)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    stages, shapes, classifier, embedding, inplace = seen["timm:resnet18"]
    assert stages == ["act1", "layer1", "layer2", "layer3"]
    assert shapes == [[64, 16, 16], [64, 8, 8], [128, 4, 4], [256, 2, 2]]
    assert (classifier, embedding, inplace) == ("fc", [512], False)
    stages, shapes, *_ = seen["timm:vit_tiny_patch16_224"]
    assert stages == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]
    assert shapes == [[17, 192]] * 4
    assert "timm has no network 'resnet19'; expected 'resnet1" in seen["timm:resnet19{}"]
    assert "cannot be made; got TypeError" in seen["timm:resnet18{'deep': 1}"]
    assert "network connection" in seen["timm:resnet18{'pretrained': True}"]


PRETEND = """
import sys, timm, torch
torch.manual_seed(0)
torch.save(timm.create_model("resnet10t", num_classes=10, in_chans=1).state_dict(), sys.argv[1])
"""


@timm
@pytest.mark.slow
def test_a_pretrained_network_of_timm_teaches_and_a_student_of_timm_is_scored_and_exported(
    tmp_path: Path, vision: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    weights = tmp_path / "resnet10t.pth"
    assert vision(code=PRETEND.replace("sys.argv[1]", repr(str(weights)))).returncode == 0
    overlay = {"file": str(weights), "mean": [0.5], "std": [0.25], "num_classes": 10, "input_size": [1, 8, 8]}
    options = {"pretrained": True, "pretrained_cfg_overlay": overlay}
    teacher = {"model": {"name": "timm:resnet10t", "options": options}}
    config = write_config(
        tmp_path / "c.yaml",
        student={"name": "timm:test_resnet", "options": {}},
        teacher=teacher,
        methods=["kd"],
        output=str(tmp_path / "run"),
    )
    refused = vision("distill", config)
    assert refused.returncode == 2
    assert "trained with mean 0.500 std 0.250" in refused.stderr
    done = vision("distill", config, "teacher.renormalise=true", "train.guards=warn")
    assert done.returncode == 0, done.stderr
    done = vision("evaluate", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout
    done = vision("export", tmp_path / "run", "--onnx")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "export" / "student.onnx").is_file()
