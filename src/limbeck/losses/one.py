"""On-the-fly native ensemble: branches learn from their gated mixture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..shapes import Logits, Value
from ._common import known_of_all, positive, wants_gradient, wide


def one_ensemble(branches: Sequence[Tensor], scores: Tensor) -> Logits:
    r"""Mixture of the branches' logits, :math:`z_e = \sum_b g_b z_b` with :math:`g = \mathrm{softmax}(\max(a, 0))`.

    Args:
        branches: logits ``(N, C)`` of each of the m branches.
        scores: gate scores a, ``(N, m)``.

    Returns:
        ``(N, C)``, differentiable in both.

    Source:
        Lan, Zhu, Gong 2018, arXiv:1806.04606; checked against Lan1991Xu/ONE_NeurIPS2018.

    Example:
        >>> one_ensemble([torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])], torch.zeros(1, 2))
        tensor([[1., 2.]])
    """
    gates = torch.softmax(scores.relu(), 1).unsqueeze(2).unbind(1)
    mixed = gates[0] * branches[0]
    for gate, branch in zip(gates[1:], branches[1:], strict=True):
        mixed = torch.addcmul(mixed, gate, branch)
    return mixed


def one(
    branches: Sequence[Tensor], ensemble: Logits, *, temperature: float = 3.0, epsilon: float = 1e-7
) -> Value:
    r"""Distance of every branch to the ensemble, summed over branches.

    .. math:: T^2 \frac1N \sum_b \sum_i \sum_k q_{ik} (\log q_{ik} - \log p^b_{ik}), \quad
        q = \mathrm{softmax}(z_e / T) + \epsilon, \quad p^b = \mathrm{softmax}(z_b / T)

    Args:
        branches: logits ``(N, C)`` of each branch.
        ensemble: logits ``(N, C)``; here they are a teacher and carry no gradient.
        temperature: divides the logits.
        epsilon: added to the ensemble's probabilities without normalising them again, as the released code
            does; with it the value at equality is not quite 0. 0 gives the plain KL divergence.

    Source:
        Lan, Zhu, Gong 2018, arXiv:1806.04606; checked against Lan1991Xu/ONE_NeurIPS2018.

    Example:
        >>> z = torch.tensor([[2.0, 0.0]])
        >>> one([z, z], z, epsilon=0.0)
        tensor(0.)
    """
    positive(temperature=temperature)
    z = wide(ensemble)
    log_q = torch.log_softmax(z / temperature, 1)
    if epsilon:
        log_q = (log_q.exp() + epsilon).log()
    q = log_q.exp()
    total = q.new_zeros(())
    for branch in branches:
        total -= torch.log_softmax(branch.detach().to(z.dtype) / temperature, 1).sub_(log_q).mul_(q).sum()
    n = max(len(q), 1)
    value = total * (temperature * temperature / n)
    learning = [branch for branch in branches if wants_gradient(branch)]
    del log_q
    # A second softmax of each branch: what the first left would have to be held until all are compared.
    mass = q.sum(1, keepdim=True)
    gradients = [
        torch.softmax(branch.detach().to(z.dtype) / temperature, 1).mul_(mass).sub_(q) for branch in learning
    ]
    return known_of_all(learning, value, gradients, temperature / n)
