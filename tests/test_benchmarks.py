"""The benchmarks of losses leave none out, and compare like with like."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import losses

HERE = Path(__file__).parent.parent / "benchmarks"
SMALL = {2: (12, 6), 4: (4, 6, 4, 4)}
"""Sizes for this test, by the number of dimensions."""
NO_LOSS = {"CrossAttended", "DualSpace", "Head", "cross_attention"} | {
    "projector_start",
    "sampled_targets",
    "top_k_targets",
}
"""Public names beside the losses."""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("losses")
    for name in [
        name for name, module in sys.modules.items() if str(HERE) in str(getattr(module, "__file__", ""))
    ]:
        del sys.modules[name]


def test_every_loss_has_a_pair(table: Any) -> None:
    assert set(losses.__all__) - NO_LOSS - {name.partition("/")[0] for name in table.PAIRS} == set()


def test_both_sides_of_every_pair_say_the_same(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = importlib.import_module("_embedding_pairs")
    for name, size in (("SAMPLES", 300), ("NEGATIVES", 12), ("QUEUE", 20)):
        monkeypatch.setattr(embeddings, name, size)
    for name, pair in table.PAIRS.items():
        size = SMALL.get(len(pair.sizes[0]), pair.sizes[0])
        try:
            table.check(name, pair, size)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_a_pair_is_measured(table: Any) -> None:
    time, memory = table.measured("kd", table.PAIRS["kd"], (8, 5), budget=0.1, pairs=3)
    assert (time.unit, memory.unit) == ("ms", "MiB")
    assert time.pairs == 3
    assert all(math.isfinite(figure.ratio) and figure.ratio > 0 for figure in (time, memory))


def test_a_wrong_transcription_is_found(table: Any) -> None:
    pair = table.PAIRS["kd"]
    wrong = type(pair)(pair.ours, lambda *x: 1.01 * pair.reference(*x), pair.inputs, pair.sizes)
    with pytest.raises(AssertionError):
        table.check("kd", wrong, (8, 5))


def test_memory_counts_what_is_held_at_once(table: Any) -> None:
    from_pairs = importlib.import_module("_pairs")
    assert from_pairs.peak_memory(lambda: torch.zeros(1000).add(1).sum()) >= 8000


def test_rows_measured_again_take_the_place_of_old_ones(table: Any) -> None:
    run = importlib.import_module("run")
    old, new = [{"name": "a", "ratio": 2}, {"name": "b", "ratio": 3}], [{"name": "a", "ratio": 1}]
    assert run.merged(old, new) == {"figures": [{"name": "a", "ratio": 1}, {"name": "b", "ratio": 3}]}
