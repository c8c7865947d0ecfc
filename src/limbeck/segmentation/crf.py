"""A dense conditional random field over small maps, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 1e-6
"""Smallest score that a class can have before its logarithm is taken."""


def affinity(images: Tensor, sigma_xy: float, sigma_rgb: float | None) -> Tensor:
    r"""How much pixels belong together: ``exp(-|p_i - p_j|^2 / 2 sigma_xy^2 - |I_i - I_j|^2 / 2 sigma_rgb^2)``.

    Every pair of pixels is looked at, so this is for small maps: 64 x 64 pixels take 64 MB per image.

    Args:
        images: ``(B, C, h, w)``, in the units of ``sigma_rgb``.
        sigma_xy: pixels.
        sigma_rgb: as the images; None leaves colour out.

    Returns:
        ``(B, P, P)`` for P = h w pixels, 0 on the diagonal.

    Example:
        >>> affinity(torch.zeros(1, 3, 1, 3), 1.0, 10.0)[0, 0]
        tensor([0.0000, 0.6065, 0.1353])
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=torch.float32) / sigma_xy
    columns = torch.arange(width, device=images.device, dtype=torch.float32) / sigma_xy
    places = torch.cartesian_prod(rows, columns)
    features = places.expand(len(images), -1, -1)
    if sigma_rgb is not None:
        colours = images.float().flatten(2).mT / sigma_rgb
        features = torch.cat([features, colours], 2)
    half = features.square().sum(2).mul_(0.5)
    distance = torch.baddbmm(half[:, None], features, features.mT, beta=-1).sub_(half[:, :, None])
    found = distance.clamp_(max=0).exp_()
    found.diagonal(dim1=1, dim2=2).zero_()
    return found


def symmetric(found: Tensor) -> Tensor:
    """``D^-1/2 K D^-1/2`` for the row sums D: what a pixel hears is then of order 1, whatever the size; in place."""
    scale = found.sum(2).clamp_(min=LEAST).rsqrt_()
    return found.mul_(scale[:, :, None]).mul_(scale[:, None])


def mean_field(
    scores: Tensor,
    kernels: Sequence[tuple[Tensor, float]],
    iterations: int = 10,
    allowed: Tensor | None = None,
) -> Tensor:
    r"""Class probabilities of every pixel under a dense CRF, by mean field.

    .. math:: Q_i(l) \propto s_i(l) \exp\Big(\sum_m w_m \sum_{j \ne i} k_m(i, j) Q_j(l)\Big)

    which is the Potts model, up to terms that are equal for all classes. Starts from ``Q ~ s``.

    Args:
        scores: not negative, ``(B, C, h, w)``, need not sum to 1.
        kernels: affinities ``(B, P, P)``, each with its weight.
        iterations: how often.
        allowed: classes that an image may have ``(B, C)``; None is all.

    Returns:
        ``(B, C, h, w)``, without gradient.

    Source: Kraehenbuehl, Koltun 2011, arXiv:1210.5644; with kernels normalised symmetrically as in pydensecrf.

    Example:
        >>> image = torch.tensor([0.0, 0.0, 255.0]).view(1, 1, 1, 3)
        >>> scores = torch.tensor([[0.9, 0.4, 0.1], [0.1, 0.6, 0.9]]).view(1, 2, 1, 3)
        >>> kernel = symmetric(affinity(image, 10.0, 10.0))
        >>> mean_field(scores, [(kernel, 5.0)])[0].argmax(0)
        tensor([[0, 0, 1]])
    """
    with torch.no_grad():
        unary = scores.float().flatten(2).clamp(min=LEAST).log()
        if allowed is not None:
            unary = unary.masked_fill(~allowed.bool()[:, :, None], -torch.inf)
        q = unary.softmax(1)
        for _ in range(iterations):
            total = unary
            for kernel, weight in kernels:
                total = torch.baddbmm(total, q, kernel.expand(len(q), -1, -1), alpha=weight)
            q = total.softmax(1)
        return q.view(scores.shape)
