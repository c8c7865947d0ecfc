"""Each mistake ends in one clear message."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import DataError, LimbeckError, ShapeError
from limbeck.evaluation import classification_arrays, classification_metrics

ids = torch.tensor([0, 1])
good = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
CASES = [
    (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), None, DataError, "nothing to evaluate"),
    (good, torch.tensor([-100, -100]), None, DataError, "nothing to evaluate"),
    (good, torch.tensor([0, 2]), None, DataError, "got 2; expected 0 to 1"),
    (good, torch.tensor([0, -1]), None, DataError, "got -1; expected 0 to 1"),
    (good * math.nan, ids, None, DataError, "logits contain NaN or infinity; got 2 such rows"),
    (torch.tensor([[math.inf, 0.0], [1.0, 0.0]]), ids, None, DataError, "got 1 such rows"),
    (good, ids, good * math.nan, DataError, "teacher logits contain NaN"),
    (good, ids, torch.zeros(2, 3), ShapeError, r"teacher logits .* got \(2, 3\); expected \(2, 2\)"),
    (good, ids, torch.zeros(3, 2), ShapeError, "teacher logits do not match"),
    (good, torch.tensor([0]), None, ShapeError, r"labels do not match .* got \(1,\); expected \(2,\)"),
    (good, ids[:, None], None, ShapeError, "labels do not match"),
    (good, ids.float(), None, ShapeError, "labels are not class ids"),
    (good[0], ids, None, ShapeError, r"\(n, K\) with K >= 2"),
    (good[:, :1], ids, None, ShapeError, r"\(n, K\) with K >= 2"),
]


@pytest.mark.parametrize("function", [classification_metrics, classification_arrays])
@pytest.mark.parametrize(("logits", "labels", "teacher", "error", "message"), CASES)
def test_mistakes(
    function: object, logits: Tensor, labels: Tensor, teacher: Tensor | None, error: type, message: str
) -> None:
    assert issubclass(error, LimbeckError)
    with pytest.raises(error, match=message):
        inspect.unwrap(function)(logits, labels, teacher)  # type: ignore[arg-type]
