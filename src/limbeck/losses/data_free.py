"""What generated images are judged by: terms of data-free distillation.

All are to be minimised, by whoever they are given to. Unlike the losses for students, none of them detaches the
teacher, because a generator learns through both networks, and all are recorded by autograd. Computed in float32
at least.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Images, Labels, Logits, Value, Vectors

EPS = 1e-8
Form = Literal["plain", "log"]


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x


def class_loss(logits: Logits, labels: Labels, *, double_softmax: bool = False) -> Value:
    """Cross-entropy with the requested (or predicted) class, mean over rows, in nats.

    Args:
        logits: of teacher or student, ``(N, K)``.
        labels: requested classes ``(N,)``; the teacher's own answers make it DAFL's one-hot term.
        double_softmax: give probabilities to the cross-entropy as if they were logits, as the released code of
            CPSC-DFKD does. Its smallest value is then ``log(e + K - 1) - 1`` (1.46 for K = 10).

    Source: Chen et al., ICCV 2019 (DAFL), arXiv:1904.01186; Shao et al. 2023, arXiv:2510.03375.

    Example:
        >>> sure = torch.tensor([[1e4, 0.0]])
        >>> right = torch.tensor([0])
        >>> [round(float(class_loss(sure, right, double_softmax=d)), 3) for d in (False, True)]
        [0.0, 0.313]
    """
    z = _wide(logits)
    return F.cross_entropy(z.softmax(1) if double_softmax else z, labels)


def activation(embedding: Vectors) -> Value:
    """``-mean |f|`` over rows and features: images that excite the teacher's embedding.

    Source: DAFL.

    Example:
        >>> activation(torch.tensor([[1.0, -3.0]]))
        tensor(-2.)
    """
    return -_wide(embedding).abs().mean()


def balance(logits: Logits, *, base: float = math.e) -> Value:
    """``sum_k p_k log p_k`` of the batch's mean probabilities p: least when all classes are equally frequent.

    Args:
        logits: of the teacher ``(N, K)``.
        base: of the logarithm: 10 in the released code of DAFL and PRE-DFKD, e in DFQ and CMI's repository.

    Source: DAFL (information entropy).

    Example:
        >>> round(float(balance(torch.zeros(4, 10), base=10.0)), 6)
        -1.0
    """
    p = _wide(logits).softmax(1).mean(0)
    return (p * p.clamp_min(1e-30).log()).sum() / math.log(base)


def agreement_mask(student: Logits, teacher: Logits) -> Tensor:
    """1 for rows on which both networks answer alike, else 0 ``(N,)``: CMI's decision mask."""
    return (student.argmax(1) == teacher.argmax(1)).to(_wide(student).dtype)


def divergence(student: Logits, teacher: Logits, *, decision: bool = False) -> Value:
    """``mean_b KL(p_T || p_S)`` at temperature 1, differentiable in both networks.

    Args:
        student, teacher: logits ``(N, K)``.
        decision: count only rows on which both networks answer alike (CMI: a generator that raises the
            divergence there looks for images at the decision border); the mean stays over all rows.

    Source: CPSC-DFKD (arXiv:2510.03375), DFQ, ZSKT (arXiv:1905.09768), CMI (arXiv:2105.08584).

    Example:
        >>> z = torch.tensor([[0.0, 1.0]])
        >>> divergence(z, z)
        tensor(0.)
    """
    log_s, log_t = _wide(student).log_softmax(1), _wide(teacher).log_softmax(1)
    rows = (log_t.exp() * (log_t - log_s)).sum(1)
    return (rows * agreement_mask(student, teacher) if decision else rows).mean()


def squared(
    student: Logits, teacher: Logits, *, form: Literal["plain", "log", "log_norm"] = "plain"
) -> Value:
    """Squared difference of logits; only the student is differentiated, as in CPSC-DFKD.

    Args:
        student, teacher: logits ``(N, K)``.
        form: ``plain``: the mean over rows and classes; ``log`` of it (the released generator on CIFAR-10);
            ``log_norm``: the log of the Frobenius norm of the difference (the released student on CIFAR-10).
            The logs take ``EPS`` more, so that they are finite where the networks agree.

    Example:
        >>> squared(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
        tensor(2.)
    """
    difference = _wide(student) - _wide(teacher).detach()
    if form == "log_norm":
        return 0.5 * (difference.square().sum() + EPS).log()
    value = difference.square().mean()
    return (value + EPS).log() if form == "log" else value


def absolute(student: Logits, teacher: Logits) -> Value:
    """``mean |t - s|`` over rows and classes, differentiable in both networks.

    Source: Fang et al. 2019 (DFAD), arXiv:1912.11006.

    Example:
        >>> absolute(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
        tensor(1.)
    """
    return (_wide(student) - _wide(teacher)).abs().mean()


