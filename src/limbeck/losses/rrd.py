"""RRD: the student relates a sample to remembered ones as the teacher does."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..shapes import Value, Vectors
from ._common import exponentials, known, positive, wants_gradient
from .dcd import embeddings


def rrd(
    student: Vectors,
    teacher: Vectors,
    queue: Float[Tensor, "samples width"],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.02,
) -> Value:
    r"""Cross-entropy between two networks' similarities to a queue of teacher embeddings.

    With unit rows :math:`\hat a` of the student, :math:`\hat c` of the teacher, and a queue :math:`q`,

    .. math:: -\frac1N \sum_i \sum_k \mathrm{softmax}(\hat c q^\top / T_t)_{ik}
              \log \mathrm{softmax}(\hat a q^\top / T_s)_{ik} .

    Args:
        student: projected embeddings ``(N, D)``.
        teacher: projected embeddings ``(N, D)``, never differentiated.
        queue: remembered teacher embeddings ``(K, D)``, never differentiated; as published, those of this
            batch are among them.
        student_temperature: divides the student's similarities.
        teacher_temperature: divides the teacher's. The released command line takes 0.1 and 0.02 as here; its
            docstring says the reverse.

    Returns:
        A scalar: a cross-entropy, not 0 at the optimum. 0 without rows.

    Raises:
        ShapeError: the embeddings' shapes differ.

    Source:
        Giakoumoglou, Stathaki 2024, arXiv:2407.12073; checked against giakoumoglou/distillers (FIFO memory).

    Example:
        >>> import torch
        >>> x = torch.eye(2)
        >>> rrd(x, x, x, student_temperature=1.0, teacher_temperature=1.0)
        tensor(0.5822)
    """
    positive(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
    a, c = embeddings(student, teacher.detach())
    queue = queue.detach().to(a.dtype)
    log_s = ((a.detach() / student_temperature) @ queue.T).log_softmax(1)
    target = (c / teacher_temperature) @ queue.T
    exponentials(target, out=target)
    n = max(len(a), 1)
    value = -target.flatten().dot(log_s.flatten()) / n
    gradient = None
    if wants_gradient(a):
        gradient = (exponentials(log_s, out=log_s).sub_(target) @ queue).div_(student_temperature * n)
    return known(a, value, gradient)
