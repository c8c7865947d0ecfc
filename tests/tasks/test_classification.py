"""Classification: what the task makes of a network's output and of labels."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import ModelError
from limbeck.signals import Batch, Signals
from limbeck.tasks import Classification

TASK = Classification(classes=3)


def batch(labels: list[int], **more: Any) -> Batch:
    rows = torch.tensor(labels)
    return Batch(torch.randn(len(labels), 4), rows, torch.arange(len(labels)), **more)


def test_logits_bare_or_as_an_attribute() -> None:
    logits = torch.randn(2, 3)
    assert TASK.signals(logits).logits is logits
    assert TASK.signals(SimpleNamespace(logits=logits)).logits is logits


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (torch.zeros(2, 3, 4), r"\(2, 3, 4\)"),
        (torch.zeros(3), r"\(3,\)"),
        ((torch.zeros(2, 3),), "tuple"),
        ({"logits": torch.zeros(2, 3)}, "dict"),
        (None, "NoneType"),
    ],
    ids=["maps", "vector", "tuple", "dict", "nothing"],
)
def test_outputs_that_are_no_class_scores(output: object, got: str) -> None:
    with pytest.raises(ModelError, match=f"does not return class scores; got {got}"):
        TASK.signals(output)


@pytest.mark.parametrize("fault", [RuntimeError, TypeError, ValueError])
def test_a_network_that_cannot_take_the_inputs_is_named(fault: type[Exception]) -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise fault("not like this")

    with pytest.raises(ModelError, match=rf"Picky fails on inputs of shape \(2, 4\).*{fault.__name__}: not"):
        TASK.call(Picky(), batch([0, 1]))


def test_lack_of_memory_is_not_the_networks_fault() -> None:
    class Huge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("too much")

    with pytest.raises(torch.OutOfMemoryError):
        TASK.call(Huge(), batch([0]))


def test_loss_is_the_mean_over_labelled_rows() -> None:
    logits = torch.randn(4, 3)
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([1, 2]))
    torch.testing.assert_close(TASK.loss(Signals(logits), batch([1, -100, 2, -100])), expected)


def test_nothing_labelled_is_a_zero_with_a_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = TASK.loss(Signals(logits), batch([-100, -100]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = (torch.randn(8, 3) * 50).to(dtype)
    labels = batch([0, 1, 2, 0, 1, 2, 0, 1])
    assert TASK.loss(Signals(logits), labels).dtype == torch.float32
    torch.testing.assert_close(TASK.loss(Signals(logits), labels), TASK.loss(Signals(logits.float()), labels))


def test_double_precision_stays() -> None:
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: TASK.loss(Signals(x), batch([0, 2])), logits)


@given(mixing=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_mixed_labels_share_the_loss(mixing: list[float]) -> None:
    logits, shares = torch.randn(3, 3), torch.tensor(mixing)
    first, second = [0, 1, 2], [2, 2, 0]
    mixed = batch(first, mixed_labels=torch.tensor(second), mixing=shares)
    soft = shares[:, None] * F.one_hot(torch.tensor(first), 3)
    soft = soft + (1 - shares[:, None]) * F.one_hot(torch.tensor(second), 3)
    torch.testing.assert_close(TASK.loss(Signals(logits), mixed), F.cross_entropy(logits, soft))


def test_rows_are_the_batch_itself_and_metrics_are_the_evaluations() -> None:
    one = batch([0, 1])
    assert TASK.rows(one) is one
    logits = torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    found = TASK.metrics(logits, one.labels, logits)
    assert (found["accuracy"], found["agreement"]) == (0.5, 1.0)
    assert TASK.metric in found
    assert copy.deepcopy(TASK).classes == 3
