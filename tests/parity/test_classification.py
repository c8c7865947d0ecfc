"""Losses against what published implementations compute, one case for each stored record."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.adapters import CLASSIFICATION, UNSUPPORTED
from torch import Tensor

GOLDENS = Path(os.environ.get("LIMBECK_GOLDENS", Path(__file__).parent / "goldens"))
RECORDS: list[dict[str, Any]] = json.loads((GOLDENS / "classification.json").read_text())["records"]
CASES = [record for record in RECORDS if (record["method"], record["variant"]) in CLASSIFICATION]


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDENS / "classification.npz") as file:
        yield file


def tensors(arrays: Any, record: dict[str, Any], kind: str, dtype: torch.dtype) -> dict[str, Tensor]:
    start = f"{record['id']}|{kind}|"
    names = [key.removeprefix(start) for key in arrays.files if key.startswith(start)]
    found = {name: torch.from_numpy(np.array(arrays[start + name])) for name in names}
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in found.items()}


def run(
    arrays: Any, record: dict[str, Any], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, and gradients of those inputs and parameters that have a stored one."""
    inputs, params = (tensors(arrays, record, kind, dtype) for kind in ("in", "param"))
    named = inputs | {f"param.{name}": x for name, x in params.items()}
    leaves = {name: x.requires_grad_() for name, x in named.items() if name in record["grads"]}
    outputs = CLASSIFICATION[record["method"], record["variant"]](inputs, params, record["hyper_parameters"])
    found = torch.autograd.grad(outputs["loss"], list(leaves.values()), allow_unused=True) if leaves else ()
    zeros = (torch.zeros_like(x) if g is None else g for x, g in zip(leaves.values(), found, strict=True))
    return outputs, dict(zip(leaves, zeros, strict=True))


@pytest.mark.parametrize("record", CASES, ids=lambda record: record["id"])
def test_float64_equals_the_reference(arrays, record):
    outputs, gradients = run(arrays, record, torch.float64)
    for name, expected in tensors(arrays, record, "out", torch.float64).items():
        if record["finite_f64"] or expected.isfinite().all():
            torch.testing.assert_close(outputs[name].detach(), expected, rtol=1e-8, atol=1e-13)
        else:
            assert outputs[name].isfinite().all()
    stored = tensors(arrays, record, "grad", torch.float64)
    assert set(stored) == set(gradients)
    for name, expected in stored.items():
        assert gradients[name].isfinite().all()
        if record["finite_f64"] and record["grads"][name]["finite"]:
            assert (gradients[name] - expected).abs().max() <= 1e-6 * expected.abs().max() + 1e-15


@pytest.mark.parametrize("record", CASES, ids=lambda record: record["id"])
def test_float32_stays_near(arrays, record):
    outputs, gradients = run(arrays, record, torch.float32)
    expected = record["loss_f64"]
    assert outputs["loss"].isfinite()
    assert not math.isfinite(expected) or abs(float(outputs["loss"].detach()) - expected) <= 1e-6 * max(
        1, abs(expected)
    )
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_count(capsys):
    """Print what ran and what did not, with the reason."""
    rest = Counter((r["method"], r["variant"]) for r in RECORDS if r not in CASES)
    with capsys.disabled():
        print(f"\nclassification goldens: {len(CASES)} of {len(RECORDS)} cases have an adapter")
        for (method, variant), count in sorted(rest.items()):
            reason = UNSUPPORTED.get((method, variant), UNSUPPORTED.get(method, "NO REASON GIVEN"))
            print(f"  {count:3} {method}.{variant}: {reason}")
    assert CASES
