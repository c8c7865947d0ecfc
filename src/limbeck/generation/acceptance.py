"""Which tokens of a draft the teacher lets stand."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, ShapeError


def accept(
    drafts: Int[Tensor, "rows block"],
    teacher: Float[Tensor, "rows block vocabulary"],
    *,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Bool[Tensor, "rows block"]:
    r"""Which drafted tokens are probable enough to the teacher.

    With :math:`r` the number of tokens that the teacher ranks before the drafted one, those of equal
    logits ranked by id, the lowest first:

    ========= ==========================================================================================
    ``top_k`` :math:`r < K`, and the token is not ruled out (``-inf``); with :math:`K \ge V` every token
    ``top_p`` :math:`r = 0`, or the mass of the token and of those before it is below p: the token that
              crosses the mass is not in, unlike in ``Sampler``
    ========= ==========================================================================================

    Args:
        drafts: token ids ``(B, g)``.
        teacher: the teacher's raw logits ``(B, g, V)`` for the places where these tokens stand; no
            temperature.
        top_k: K of the paper.
        top_p: mass in (0, 1), the other rule of the released code. One of the two is given.

    Returns:
        ``(B, g)``. What is kept of a draft is its longest accepted prefix, ``accepted_prefix``.

    Raises:
        ConfigError: not one rule is given, or its value is not valid.
        ShapeError: ids and logits do not fit.

    Source:
        Xu et al., ICLR 2025, arXiv:2410.11325, algorithm 1. The released code (google-research,
        ``speculative_kd``) tests a fresh draw from the student in place of the drafted token, on teacher
        logits after temperature and nucleus, where the K "most probable" of less than K possible tokens
        are arbitrary; both are not followed. Checked against it where the two do not matter.

    Example:
        >>> teacher = torch.tensor([[[3.0, 2.0, 1.0, 0.0], [0.0, 5.0, 5.0, 1.0]]])
        >>> accept(torch.tensor([[1, 2]]), teacher, top_k=2)
        tensor([[True, True]])
        >>> accept(torch.tensor([[1, 2]]), teacher, top_k=1)
        tensor([[False, False]])
    """
    check_rule(top_k, top_p)
    if teacher.shape[:-1] != drafts.shape:
        raise ShapeError(
            "drafts and teacher logits do not fit",
            got=f"drafts {tuple(drafts.shape)}, logits {tuple(teacher.shape)}",
            expected="(B, g) and (B, g, V)",
        )
    size = teacher.shape[-1]
    if top_k is not None and top_k >= size:
        return torch.ones_like(drafts, dtype=torch.bool)
    own = teacher.gather(-1, drafts[..., None])
    ids = torch.arange(size, device=drafts.device)
    before = (teacher > own) | ((teacher == own) & (ids < drafts[..., None]))
    if top_k is not None:
        return (before.sum(-1) < top_k) & (own[..., 0] > -torch.inf)
    assert top_p is not None
    mass = torch.softmax(teacher.double(), -1)
    reached = mass.masked_fill(~(before | (ids == drafts[..., None])), 0).sum(-1)
    return (reached < top_p) | ~before.any(-1)


def accepted_prefix(accepted: Bool[Tensor, "rows block"]) -> Int[Tensor, rows]:
    """Number of tokens before the first rejected one.

    Example:
        >>> accepted_prefix(torch.tensor([[True, False, True], [True, True, True]]))
        tensor([1, 3])
    """
    return accepted.long().cumprod(1).sum(1)


def check_rule(top_k: int | None, top_p: float | None) -> None:
    """Refuse anything but one valid rule."""
    if (top_k is None) == (top_p is None):
        raise ConfigError(
            "acceptance needs one rule", got=f"top_k={top_k}, top_p={top_p}", expected="one of the two"
        )
    if top_k is not None and top_k < 1:
        raise ConfigError("top_k is not valid", got=top_k, expected="a number of at least 1")
    if top_p is not None and not 0 < top_p < 1:
        raise ConfigError("top_p is not valid", got=top_p, expected="a number above 0 and below 1")
