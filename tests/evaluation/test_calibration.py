"""Bins, and confidences exactly on their edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.evaluation import classification_arrays
from limbeck.evaluation.calibration import Reliability


@given(st.integers(1, 15))
def test_an_edge_belongs_to_the_bin_below(k: int) -> None:
    for confidence in (k / 15, k * (1 / 15), k / 15 + 1e-15, k / 15 - 1e-15):
        bins = Reliability()
        bins.add(torch.tensor([confidence], dtype=torch.float64), torch.tensor([True]))
        assert int(bins.count.argmax()) == k - 1
    above = Reliability()
    above.add(torch.tensor([k / 15 + 1e-6], dtype=torch.float64), torch.tensor([True]))
    assert int(above.count.argmax()) == min(k, 14)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_counts_every_confidence_once(values: list[tuple[float, bool]]) -> None:
    bins = Reliability()
    for confidence, correct in values:
        bins.add(torch.tensor([confidence]), torch.tensor([correct]))
    at_once = Reliability()
    at_once.add(torch.tensor([c for c, _ in values]), torch.tensor([r for _, r in values]))
    assert bins.count.tolist() == at_once.count.tolist()
    assert int(bins.count.sum()) == len(values)
    assert bins.error() == pytest.approx(at_once.error())


@pytest.mark.parametrize("classes", [3, 5, 15])
def test_a_uniform_network_fills_one_bin(classes: int) -> None:
    """1/3, 1/5 and 1/15 are edges: rounding of the softmax must not scatter them over two bins."""
    shifts = torch.linspace(-50, 50, 200)[:, None]
    count = classification_arrays(shifts.expand(-1, classes), torch.zeros(200, dtype=torch.int64))
    assert (count["reliability_count"] > 0).sum() == 1
    assert count["reliability_count"][15 // classes - 1] == 200
