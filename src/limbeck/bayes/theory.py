r"""What noisy class probabilities cost SGD, on data whose class probabilities are known.

A student learns by SGD of a constant step from targets q that are, on average, the true probabilities P. At its
optimum the gradient of one sample is :math:`-\sum_k q_k J_k / P_k` with
:math:`J_k = \partial \varphi_k / \partial \theta`; its mean square is the noise that keeps the
student from standing still:

==================== =========================================================== =====================
targets              noise :math:`\sigma`                                        beside one-hot labels
==================== =========================================================== =====================
exact P              0                                                           0
one-hot labels       :math:`\sigma_f = E \sum_k |J_k|^2 / P_k`                   1
P + noise of var. v  :math:`v\, E \sum_k |J_k|^2 / P_k^2`
Dirichlet(a P)       :math:`\sigma_f / (a + 1)`                                  1 / (a + 1)
==================== =========================================================== =====================

To the first order of a small step :math:`\alpha` the excess risk settles at :math:`\alpha \sigma / 4`.

Source: Morad, Shlezinger, Eldar, ICLR 2026, arXiv:2601.01484, proposition 3, from a secondary description;
derived anew and checked by simulation. The Dirichlet law, the optimal mixing and the floor are derived here, not the
paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT, ONE_HOT = math.inf, 0.0
"""Concentrations of a Dirichlet that gives the exact probabilities, and labels."""


class GaussianClasses:
    """Equal Gaussians around means drawn from {4, 5, 6}, standardised; a linear softmax reaches their posterior.

    Args:
        seed: of the means.
        classes, inputs: K and D.
        variance: of each input within a class, before they are standardised.

    Attributes:
        means: ``(K, D)``, standardised; ``variance``: within a class, standardised.

    Example:
        >>> data = GaussianClasses()
        >>> x, p, y = data.draw(4, torch.Generator().manual_seed(0))
        >>> torch.allclose((with_one(x) @ data.optimum()).softmax(1), p)
        True
    """

    def __init__(self, seed: int = 0, classes: int = 5, inputs: int = 30, variance: float = 2.5) -> None:
        draws = torch.Generator().manual_seed(seed)
        means = torch.randint(4, 7, (classes, inputs), generator=draws).double()
        scale = means.var(0, correction=0).mean().add(variance).sqrt()
        self.means, self.variance = (means - means.mean(0)) / scale, float(variance / scale**2)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs ``(n, D)``, their true class probabilities ``(n, K)``, and labels ``(n,)``."""
        y = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        x = self.means[y] + noise * math.sqrt(self.variance)
        return x, self.probabilities(x), y

    def probabilities(self, x: Tensor) -> Tensor:
        """``P(y|x)`` of inputs ``(n, D)``."""
        return (with_one(x) @ self.optimum()).softmax(1)

    def optimum(self) -> Tensor:
        """Weights ``(D + 1, K)`` of the linear softmax that is the posterior, the bias last."""
        bias = -self.means.square().sum(1) / 2
        return torch.cat([self.means.T, bias[None]]) / self.variance


def with_one(x: Tensor) -> Tensor:
    """Inputs with a 1 appended for the bias.

    Example:
        >>> with_one(torch.zeros(1, 2))
        tensor([[0., 0., 1.]])
    """
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def jacobian_squares(x: Tensor, p: Tensor) -> Tensor:
    """``|J_k|^2`` ``(n, K)`` of a linear softmax with outputs p on inputs x: ``p_k^2 |e_k - p|^2 (|x|^2 + 1)``."""
    apart = 1 - 2 * p + p.square().sum(1, keepdim=True)
    return p.square() * apart * with_one(x).square().sum(1, keepdim=True)


def label_noise(x: Tensor, p: Tensor) -> float:
    """The noise of one-hot labels, ``E sum_k |J_k|^2 / P_k``.

    Example:
        >>> data = GaussianClasses()
        >>> x, p, _ = data.draw(2000, torch.Generator().manual_seed(0))
        >>> round(label_noise(x, p) / dirichlet_noise(x, p, 5.0), 6)
        6.0
    """
    return float((jacobian_squares(x, p) / p).sum(1).mean())


def additive_noise(x: Tensor, p: Tensor, variance: float) -> float:
    """The noise of P plus independent noise of this variance in every class, ``v E sum_k |J_k|^2 / P_k^2``."""
    return variance * float((jacobian_squares(x, p) / p.square()).sum(1).mean())


def dirichlet_noise(x: Tensor, p: Tensor, concentration: float) -> float:
    """The noise of targets drawn from Dirichlet(a P): that of labels, divided by ``a + 1``; 0 for exact ones."""
    return 0.0 if concentration == EXACT else label_noise(x, p) / (concentration + 1)


def best_mixing(label: float, teacher: float) -> tuple[float, float]:
    r"""The weight of a teacher beside labels that leaves the least noise, and that noise.

    ``(1 - w)^2 label + w^2 teacher`` is least at ``w = label / (label + teacher)``, if the teacher's noise is
    independent of the labels'; then it is ``label teacher / (label + teacher)``, below either. A teacher that learned
    from the same labels is not independent of them.

    Args:
        label, teacher: noise of labels and of the teacher alone.

    Example:
        >>> best_mixing(6.0, 1.0)  # Dirichlet of concentration 5: (a + 1) / (a + 2)
        (0.8571428571428571, 0.8571428571428571)
    """
    return label / (label + teacher), label * teacher / (label + teacher)


