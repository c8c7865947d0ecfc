"""The networks of the literature are the published ones: parameters, multiply-adds, names, shapes, logits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from limbeck import models
from limbeck.taps import EMBEDDING, Taps, layout

GOLDENS = Path(os.environ.get("LIMBECK_GOLDENS", Path(__file__).parent / "goldens"))
RECORDS: dict[str, dict[str, Any]] = json.loads((GOLDENS / "zoo.json").read_text())
NAMES = [name for name in RECORDS if name in models.MODELS]
OWN = {"cnn", "mlp", "ResNet18", "ResNet34", "PreActResNet18"}


def build(name: str) -> torch.nn.Module:
    return models.build(name, classes=100, channels=3, size=(32, 32)).eval()


def fill(net: torch.nn.Module) -> None:
    random = np.random.RandomState(4242)
    state = net.state_dict()
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        a = random.standard_normal(tuple(tensor.shape))
        if name.endswith("running_var"):
            a = 0.5 + np.abs(a)
        elif a.ndim == 1:
            a = 1 + 0.1 * a if name.endswith("weight") else 0.1 * a
        else:
            a = a * np.sqrt(2 / np.prod(a.shape[1:]))
        state[name] = torch.from_numpy(a.astype(np.float32))
    net.load_state_dict(state)


def test_the_whole_family_has_goldens() -> None:
    assert set(models.MODELS) - OWN <= set(RECORDS)
    print(f"compared: {len(NAMES)}; not offered: {sorted(set(RECORDS) - set(NAMES))}")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_names_and_shapes(name: str) -> None:
    net, record = build(name), RECORDS[name]
    assert sum(p.numel() for p in net.parameters()) == record["parameters"]
    ours = [[key, list(tensor.shape)] for key, tensor in net.state_dict().items()]
    assert ours == record["state_dict"]


@pytest.mark.parametrize("name", NAMES)
def test_multiply_adds(name: str) -> None:
    with torch.device("meta"):
        net = build(name)
        image = torch.zeros(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        net(image)
    assert counter.get_total_flops() == 2 * RECORDS[name]["macs"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_on_fixed_weights(name: str) -> None:
    goldens = np.load(GOLDENS / "zoo.npz")
    net = build(name)
    fill(net)
    with torch.no_grad():
        logits = net.double()(torch.from_numpy(goldens["zoo|in|x"]).double())
    expected = torch.from_numpy(goldens[f"zoo.{name}|out|logits"])
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_feature_shapes_at_the_published_taps(name: str) -> None:
    found = layout(build(name), torch.zeros(1, 3, 32, 32))
    taps = [found.stem or "", *found.stages]
    assert [list(found.shape(tap)) for tap in [*taps, EMBEDDING]] == RECORDS[name]["feature_shapes"]
    differs = [False, *(a != b for a, b in zip(found.stages, found.preacts, strict=True)), False]
    assert differs == RECORDS[name]["preact_differs"]


@pytest.mark.parametrize("name", ["resnet20", "vgg13", "ResNet50", "ShuffleV1", "ShuffleV2", "ResNet18"])
def test_what_the_last_activation_of_a_stage_reads(name: str) -> None:
    net = build(name)
    images = torch.randn(2, 3, 32, 32)
    found = layout(net, images)
    with torch.no_grad(), Taps([*found.stages, *found.preacts]).record(net) as seen:
        net(images)
    for stage, preact in zip(found.stages, found.preacts, strict=True):
        rectified = seen[preact].relu()
        if name == "ShuffleV2":
            rectified = rectified.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        assert torch.equal(rectified, seen[stage])
        assert bool((seen[preact] < 0).any())


@pytest.mark.parametrize("name", ["wrn_16_2", "PreActResNet18"])
def test_pre_activated_networks_are_tapped_behind_the_next_normalisation(name: str) -> None:
    net = build(name)
    images = torch.randn(2, 3, 32, 32)
    found = layout(net, images)
    with torch.no_grad(), Taps([*found.stages, *found.preacts]).record(net) as seen:
        net(images)
    for stage, preact in zip(found.stages, found.preacts, strict=True):
        torch.testing.assert_close(net.get_submodule(preact)(seen[stage]), seen[preact])