def competition(student: Logits, teacher: Logits, *, temperature: float = 3.0) -> Value:
    """``1 - JS``, with ``JS = KL(p_T || m) / 2 + KL(p_S || m) / 2`` at a temperature and m their mean.

    Textbook order of the arguments, and no clamping of probabilities: the released code of DeepInversion swaps
    the former and clamps to [0.01, 0.99], which leaves no gradient where there are many classes.

    Source: Yin et al., CVPR 2020 (ADI), arXiv:1912.08795.

    Example:
        >>> z = torch.tensor([[0.0, 1.0]])
        >>> competition(z, z)
        tensor(1.)
    """
    logs = [(_wide(z) / temperature).log_softmax(1) for z in (teacher, student)]
    middle = torch.logaddexp(logs[0], logs[1]) - math.log(2)
    parts = [(log.exp() * (log - middle)).sum(1).mean() for log in logs]
    return 1 - 0.5 * (parts[0] + parts[1])


def two_view_contrast(
    student: Vectors, teacher: Vectors, labels: Labels, *, temperature: float = 0.07
) -> Value:
    """Supervised contrast of two views of each image: the student's embedding and the teacher's.

    Rows ``f = [f_S; f_T]`` of unit length are 2N anchors; positives ``P(i)`` are all other rows of either view
    with the same label, the other view of the image itself at least:
    ``mean_i -1/|P(i)| sum_p log( exp(f_i f_p / tau) / sum_{a != i} exp(f_i f_a / tau) )``.

    Args:
        student, teacher: unit-length embeddings ``(N, d)``.
        labels: pseudo-labels ``(N,)``.
        temperature: tau; the prefactor is 1.

    Source: Shao et al. 2023, arXiv:2510.03375, after Khosla et al. 2020, arXiv:2004.11362.

    Example:
        >>> f = torch.eye(2)
        >>> round(float(two_view_contrast(f, f, torch.tensor([0, 1]), temperature=1.0)), 4)
        0.5514
    """
    rows = torch.cat([_wide(student), _wide(teacher)])
    same = labels.repeat(2)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    positive = (same[:, None] == same[None]) & ~itself
    similar = (rows @ rows.T / temperature).masked_fill(itself, -torch.inf)
    log_share = similar.log_softmax(1).masked_fill(~positive, 0.0)
    return -(log_share.sum(1) / positive.sum(1)).mean()


def instance_contrast(query: Vectors, key: Vectors, *, current: int, temperature: float = 0.1) -> Value:
    """CMI's contrast: each image's local view against the global views of all images, its own the positive.

    Rows of the current batch and rows of remembered images are averaged separately and added, so that a large
    memory does not drown the batch. Keys are detached.

    Args:
        query, key: unit-length embeddings ``(N, d)`` of local and global views; the current batch comes first.
        current: rows of the current batch.
        temperature: of the similarities.

    Source: Fang et al., IJCAI 2021 (CMI), arXiv:2105.08584, and its released code.

    Example:
        >>> f = torch.eye(2)
        >>> round(float(instance_contrast(f, f, current=2, temperature=1.0)), 4)
        0.3133
    """
    similar = _wide(query) @ _wide(key).detach().T / temperature
    rows = F.cross_entropy(similar, torch.arange(len(query), device=query.device), reduction="none")
    total = rows[:current].mean()
    return total + rows[current:].mean() if len(rows) > current else total


def total_variation(images: Images, *, form: Literal["l2", "l1"] = "l2") -> Value:
    """How much neighbouring pixels differ: the image prior.

    Args:
        images: ``(N, C, H, W)`` in normalised pixels.
        form: ``l2``: the sum of the Frobenius norms of the batch's differences over four shifts (right, down,
            both diagonals), as in DeepInversion; ``l1``: the sum of the mean absolute differences.

    Example:
        >>> total_variation(torch.ones(1, 1, 4, 4))
        tensor(0.)
    """
    x = _wide(images)
    shifts = (
        x[..., :, 1:] - x[..., :, :-1],
        x[..., 1:, :] - x[..., :-1, :],
        x[..., 1:, 1:] - x[..., :-1, :-1],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )
    parts = [torch.linalg.vector_norm(d) if form == "l2" else d.abs().mean() for d in shifts]
    return torch.stack(parts).sum()


def image_norm(images: Images) -> Value:
    """Frobenius norm of the batch of images ``||x||_2`` (DeepInversion's second prior).

    Example:
        >>> image_norm(torch.ones(1, 1, 2, 2))
        tensor(2.)
    """
    norm: Tensor = torch.linalg.vector_norm(_wide(images))
    return norm
