"""Projected gradient descent: the worst image within a small distance of each one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..shapes import Images, Labels

STEPS = 20
EPSILONS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)


def pgd(
    model: Callable[[Tensor], Tensor],
    images: Images,
    labels: Labels,
    epsilon: float,
    random: torch.Generator,
    *,
    steps: int = STEPS,
    step: float | None = None,
) -> Images:
    """Images within ``epsilon`` of the given ones in every pixel that the network gets wrong, where it finds any.

    ``x <- clip(x + step sign(grad_x L))`` into [0, 1] and the ``epsilon`` box, from a uniform random start in the
    box, with ``L = log sum_{k != y} exp z_k - z_y``: cross-entropy is ``log(1 + exp L)``, so the signs are its own,
    but they do not vanish where a sure network's cross-entropy is 0 in float32. For each image the first one that
    is wrong is kept, the image itself (if it is wrong already) before all; where none is wrong, the last one.

    Args:
        model: logits ``(B, K)`` from pixels; differentiable, in evaluation mode.
        images: ``(B, c, h, w)`` in [0, 1].
        labels: class ids ``(B,)``.
        epsilon: largest change of a pixel, in [0, 1] units.
        random: generator of the start, on the CPU.
        steps: gradient steps.
        step: length of one; ``epsilon / 4`` by default.

    Source: Madry et al. 2018 (arXiv 1706.06083).

    Example:
        >>> weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> image = torch.tensor([0.52, 0.48]).view(1, 2, 1, 1)
        >>> worst = pgd(lambda x: x.flatten(1) @ weight, image, torch.tensor([0]), 0.03, torch.Generator())
        >>> (worst.flatten(1) @ weight).argmax().item()
        1
    """
    step = epsilon / 4 if step is None else step
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    start = images + epsilon * (2 * torch.rand(images.shape, generator=random) - 1)
    x = torch.minimum(torch.maximum(start, low), high)
    with torch.no_grad():
        fooled = model(images).argmax(1) != labels
    worst = images
    for _ in range(steps):
        x.requires_grad_(True)
        logits = model(x)
        others = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
        (slope,) = torch.autograd.grad((others - logits.gather(1, labels[:, None])[:, 0]).sum(), x)
        x = x.detach()
        worst, fooled = _keep(worst, fooled, x, logits, labels)
        if bool(fooled.all()):
            return worst
        x = torch.minimum(torch.maximum(x + step * slope.sign(), low), high)
    with torch.no_grad():
        worst, fooled = _keep(worst, fooled, x, model(x), labels)
    return torch.where(fooled[:, None, None, None], worst, x)


def _keep(worst: Tensor, fooled: Tensor, x: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Remember the images that are wrong for the first time."""
    new = (logits.argmax(1) != labels) & ~fooled
    return torch.where(new[:, None, None, None], x, worst), fooled | new