def measured_noise(x: Tensor, p: Tensor, targets: Tensor) -> float:
    """Mean square of the gradients of a linear softmax at its optimum under given targets ``(n, K)``."""
    gradient = p * targets.sum(1, keepdim=True) - targets
    return float((gradient.square().sum(1) * with_one(x).square().sum(1)).mean())


def dirichlet(p: Tensor, concentration: float, y: Tensor, generator: torch.Generator) -> Tensor:
    """Targets ``(n, K)`` drawn from Dirichlet(a P): exact for infinity, labels for 0.

    Example:
        >>> p = torch.tensor([[0.5, 0.25, 0.25]]).expand(20000, 3).double()
        >>> q = dirichlet(p, 3.0, torch.zeros(20000).long(), torch.Generator().manual_seed(0))
        >>> torch.allclose(q.var(0), p[0] * (1 - p[0]) / 4, atol=2e-3)
        True
    """
    if concentration == EXACT:
        return p
    if concentration == ONE_HOT:
        return torch.nn.functional.one_hot(y, p.shape[1]).to(p)
    shape = (concentration * p).clamp(min=1e-12)
    # log Gamma(s) = log Gamma(s + 1) + log(U) / s: nothing underflows for small shapes
    drawn = torch._standard_gamma(shape + 1, generator=generator).log()
    uniform = torch.rand(p.shape, generator=generator, dtype=p.dtype).clamp(min=1e-300)
    return (drawn + uniform.log() / shape).softmax(1)


@dataclass(frozen=True)
class Course:
    """What a simulation saw, at each evaluation and for each student.

    Attributes:
        steps: optimiser steps ``(E,)``.
        excess: excess risk in nats ``(E, R)``: mean KL of the student from the true probabilities.
        noise: mean square of the gradients since the last evaluation ``(E, R)``.
    """

    steps: Tensor
    excess: Tensor
    noise: Tensor

    def floor(self, share: float = 1 / 3) -> Tensor:
        """Mean excess ``(R,)`` over the last share of the evaluations."""
        return self.excess[-max(1, round(share * len(self.steps))) :].mean(0)

    def fluctuation(self, share: float = 1 / 3) -> Tensor:
        """Standard deviation ``(R,)`` of the excess over the last share of the evaluations, about its line."""
        late = self.excess[-max(3, round(share * len(self.steps))) :]
        time = torch.linspace(-1, 1, len(late), dtype=late.dtype)[:, None]
        rest = late - late.mean(0) - time * (time * late).sum(0) / time.square().sum()
        return (rest.square().sum(0) / (len(late) - 2)).sqrt()


def linear_course(
    data: GaussianClasses,
    concentrations: Sequence[float],
    *,
    rate: float = 0.01,
    steps: int = 20000,
    students: int = 4,
    mixing: Sequence[float] | None = None,
    evaluations: int = 60,
    from_optimum: bool = False,
    seed: int = 0,
) -> Course:
    """Linear students under plain SGD, one fresh sample in each step, all of them side by side.

    Students of one number see the same inputs and labels, whatever their targets.

    Args:
        data: the classes.
        concentrations: of the Dirichlet that each kind of target is drawn from.
        rate: of SGD.
        steps, evaluations: how long, and how often it is looked at.
        students: for each kind of target; column ``kind * students + number`` of the course.
        mixing: weight of the drawn target beside the label, for each kind; None is 1.
        from_optimum: start where the risk is least instead of at 0: what is seen then is noise alone.
        seed: of everything drawn.
    """
    draws, kinds = torch.Generator().manual_seed(seed), len(concentrations)
    weight = torch.tensor(mixing if mixing is not None else [1.0] * kinds).double()
    looked, truth, _ = data.draw(4000, draws)
    start = data.optimum() if from_optimum else torch.zeros_like(data.optimum())
    w = start.repeat(kinds * students, 1, 1)
    every, seen = steps // evaluations, torch.zeros(kinds * students).double()
    excess, noise = [], []
    for done in range(every * evaluations):
        if done % every == 0:  # draws of many steps at once
            x, p, y = data.draw(every * students, draws)
            kinds_of = [dirichlet(p, a, y, draws) for a in concentrations]
            labels = torch.nn.functional.one_hot(y, p.shape[1]).to(p)
            mixed = torch.stack([(1 - v) * labels + v * q for v, q in zip(weight, kinds_of, strict=True)])
            inputs = with_one(x).view(every, students, -1).repeat(1, kinds, 1)
            targets = (
                mixed.view(kinds, every, students, -1).transpose(0, 1).reshape(every, kinds * students, -1)
            )
        i = done % every
        error = torch.bmm(inputs[i][:, None], w)[:, 0].softmax(1) - targets[i]
        seen += error.square().sum(1) * inputs[i].square().sum(1)
        w.baddbmm_(inputs[i][:, :, None], error[:, None], alpha=-rate)
        if i == every - 1:
            student = (with_one(looked) @ w).log_softmax(2)
            excess.append((truth * (truth.log() - student)).sum(2).mean(1))
            noise.append(seen / every)
            seen = torch.zeros_like(seen)
    return Course(every * torch.arange(1, evaluations + 1), torch.stack(excess), torch.stack(noise))
