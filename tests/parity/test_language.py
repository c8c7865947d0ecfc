"""Losses on tokens against what published implementations compute, one case for each stored record."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.adapters import LANGUAGE, UNSUPPORTED
from tests.parity.on_tokens import without
from torch import Tensor

GOLDENS = Path(os.environ.get("LIMBECK_GOLDENS", Path(__file__).parent / "goldens"))
RECORDS: list[dict[str, Any]] = json.loads((GOLDENS / "language.json").read_text())["cases"]


def reason(record: dict[str, Any]) -> str | None:
    """Why a record is not run, or None."""
    if record["method"] in LANGUAGE:
        return without(record["method"], record["hyper"])
    return UNSUPPORTED.get(record["method"], "NO REASON GIVEN")


CASES = [record for record in RECORDS if reason(record) is None]
LOGGED = {
    "verl.forward_kl_topk": {
        "out_student_mass",
        "out_teacher_mass",
        "out_overlap_count",
        "out_overlap_token_advantage",
    },
    "dskd_v1.dual_space": {"log_t2s_acc", "log_s2t_acc"},
    "mined.aligned_kl": {"aligned_teacher_logits"},
    "dskd_v1.cma": {"log_t2s_acc", "log_max_t2s_prob", "log_s2t_acc"},
    "dskd_v2.dual_space": {"log_t2s_agreement", "log_s2t_agreement", "log_t2s_acc", "log_t_acc"},
    "dskd_v2.eta": {
        "log_align_ratio",
        "log_t2s_agreement",
        "log_t2s_agreement_ratio",
        "log_t2s_acc",
        "log_t2s_acc_ratio",
        "log_t_preds_as_label_acc",
    },
    "dskd_v2.projector_init": {"student_overlap_token_ids"},
}
"""method -> outputs that a run of theirs logs beside the loss."""


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDENS / "language.npz") as file:
        yield file


def tensors(arrays: Any, keys: dict[str, str]) -> dict[str, Tensor]:
    found = {name: torch.from_numpy(np.array(arrays[key])) for name, key in keys.items()}
    return {name: x.double() if x.is_floating_point() else x for name, x in found.items()}


def differentiated(name: str) -> tuple[str, str, bool]:
    """Output and input of the gradient called ``name``, and whether it is the first sequence's only."""
    if output := re.fullmatch(r"grad_(out\d+)_sum", name):
        return output[1], "student_logits", False
    return "loss", name.removeprefix("grad_").removesuffix("_row0"), name.endswith("_row0")


def largest_logit(inputs: dict[str, Tensor]) -> float:
    """How large the finite logits of either network are."""
    both = []
    for net in ("student", "teacher"):
        logits = inputs.get(f"{net}_logits", inputs.get("candidate_logits"))
        if logits is None and f"{net}_hidden" in inputs:
            head = inputs.get(f"{net}_weight", inputs.get(f"{net}_head"))
            logits = inputs[f"{net}_hidden"] @ head.T
        both += [] if logits is None else [logits]
    return max((float(x[x.isfinite()].abs().max()) for x in both), default=1.0)


@pytest.mark.parametrize("record", CASES, ids=lambda record: f"{record['id']}-{record['method']}")
def test_equals_the_reference(arrays, record):
    inputs, expected = tensors(arrays, record["inputs"]), tensors(arrays, record["outputs"])
    gradients = {name: differentiated(name) for name in expected if name.startswith("grad_")}
    for _, leaf, _ in gradients.values():
        inputs[leaf].requires_grad_()
    outputs = LANGUAGE[record["method"]](inputs, {}, record["hyper"])
    assert expected.keys() - gradients.keys() - outputs.keys() <= LOGGED.get(record["method"], set())

    # Where a logit is L, a reference in float32 has its logarithms to L / 10^7 at the best: 1e-5 is for L of a few.
    exact = record["dtype"] == "float64"
    slack = 1e-5 if exact else 1e-5 * max(1.0, largest_logit({k: x.detach() for k, x in inputs.items()}) / 10)
    for name, wanted in expected.items():
        if name in gradients:
            output, leaf, first = gradients[name]
            (got,) = torch.autograd.grad(outputs[output].sum(), inputs[leaf], retain_graph=True)
            got = got[0] if first else got[: len(wanted)]
            allowed = torch.full_like(wanted, slack)
        elif name in outputs:
            got = outputs[name].detach()
            allowed = wanted.abs() * 1e-6 + 1e-12 if exact else wanted.abs().clamp(min=1) * 1e-5
        else:
            continue
        assert got.shape == wanted.shape
        assert got.isfinite().all(), name
        if not wanted.is_floating_point():
            assert torch.equal(got, wanted), name
            continue
        compared = wanted.isfinite()
        worst = ((got - wanted).abs() / allowed)[compared]
        assert (worst <= 1).all(), f"{name}: {float(worst.max()):.3g} times what is allowed"


def test_count(capsys):
    """Print what ran and what did not, with the reason."""
    rest = Counter((record["method"], reason(record)) for record in RECORDS if record not in CASES)
    with capsys.disabled():
        print(f"\nlanguage goldens: {len(CASES)} of {len(RECORDS)} cases have an adapter")
        for (method, why), count in sorted(rest.items()):
            print(f"  {count:3} {method}: {why}")
    assert CASES
