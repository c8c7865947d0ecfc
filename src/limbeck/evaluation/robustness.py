"""How a network fares on corrupted and on attacked images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..seeds import derive
from .attacks import EPSILONS, STEPS, pgd
from .corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .pixels import PixelModel, chunks, evaluating

if TYPE_CHECKING:
    from ..data import Data
    from ..runs import Run

IMAGES = 1000
"""Test images that are looked at; PGD takes up to 43 passes over each per epsilon."""


def robustness(
    of: nn.Module | Run,
    data: Data | None = None,
    *,
    images: int | None = IMAGES,
    seed: int = 0,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    epsilons: Sequence[float] = EPSILONS,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Accuracy on corrupted test images by kind and severity, and under PGD by epsilon, in float32.

    Equal seeds choose the same images, noise and starting points, so networks can be compared image by image.

    Args:
        of: a network that takes images normalised as ``data`` says, or a finished run (its last epoch).
        data: where the test split comes from; the run's own by default.
        images: how many, drawn from the test split; None for all.
        seed: of the draw, the corruptions and the starts of PGD.
        corruptions: keys of ``CORRUPTIONS``.
        epsilons: largest change of a pixel, in [0, 1] units; empty to leave PGD out.
        steps: of PGD.

    Returns:
        ``images`` (how many), ``seed``, ``clean`` accuracy, ``corruptions`` (name -> accuracy by severity 1 to 5),
        ``corrupted`` (the mean of these), ``pgd`` (``epsilon`` and ``accuracy``: share that no found image fools) and
        ``pgd_steps``.

    Raises:
        ConfigError: a network without data.
        DataError: pixels outside [0, 1].

    Example:
        >>> from limbeck.data import DataConfig, load
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> found = robustness(net, load(DataConfig()), images=50, corruptions=["blur"], epsilons=[0.1], steps=2)
        >>> found["images"], len(found["corruptions"]["blur"]), list(found["pgd"][0])
        (50, 5, ['epsilon', 'accuracy'])
    """
    model, data, mean, std = _opened(of, data)
    seen = PixelModel(model, mean, std, len(data.classes))
    random = torch.Generator().manual_seed(derive(seed, "robustness images"))
    ids = torch.randperm(len(data.test), generator=random)[:images].sort().values

    def accuracy(stream: str, change: Callable[[Tensor, Tensor, torch.Generator], Tensor]) -> float:
        random = torch.Generator().manual_seed(derive(seed, stream))
        right = [seen.right(change(x, y, random), y) for x, y in chunks(data.test, ids)]
        return float(torch.cat(right).double().mean())

    with evaluating(model):
        clean = accuracy("clean", lambda x, y, random: x)
        table = {
            name: [
                accuracy(name, lambda x, y, random, n=name, s=s: corrupt(x, n, s, random))  # type: ignore[misc]
                for s in SEVERITIES
            ]
            for name in corruptions
        }
        attacked = [
            {
                "epsilon": epsilon,
                "accuracy": accuracy(
                    "pgd",
                    lambda x, y, random, e=epsilon: pgd(seen, x, y, e, random, steps=steps),  # type: ignore[misc]
                ),
            }
            for epsilon in epsilons
        ]
    return {
        "images": len(ids),
        "seed": seed,
        "clean": clean,
        "corruptions": table,
        "corrupted": fmean(value for values in table.values() for value in values) if table else None,
        "pgd": attacked,
        "pgd_steps": steps,
    }


def _opened(
    of: nn.Module | Run, data: Data | None
) -> tuple[nn.Module, Data, tuple[float, ...], tuple[float, ...]]:
    """The network, its data and its normalisation, of a network or a run."""
    if isinstance(of, nn.Module):
        if data is None:
            raise ConfigError("a network alone does not say what to test it on", fix="give data as well")
        return of, data, data.mean, data.std
    if data is None:
        from ..data import load

        data = load(of.config.data)
    inputs = of.inputs()
    return of.student(), data, inputs.mean, inputs.std
