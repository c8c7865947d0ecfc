"""The Gram matrices of multi-level distillation, against transcriptions."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.losses.test_formulas import draw, same, shapes

from limbeck.errors import ShapeError
from limbeck.losses import low_confidence, mlkd_batch, mlkd_class


def gram(student, teacher, t, mask, transpose):
    p, q = torch.softmax(student / t, 1), torch.softmax(teacher / t, 1)
    if transpose:
        p, q = p.T, q.T
    difference = (q @ q.T - p @ p.T).square()
    return (mask[:, None] * difference).sum() / len(p)


@shapes
def test_batch_and_class(n, c, seed, t):
    student, teacher, _ = draw(n, c, seed)
    for loss, size, transpose in ((mlkd_batch, n, False), (mlkd_class, c, True)):
        whole = torch.ones(size, dtype=torch.float64)
        same(loss(student, teacher, temperature=t), gram(student, teacher, t, whole, transpose), student)
        some = torch.arange(size) % 2 == 0
        got = loss(student, teacher, temperature=t, mask=some)
        same(got, gram(student, teacher, t, some, transpose), student)


@given(st.integers(1, 9), st.integers(2, 9), st.integers(0, 100))
def test_low_confidence_is_up_to_the_median(n, c, seed):
    _, teacher, _ = draw(n, c, seed)
    p = torch.softmax(teacher, 1).numpy()
    samples, classes = low_confidence(teacher)
    assert samples.tolist() == (p.max(1) <= np.percentile(p.max(1), 50)).tolist()
    assert classes.tolist() == (p.sum(0) <= np.percentile(p.sum(0), 50)).tolist()


@pytest.mark.parametrize(("loss", "size"), [(mlkd_batch, 4), (mlkd_class, 3)])
def test_a_mask_of_another_size_is_named(loss, size):
    with pytest.raises(ShapeError, match=f"got \\(2,\\), expected \\({size},\\)|mask"):
        inspect.unwrap(loss)(torch.zeros(4, 3), torch.zeros(4, 3), mask=torch.ones(2))


def test_autocast_does_not_lower_the_products():
    student, teacher, _ = draw(6, 5, 0)
    student, teacher = student.detach().float(), teacher.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = mlkd_class(student, teacher)
    assert torch.equal(lowered, mlkd_class(student, teacher))
