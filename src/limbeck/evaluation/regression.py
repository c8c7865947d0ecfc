"""Numbers of a regression: agreement of predictions with targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..losses.ccc import coefficients


def regression_metrics(
    predictions: Tensor, targets: Tensor, teacher: Tensor | None = None, names: Sequence[str] = ()
) -> dict[str, float]:
    """CCC, Pearson correlation and RMSE over whole columns, mean over outputs; each output's CCC too.

    Args:
        predictions: ``(N, D)``.
        targets: ``(N, D)``; rows with NaN are left out.
        teacher: the teacher's predictions, for ``agreement``, the mean CCC with them.
        names: of the outputs.

    Example:
        >>> y = torch.tensor([[0.0], [1.0], [2.0]])
        >>> {name: round(value, 3) for name, value in regression_metrics(y, y, names=("age",)).items()}
        {'ccc': 1.0, 'pearson': 1.0, 'rmse': 0.0, 'ccc_age': 1.0}
    """
    known = ~torch.isnan(targets).any(1)
    x, y = predictions[known].double(), targets[known].double()
    each = coefficients(x, y)
    a, b = x - x.mean(0), y - y.mean(0)
    pearson = (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt().clamp(min=1e-12)
    found = {
        "ccc": float(each.mean()),
        "pearson": float(pearson.mean()),
        "rmse": float((x - y).square().mean(0).sqrt().mean()),
    }
    labels = list(names) or [str(i) for i in range(x.shape[1])]
    found |= {f"ccc_{name}": float(value) for name, value in zip(labels, each, strict=True)}
    if teacher is not None:
        found["agreement"] = float(coefficients(predictions.double(), teacher.double()).mean())
    return found


__all__ = ["regression_metrics"]
