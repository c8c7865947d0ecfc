"""PKDOT: optimal transport between the similarity rows of two networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DependencyError, ShapeError
from ..shapes import Value
from ._common import choice, nothing, positive, wide
from .ot import sinkhorn_divergence

Anchor = Literal["farthest", "nearest", "all"]
Layout = Literal["gather", "mask"]
Shift = Literal["global_min", "none"]
Coupling = Literal["sinkhorn", "identity"]
Backend = Literal["native", "geomloss", "pot"]

RELEASED: Mapping[str, Any] = {
    "anchor": "farthest",
    "k": 30,
    "layout": "gather",
    "shift": "global_min",
    "blur": 0.1,
    "debias": True,
    "plan": "sinkhorn",
}
"""The loss of the released code."""

RECOMMENDED: Mapping[str, Any] = {
    "anchor": "all",
    "k": 30,
    "layout": "mask",
    "shift": "none",
    "blur": 0.1,
    "debias": True,
    "plan": "sinkhorn",
}
"""Whole rows of similarities: a column is the same sample in every row, so that the transport has a meaning."""


def gram_ot(
    student: Tensor,
    teacher: Tensor,
    *,
    anchor: Anchor = "all",
    k: int = 30,
    layout: Layout = "mask",
    shift: Shift = "none",
    blur: float = 0.1,
    debias: bool = True,
    plan: Coupling = "sinkhorn",
    backend: Backend = "native",
    teacher_gram: Tensor | None = None,
) -> Value:
    r"""Transport cost between the two networks' rows of cosine similarities within a batch.

    With the cosines :math:`S_{ij} = \cos(h_i, h_j)` of each network, anchors :math:`I_i` chosen by the teacher's
    row i, and :math:`A_i` what is kept of row i, the loss is the Sinkhorn divergence of the clouds
    :math:`\{A^s_i\}` and :math:`\{A^t_i\}`. With ``plan="identity"`` every row keeps its partner, and it is
    :math:`\frac1{2N} \|A^s - A^t\|_F^2`.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, E)``, never differentiated.
        anchor: which similarities of a row are kept: the k ``farthest`` samples (the released code), the k
            ``nearest`` (itself among them), or ``all``.
        k: number of anchors; at most N - 1 are taken.
        layout: ``gather`` the anchors of a row side by side, as released, so that a column means another sample in
            every row; or ``mask`` the others with 0 and keep all N columns.
        shift: subtract the smallest similarity of each matrix first (``global_min``, as released), or ``none``.
        blur: the square root of epsilon.
        debias: subtract the self terms.
        plan: ``sinkhorn``, or ``identity`` for a control without transport.
        backend: ``native``, or the solver of ``geomloss`` or ``pot`` (the extra ``ot``).
        teacher_gram: the teacher's similarities ``(N, N)`` instead of those of ``teacher``.

    Returns:
        A scalar; 0 for fewer than two samples, which have no similarities.

    Raises:
        ShapeError: the batches differ.
        ConfigError: an option is not valid.
        DependencyError: the back end is not installed.

    Source:
        Aslam et al., FG 2024, arXiv:2401.15489; read in the authors' code (``RELEASED``), whose anchors are the least
        similar samples where the paper speaks of local structure. Zero vectors have similarity 0 here; there they
        give NaN. The minimum of ``global_min`` passes its gradient, as there.

    Example:
        >>> student, teacher = torch.eye(3), torch.ones(3, 1)
        >>> gram_ot(student, student), gram_ot(student, teacher, plan="identity")
        (tensor(0.), tensor(1.))
    """
    for name, value, values in (
        ("anchor", anchor, ("farthest", "nearest", "all")),
        ("layout", layout, ("gather", "mask")),
        ("shift", shift, ("global_min", "none")),
        ("plan", plan, ("sinkhorn", "identity")),
        ("backend", backend, ("native", "geomloss", "pot")),
    ):
        choice(name, value, values)
    positive(k=k, blur=blur)
    if min(student.dim(), teacher.dim()) < 2 or len(student) != len(teacher):
        raise ShapeError(
            "student and teacher features do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="(N, D) and (N, E), with one N",
        )
    if len(student) < 2:
        return nothing(student.flatten(1))
    ours = cosines(student)
    theirs = cosines(teacher.detach()) if teacher_gram is None else wide(teacher_gram)
    if theirs.dtype != ours.dtype:
        common = torch.promote_types(theirs.dtype, ours.dtype)
        ours, theirs = ours.to(common), theirs.to(common)
    chosen = anchors(theirs, anchor, k)
    if shift == "global_min":
        ours, theirs = ours - ours.min(), theirs - theirs.min()
    if chosen is not None and layout == "gather":
        ours, theirs = ours.gather(1, chosen), theirs.gather(1, chosen)
    elif chosen is not None:
        kept = torch.zeros_like(theirs).scatter_(1, chosen, 1.0)
        ours, theirs = ours * kept, theirs * kept
    if plan == "identity":
        return (ours - theirs).square().sum() / (2 * len(ours))
    if backend == "native":
        return sinkhorn_divergence(ours, theirs, blur=blur, debias=debias)
    return (_geomloss if backend == "geomloss" else _pot)(ours, theirs, blur, debias)


def cosines(x: Tensor) -> Tensor:
    """Cosine similarities between samples ``(N, N)``, in float32 at least, whatever autocast says."""
    with torch.autocast(x.device.type, enabled=False):
        unit = F.normalize(x.flatten(1).to(torch.promote_types(x.dtype, torch.float32)), eps=1e-12)
        return unit @ unit.T


def anchors(gram: Tensor, anchor: Anchor, k: int) -> Tensor | None:
    """Columns that each row keeps ``(N, k)``, in the order of their similarity; None for all."""
    if anchor == "all":
        return None
    k = min(k, len(gram) - 1)
    return gram.topk(k, dim=1, largest=anchor == "nearest").indices


def centroid(
    student: Tensor, teacher: Tensor, *, teacher_gram: Tensor | None = None, eps: float = 1e-12
) -> Value:
    r"""Distance of the mean rows of the two similarity matrices, :math:`\|\bar S^s - \bar S^t\|_2`.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, E)``, never differentiated.
        teacher_gram: the teacher's similarities instead of those of ``teacher``.
        eps: under the root, so that equal centroids have a gradient.

    Source:
        Aslam et al. 2024, arXiv:2408.09035 (MT-PKDOT), read in the authors' code.

    Example:
        >>> round(float(centroid(torch.eye(2), torch.ones(2, 1))), 4)
        0.7071
    """
    if len(student) < 2:
        return nothing(student.flatten(1))
    theirs = cosines(teacher.detach()) if teacher_gram is None else wide(teacher_gram)
    apart = cosines(student).mean(0) - theirs.mean(0)
    return (apart.square().sum() + eps).sqrt()


def _geomloss(x: Tensor, y: Tensor, blur: float, debias: bool) -> Tensor:
    try:
        from geomloss import SamplesLoss
    except ImportError:
        raise DependencyError("backend=geomloss needs geomloss", fix="pip install 'limbeck[ot]'") from None
    found: Tensor = SamplesLoss("sinkhorn", p=2, blur=blur, debias=debias, backend="tensorized")(x, y)
    return found


def _pot(x: Tensor, y: Tensor, blur: float, debias: bool) -> Tensor:
    try:
        import ot
    except ImportError:
        raise DependencyError("backend=pot needs POT", fix="pip install 'limbeck[ot]'") from None

    def cost(a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = ot.solve(ot.dist(a, b) / 2, reg=blur**2, grad="envelope", max_iter=1000).value
        return found

    value = cost(x, y)
    return value - (cost(x, x) + cost(y, y)) / 2 if debias else value


__all__ = ["RECOMMENDED", "RELEASED", "anchors", "centroid", "cosines", "gram_ot"]
