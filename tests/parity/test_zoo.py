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

GOLDENS = Path(os.environ.get("LIMBECK_GOLDENS", Path(__file__).parent / "goldens"))
RECORDS: dict[str, dict[str, Any]] = json.loads((GOLDENS / "zoo.json").read_text())
NAMES = [name for name in RECORDS if name in models.MODELS]
FAMILY = [name for name in models.MODELS if name.startswith("resnet")]


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
    assert set(FAMILY) <= set(RECORDS)
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


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4"])
def test_feature_shapes_at_the_usual_taps(name: str) -> None:
    net = build(name)
    shapes = {}
    for tap in ("relu", "layer1", "layer2", "layer3", "avgpool"):
        net.get_submodule(tap).register_forward_hook(
            lambda _, __, out, tap=tap: shapes.__setitem__(
                tap, list(out.flatten(1).shape if tap == "avgpool" else out.shape)[1:]
            )
        )
    net(torch.zeros(1, 3, 32, 32))
    assert list(shapes.values()) == RECORDS[name]["feature_shapes"]
