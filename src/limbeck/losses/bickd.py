"""BicKD, reconstructed: contrast samples and classes of teacher and student in both directions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..shapes import Labels, Logits, Value
from ._common import (
    choice,
    known,
    nothing,
    pair,
    positive,
    probabilities,
    targets,
    through_softmax,
    wants_gradient,
)
from ._contrast import Contrast, Direction, Form
from ._cosine import through_unit, unit

Similarity = Literal["cosine", "dot"]
Classes = Literal["all", "present"]


def bickd(
    student: Logits,
    teacher: Logits,
    labels: Labels | None = None,
    *,
    temperature: float = 4.0,
    contrast_temperature: float = 0.1,
    sample_weight: float = 1.0,
    class_weight: float = 1.0,
    similarity: Similarity = "cosine",
    form: Form = "infonce",
    direction: Direction = "both",
    mask_same_label: bool = True,
    multi_positive: bool = False,
    student_negatives: bool = False,
    classes: Classes = "all",
    mu: float = 1.0,
    chunk_size: int | None = None,
    eps: float = 1e-8,
) -> Value:
    r"""Bilateral contrastive loss of BicKD, **reconstructed**: the paper's formula could not be had.

    With :math:`P = \mathrm{softmax}(z / T)`, rows are samples and columns are classes:

    .. math:: A_{ij} = \cos(P^t_{i:}, P^s_{j:}),\quad C_{kl} = \cos(P^t_{:k}, P^s_{:l}),\qquad
              \lambda_s\, NCE(A) + \lambda_c\, NCE(C)

    .. math:: NCE(M) = \tfrac12 \big( CE(M / \tau) + CE(M^\top / \tau) \big)

    where CE is the mean cross-entropy of each row against its diagonal entry, and same-label pairs of
    different rows are left out of A. There is no T^2, no cross-entropy with the labels and no KL term: the
    ``bickd`` method adds those.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        labels: class ids ``(N,)`` that tell which rows are of one class. The teacher's argmax stands in for
            -100 and for no labels at all: a row needs no label to be taught.
        temperature: divides the logits, above 0.
        contrast_temperature: tau, divides the similarities, above 0 (``infonce`` only).
        sample_weight: lambda_s; 0 leaves the rows out ("class side only").
        class_weight: lambda_c; 0 leaves the columns out.
        similarity: ``cosine``, or the plain inner product ``dot``.
        form: ``infonce``, or ``orthogonal``: per anchor :math:`(1 - M_{kk})^2 + \mu \sum_{l \ne k} M_{kl}^2`.
        direction: anchors on ``both`` sides, on the ``teacher`` side (each teacher vector picks its student
            vector among all students') or on the ``student`` side (``infonce`` only).
        mask_same_label: leave rows of the anchor's class out of its negatives; False is literal instance
            discrimination.
        multi_positive: make them positives instead, averaged outside the logarithm (supervised contrast).
        student_negatives: also count the vectors of the anchor's own network as negatives, 2n - 2 in all.
        classes: contrast ``all`` classes, or only those ``present`` in the batch.
        mu: weight of the pairs that should be orthogonal (``orthogonal`` only).
        chunk_size: rows of the similarity matrix made at once; None keeps it whole up to 4096 vectors and
            bounds it to 64 MiB of float32 above. Value and gradient do not depend on it.
        eps: a vector shorter than this is treated as zero, and has cosine 0 with all.

    Returns:
        A scalar. It compares rows with each other: one row gives ``class_weight * log C`` without a
        gradient, no row gives 0. Under distribution gather the rows of all processes first.

    Raises:
        ShapeError: the shapes do not fit, or a label is no class.
        ConfigError: an option is not valid.

    Source:
        **Reconstructed** from the abstract of Zhu et al. 2026, arXiv:2602.01265; the arguments are in
        ``docs/bickd.md``. The two-sided cosine InfoNCE has a precedent in Contrastive Clustering.

    Example:
        >>> same = torch.eye(3) * 1000
        >>> bickd(same, same, temperature=1.0)  # 2 log(1 + 2 exp(-1 / tau))
        tensor(0.0002)
        >>> bickd(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
        tensor(2.8191)
    """
    positive(temperature=temperature, contrast_temperature=contrast_temperature, eps=eps)
    if chunk_size is not None:
        positive(chunk_size=chunk_size)
    choice("similarity", similarity, ("cosine", "dot"))
    choice("form", form, ("infonce", "orthogonal"))
    choice("direction", direction, ("both", "teacher", "student"))
    choice("classes", classes, ("all", "present"))
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student)
    bounded = similarity == "cosine" and contrast_temperature >= 1 / 40
    how = Contrast(contrast_temperature, form, direction, mu, student_negatives, chunk_size, bounded)
    p, q = probabilities(s, temperature), probabilities(t, temperature)
    kinds = _kinds(t, labels) if mask_same_label or multi_positive or classes == "present" else None
    differentiate = wants_gradient(student)
    scale = None if similarity == "dot" else eps
    parts, gradient = [], None
    if sample_weight:
        groups = kinds if mask_same_label or multi_positive else None
        part, gradient = _side(how, p, q, groups, multi_positive, scale, differentiate)
        parts.append(part if sample_weight == 1 else part * sample_weight)
        if gradient is not None and sample_weight != 1:
            gradient *= sample_weight
    if class_weight:
        columns = torch.unique(kinds) if kinds is not None and classes == "present" else None
        some_p, some_q = (p.T, q.T) if columns is None else (p.T[columns], q.T[columns])
        part, slope = _side(how, some_p, some_q, None, False, scale, differentiate)
        parts.append(part if class_weight == 1 else part * class_weight)
        if slope is not None and columns is not None:
            gradient = torch.zeros_like(p) if gradient is None else gradient
            gradient.T.index_add_(0, columns, slope, alpha=class_weight)
        elif slope is not None:
            slope = slope.T if class_weight == 1 else slope.T.mul_(class_weight)
            gradient = slope if gradient is None else gradient.add_(slope)
    if not parts:
        return nothing(student)
    value = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    return known(student, value, None if gradient is None else through_softmax(p, gradient, temperature))


def bickd_sample(
    student: Logits,
    teacher: Logits,
    labels: Labels | None = None,
    *,
    temperature: float = 4.0,
    contrast_temperature: float = 0.1,
    similarity: Similarity = "cosine",
    form: Form = "infonce",
    direction: Direction = "both",
    mask_same_label: bool = True,
    multi_positive: bool = False,
    student_negatives: bool = False,
    mu: float = 1.0,
    chunk_size: int | None = None,
    eps: float = 1e-8,
) -> Value:
    """The sample side of ``bickd``, **reconstructed**: rows against rows.

    Arguments, source and errors are those of ``bickd`` with ``class_weight=0``. 0 for one row, and where all
    rows are of one class.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> bickd_sample(logits, logits), bickd_sample(logits, logits, torch.tensor([1, 1]))
        (tensor(0.2795), tensor(0.))
    """
    return bickd(
        student,
        teacher,
        labels,
        temperature=temperature,
        contrast_temperature=contrast_temperature,
        class_weight=0.0,
        similarity=similarity,
        form=form,
        direction=direction,
        mask_same_label=mask_same_label,
        multi_positive=multi_positive,
        student_negatives=student_negatives,
        mu=mu,
        chunk_size=chunk_size,
        eps=eps,
    )


def bickd_class(
    student: Logits,
    teacher: Logits,
    labels: Labels | None = None,
    *,
    temperature: float = 4.0,
    contrast_temperature: float = 0.1,
    similarity: Similarity = "cosine",
    form: Form = "infonce",
    direction: Direction = "both",
    student_negatives: bool = False,
    classes: Classes = "all",
    mu: float = 1.0,
    chunk_size: int | None = None,
    eps: float = 1e-8,
) -> Value:
    """The class side of ``bickd``, **reconstructed**: columns against columns.

    Arguments, source and errors are those of ``bickd`` with ``sample_weight=0``; labels are looked at only
    for ``classes="present"``.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> bickd_class(logits, logits)
        tensor(0.2795)
    """
    return bickd(
        student,
        teacher,
        labels,
        temperature=temperature,
        contrast_temperature=contrast_temperature,
        sample_weight=0.0,
        similarity=similarity,
        form=form,
        direction=direction,
        mask_same_label=False,
        student_negatives=student_negatives,
        classes=classes,
        mu=mu,
        chunk_size=chunk_size,
        eps=eps,
    )


def _kinds(teacher: Tensor, labels: Tensor | None) -> Tensor:
    """The class of each row: its label, or the teacher's argmax where it has none."""
    if labels is None:
        return teacher.argmax(1)
    index, given = targets(labels, *teacher.shape)
    return index if given is None else torch.where(given, index, teacher.argmax(1))


def _side(
    how: Contrast,
    p: Tensor,
    q: Tensor,
    groups: Tensor | None,
    together: bool,
    eps: float | None,
    differentiate: bool,
) -> tuple[Tensor, Tensor | None]:
    """Contrast of the rows of ``p`` and ``q``, and its gradient for ``p``."""
    if eps is None:
        return how(p, q, groups, together, differentiate)
    (s, size), (t, _) = unit(p, 1, eps), unit(q, 1, eps)
    value, gradient = how(s, t, groups, together, differentiate)
    del t
    return value, None if gradient is None else through_unit(s, size, gradient, 1)
