"""Entropic transport between rows of cosine similarities: our solver against geomloss and POT.

    python benchmarks/transport.py [--quick] [--threads N]

Debiased value and gradient for 128 samples of ten kinds, half squared distance, float32. Time is a ratio per solver
and epsilon. The error is one minus the cosine of the gradient with that of a plan converged in float64, ours over
geomloss': below 1 is nearer. POT is called as ``ot.solve`` with the envelope gradient, geomloss with its defaults.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from _pairs import Figure, arguments, compare, finish
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from limbeck.losses import sinkhorn_divergence
from limbeck.losses.gram_ot import cosines

N, D = 128, 64
EPSILONS = (0.1, 0.01, 0.001)


def rows(seed: int) -> Tensor:
    """Similarities of rectified features that lie about ten centres."""
    draws = torch.Generator().manual_seed(seed)
    centres, kinds = torch.randn(10, D, generator=draws), torch.randint(10, (N,), generator=draws)
    return cosines(torch.relu(centres[kinds] + 0.7 * torch.randn(N, D, generator=draws)))


def geomloss(x: Tensor, y: Tensor, blur: float) -> Tensor:
    from geomloss import SamplesLoss

    found: Tensor = SamplesLoss("sinkhorn", p=2, blur=blur, backend="tensorized")(x, y)
    return found


def pot(x: Tensor, y: Tensor, blur: float) -> Tensor:
    import ot

    def cost(a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = ot.solve(ot.dist(a, b) / 2, reg=blur**2, grad="envelope").value
        return found

    return cost(x, y) - (cost(x, x) + cost(y, y)) / 2


def gradient(call: Callable[..., Tensor], x: Tensor, y: Tensor, blur: float) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(call(x, y, blur=blur), x)
    return found.flatten().double()


def converged(x: Tensor, y: Tensor, blur: float) -> Tensor:
    def exact(x: Tensor, y: Tensor, blur: float) -> Tensor:
        return sinkhorn_divergence(x, y, blur=blur, iterations=5000, tolerance=1e-7)

    return gradient(exact, x.double(), y.double(), blur)


def main() -> None:
    given = arguments(__doc__)
    warnings.filterwarnings("ignore", message=".*did not converge.*")
    x, y, figures = rows(0), rows(1), []
    for eps in EPSILONS:
        blur = eps**0.5
        truth = converged(x, y, blur)

        def error(call: Callable[..., Tensor], blur: float = blur, truth: Tensor = truth) -> float:
            return float(1 - torch.nn.functional.cosine_similarity(gradient(call, x, y, blur), truth, 0))

        for name, theirs in (("geomloss", geomloss), ("pot", pot)):
            sides = [lambda c=call, b=blur: gradient(c, x, y, b) for call in (sinkhorn_divergence, theirs)]  # type: ignore[misc]
            goal, pairs = (1.25, 9 if given.quick else 31)
            figures.append(
                compare(f"transport/eps {eps:g}/{name}/time", *sides, goal=goal, pairs=pairs, warmup=2)
            )
            if name == "pot":  # it stops at 1e-9 or so: the oracle, not a rival
                continue
            mine, his = error(sinkhorn_divergence), error(theirs)
            figures.append(
                Figure(
                    f"transport/eps {eps:g}/{name}/error", mine / his, 1.0, "lower", 1, mine, his, "1 - cos"
                )
            )
    finish(figures)


if __name__ == "__main__":
    main()
