"""Curriculum temperature: KD whose temperature is learned against the student."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Logits, Value
from ._common import known_of_all, nothing, pair, wants_gradient


def ctkd(student: Logits, teacher: Logits, temperature: Tensor) -> Value:
    r"""KD with a gradient for the temperature too.

    With :math:`p = \mathrm{softmax}(z / T)`,

    .. math:: \frac{T^2}{N} \sum_i \sum_k p^t_{ik} (\log p^t_{ik} - \log p^s_{ik}).

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        temperature: one number above 0, as a tensor; differentiated if it requires it.

    Returns:
        A scalar, mean over rows.

    Raises:
        ShapeError: the shapes differ, or the temperature is not one number.

    Source:
        Li et al. 2023, arXiv:2211.16231; checked against zhengli97/CTKD.

    Deviation:
        At high temperatures the derivative for T is a tiny difference of large terms, of which autograd in
        float32 leaves one or two digits. Here the large terms are taken away on paper: with
        :math:`r = \log p^t - \log p^s`, :math:`w = p^t (e^{-r} - 1 + r)`, :math:`K = \sum w` and
        :math:`b = \log p^s`, a row's derivative is
        :math:`T \big(2 K - \sum p^t r^2 + K^2 - \sum w b + K \sum p^t b\big)`.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> temperature = torch.tensor(4.0, requires_grad=True)
        >>> loss = ctkd(student, teacher, temperature)
        >>> loss.backward()
        >>> loss, temperature.grad
        (tensor(0.8337, grad_fn=<_KnownOfAllBackward>), tensor(-0.0097))
    """
    if temperature.numel() != 1:
        raise ShapeError("the temperature is not one number", got=tuple(temperature.shape), expected="()")
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student)
    heat = temperature.detach().reshape(()).to(s.dtype)
    log_s, log_t = torch.log_softmax(s / heat, 1), torch.log_softmax(t / heat, 1)
    d = log_s - log_t
    # p^s - p^t from expm1 of the smaller exponent: precise where both are close, finite where they are not.
    larger = torch.maximum(log_s, log_t).exp_()
    difference = d.abs().neg_().expm1_().mul_(larger).copysign_(d)
    del larger
    p = log_t.exp_()
    w = torch.addcmul(difference, p, d, value=-1)
    rows = w.sum(1)
    value = rows.mean() * heat.square()
    learning, gradients = [], []
    if wants_gradient(temperature):
        b = log_s.add_(math.log(s.shape[1]))  # any constant would do; this one makes b small at a high T
        squares = d.square_().mul_(p).sum()
        rest = p.mul_(b).sum(1).add_(rows).mul_(rows).sum()
        slope = b.neg_().add_(2).mul_(w).sum().sub_(squares).add_(rest)
        learning.append(temperature)
        gradients.append(slope.reshape(temperature.shape))
    if wants_gradient(student):
        learning.append(student)
        gradients.append(difference)
    return known_of_all(learning, value, gradients, heat / len(s))


def learned_temperature(
    parameter: Tensor, *, start: float = 1.0, span: float = 20.0, reverse: float = -1.0
) -> Tensor:
    r"""The temperature that a free parameter stands for, with its gradient turned round.

    .. math:: T = T_{start} + T_{span}\, \mathrm{sigmoid}(g), \qquad
              \frac{\partial L}{\partial g} := \lambda\, \frac{\partial L}{\partial T} \frac{\partial T}{\partial g}

    Args:
        parameter: g, any shape.
        start: lowest temperature.
        span: how far it can rise (the authors' ``t_end``; the highest temperature is start + span).
        reverse: lambda, the factor on the gradient: -1 makes an optimiser that lowers the loss raise it in g.

    Returns:
        The temperature in the parameter's shape.

    Source:
        Li et al. 2023, arXiv:2211.16231; checked against zhengli97/CTKD, whose reversal layer multiplies by a
        negative lambda.

    Example:
        >>> g = torch.tensor(0.0, requires_grad=True)
        >>> temperature = learned_temperature(g, reverse=-0.5)
        >>> temperature.backward()
        >>> temperature.item(), g.grad.item()
        (11.0, -2.5)
    """
    # Between a number and itself: its value is the number, its slope the weight.
    return start + span * torch.sigmoid(torch.lerp(parameter.detach(), parameter, reverse))
