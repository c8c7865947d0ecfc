"""DarkRank: keep the order in which a sample's neighbours come."""

import torch

from ..shapes import Features, Value
from ._relations import gram, samples


def darkrank(
    student: Features, teacher: Features, *, alpha: float = 3.0, beta: float = 3.0, length: int = 4
) -> Value:
    r"""Negative log-likelihood, under the student, of the order of the teacher's nearest neighbours.

    With :math:`s_{ij} = -\alpha \lVert x_i - x_j \rVert^\beta` and the teacher's nearest neighbours
    :math:`j_1, \dots, j_L` of i, :math:`-\frac1N \sum_i \sum_m (s_{i j_m} - \log \sum_{m' \ge m} e^{s_{i j_{m'}}})`.

    Args:
        student: ``(N, ...)``, flattened to vectors.
        teacher: ``(N, ...)`` of any other size, never differentiated.
        alpha: steepness of the scores.
        beta: power of the distance.
        length: neighbours ranked, L; fewer where the batch has fewer.

    Returns:
        A scalar; 0 below three samples, where there is nothing to rank.

    Source:
        Chen, Wang, Zhang, AAAI 2018, arXiv:1707.01220; the hard form and constants of lenscloth/RKD.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [3.0]])
        >>> darkrank(line, line, alpha=1.0, beta=1.0)
        tensor(0.2512)
    """
    _, t = samples(student, teacher)
    near, squares = (
        (g := gram(x)).diagonal()[:, None] + g.diagonal() - 2 * g for x in (t, student.flatten(1).to(t.dtype))
    )
    order = near.fill_diagonal_(torch.inf).topk(max(min(length, len(t) - 1), 0), largest=False).indices
    scores = -alpha * squares.gather(1, order).clamp_min(1e-12) ** (beta / 2)
    return (scores.flip(1).logcumsumexp(1).flip(1) - scores).sum() / max(len(t), 1)
