"""On-the-fly native ensemble: branches learn from their gated mixture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..shapes import Logits, Value
from ._common import positive, wide


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
    # Summing the branches first leaves one softmax-sized product instead of one for each branch.
    log_p = sum(torch.log_softmax(b.to(z.dtype) / temperature, 1) for b in branches)
    rows = (q * (len(branches) * log_q - log_p)).sum(1)
    return rows.sum() * (temperature**2 / max(len(rows), 1))
