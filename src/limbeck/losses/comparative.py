"""Comparative knowledge distillation: match differences between samples."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from ..errors import ConfigError
from ..shapes import Logits, Value
from ._common import choice, divergence, known, nothing, pair, positive, soft, wants_gradient

Form = Literal["mse", "kl"]
Draws = int | Literal["all"]


def comparative_kd(
    student: Logits,
    teacher: Logits,
    *,
    group_size: int = 2,
    form: Form = "mse",
    temperature: float = 4.0,
    draws: Draws = 1,
    share: float | None = None,
) -> Value:
    r"""Distance of the student's differences between groups of samples to the teacher's.

    A tuple of k samples is :math:`a = k - \lfloor k/2 \rfloor` positive ones followed by
    :math:`b = \lfloor k/2 \rfloor` negative ones. With :math:`\Delta = \bar z_{pos} - \bar z_{neg}`, the
    difference of the two groups' mean logits,

    ======= ==============================================================================================
    ``mse`` :math:`\frac1{MC} \sum_m |\Delta^s_m - \Delta^t_m|^2` over M tuples (the released code)
    ``kl``  :math:`\frac{T^2}{M} \sum_m KL(softmax(\Delta^t_m / T) \,|\, softmax(\Delta^s_m / T))` (first
            version of the paper)
    ======= ==============================================================================================

    Only differences count: a constant vector added to all of the student's logits changes nothing.

    With ``draws="all"`` the squared error is the mean over *all* tuples of k distinct rows. It needs none of
    them: for :math:`d = z^s - z^t` it is :math:`(\frac1a + \frac1b)` times the unbiased variance of d over
    the rows, averaged over classes, in O(NC). So k only changes its scale; for pairs the factor is 2.

    Args:
        student: logits ``(N, C)``, in an order that says nothing of the samples.
        teacher: logits ``(N, C)``, never differentiated.
        group_size: samples in a tuple, k, at least 2.
        form: the distance.
        temperature: divides the differences, above 0; of ``kl`` only.
        draws: 1 takes k rows after another as a tuple, up to k - 1 last rows are left over. D draws regroup the
            :math:`n = \lfloor N/k \rfloor` tuples D times, at most n: tuple m takes its j-th row from tuple
            :math:`m + jd` modulo n. Each row is in one tuple of a draw and no tuple comes twice. ``all``
            (only ``mse``): every tuple.
        share: mix by :math:`\lambda \bar z_{pos} + (1 - \lambda) \bar z_{neg}` instead of the difference, for
            the paper's ablation.

    Returns:
        A scalar; 0 with fewer than k rows.

    Raises:
        ShapeError: the shapes differ.
        ConfigError: an option is not valid.

    Source:
        Wilf et al., WACV 2025, arXiv:2311.02253; transcribed from the losses of alextxu/ckd, which gives both
        groups to the student in two forward passes.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> comparative_kd(student, teacher), comparative_kd(student + 7, teacher, draws="all")
        (tensor(1.), tensor(1.))
    """
    positive(temperature=temperature)
    choice("form", form, ("mse", "kl"))
    if draws == "all" and (form != "mse" or share is not None):
        raise ConfigError(
            "draws='all' has a closed form only for squared differences",
            got=f"form={form!r}, share={share}",
            fix="give a number of draws",
        )
    if draws != "all" and draws < 1:
        raise ConfigError("draws is not valid", got=draws, expected="a number of at least 1, or 'all'")
    if group_size < 2:
        raise ConfigError("group_size is not valid", got=group_size, expected="a number of at least 2")
    s, t = pair(student, teacher)
    n, negative = s.shape[0] // group_size, group_size // 2
    if not n or not s.numel():
        return nothing(student)
    if draws == "all":
        return _all(student, s - t, 1 / (group_size - negative) + 1 / negative)
    rows = student if student.dtype == s.dtype else student.to(s.dtype)
    if n * group_size < s.shape[0]:
        rows, t = rows[: n * group_size], t[: n * group_size]
    values = []
    for shift in range(min(draws, n)):
        if form == "mse":
            values.append(mse_loss(*_groups(rows - t, group_size, shift, share)))
        else:
            mixed, others = (torch.sub(*_groups(x, group_size, shift, share)) for x in (rows, t))
            values.append(_divergence(mixed, others, temperature))
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def _divergence(mixed: Tensor, others: Tensor, temperature: float) -> Tensor:
    """``kd`` of mixtures, without its checks."""
    log_s, log_t = soft(mixed.detach(), temperature), soft(others, temperature)
    terms, slope = divergence(log_s, log_t, precise=temperature > 4)
    value = terms.sum() * (temperature * temperature / len(terms))
    return known(mixed, value, slope if wants_gradient(mixed) else None, temperature / len(terms))


def _groups(x: Tensor, size: int, shift: int, share: float | None) -> tuple[Tensor, Tensor]:
    """Means of each tuple's two groups, so that their difference is the tuple's mixture.

    The j-th row of a tuple comes from j shifts further on.
    """
    columns = x.view(-1, size, x.shape[1]).unbind(1)
    if shift:
        columns = tuple(column.roll(-j * shift, 0) for j, column in enumerate(columns))
    if size > 2:
        border = size - size // 2
        columns = tuple(torch.stack(part).mean(0) for part in (columns[:border], columns[border:]))
    first, second = columns
    return (first, second) if share is None else (first * share, second * (share - 1))


def _all(student: Tensor, difference: Tensor, factor: float) -> Tensor:
    """``factor`` times the unbiased variance over the rows, averaged over classes."""
    difference -= difference.mean(0)
    scale = factor / (difference.shape[0] - 1) / difference.shape[1]
    value = difference.square().sum() * scale
    return known(student, value, difference if wants_gradient(student) else None, 2 * scale)
