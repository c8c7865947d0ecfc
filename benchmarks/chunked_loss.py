"""Token losses in pieces against whole logits, and against TRL's kernel, at the sizes of language models.

    python benchmarks/chunked_loss.py [--quick] [--only NAME ...] [--threads N]

2,048 tokens, a student of width 256 or 512 under a teacher twice as wide, 32,000 and 128,000 classes (``--quick``: 512
tokens, 32,000 classes). Forward and backward to hidden states and head, float32. The dense side is what everyone
writes first: both models' logits, ``log_softmax``, ``kl_div``. TRL is ``trl.kernels.chunked_divergence`` from PyPI, in
``trl`` of the virtual environment (``make bench`` puts it there, without its dependencies), as its trainer calls it;
only at width 256 and 32,000 classes, since it takes minutes at the others. Values and gradients are compared before
anything is timed, at 32,000 classes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _pairs import Figure, compare, compare_memory, finish, parse, parser
from _transcribed import normal, step, whole
from torch import Tensor
from torch.nn import functional as F

from limbeck.losses import Head, chunked_cross_entropy, chunked_divergence

sys.path.append(str(Path(sys.prefix) / "trl"))
WIDTHS, CLASSES = (256, 512), (32_000, 128_000)
MEMORY, TIME = 0.2, 1.15
"""Goals against whole logits."""


def inputs(tokens: int, width: int, classes: int) -> tuple[Tensor, ...]:
    """Hidden states and head of the student, then of the teacher, then labels."""
    student = normal(tokens, width, grad=True), normal(classes, width, seed=1, scale=width**-0.5, grad=True)
    teacher = normal(tokens, 2 * width, seed=2), normal(classes, 2 * width, seed=3, scale=(2 * width) ** -0.5)
    return *student, *teacher, whole(classes, tokens)


def pieces(beta: float) -> Callable[..., Tensor]:
    return lambda h, w, g, v, y: chunked_divergence(h, Head(w), g, Head(v), divergence="jsd", beta=beta)


def dense(h: Tensor, w: Tensor, g: Tensor, v: Tensor, y: Tensor) -> Tensor:
    log_q, log_p = F.log_softmax(h @ w.T, 1), F.log_softmax(g @ v.T, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def dense_jsd(h: Tensor, w: Tensor, g: Tensor, v: Tensor, y: Tensor) -> Tensor:
    log_q, log_p = F.log_softmax(h @ w.T, 1), F.log_softmax(g @ v.T, 1)
    log_m = torch.logaddexp(log_q, log_p) - torch.tensor(2.0).log()
    halves = (F.kl_div(log_m, x, reduction="batchmean", log_target=True) for x in (log_p, log_q))
    return sum(halves, torch.zeros(())) / 2


def trl(beta: float) -> Callable[..., Tensor]:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def loss(h: Tensor, w: Tensor, g: Tensor, v: Tensor, y: Tensor) -> Tensor:
        per_token: Tensor = ChunkedDivergenceFunction.apply(h, w, None, g, v, None, beta)[0]
        return per_token.mean()

    return loss


PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], float, float]] = {
    "forward_kl": (pieces(0.0), dense, TIME, MEMORY),
    "jsd": (pieces(0.5), dense_jsd, TIME, MEMORY),
    "cross_entropy": (
        lambda h, w, g, v, y: chunked_cross_entropy(h, Head(w), y),
        lambda h, w, g, v, y: F.cross_entropy(h @ w.T, y),
        TIME,
        0.5,
    ),
    "forward_kl/trl": (pieces(0.0), lambda *x: trl(0.0)(*x), 1.0, 1.0),
    "jsd/trl": (pieces(0.5), lambda *x: trl(0.5)(*x), 1.0, 1.0),
}
"""Name -> ours, the other side, the goals for time and memory."""


def check(mine: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Both sides give the same value and the same gradients."""
    for a, b in zip(mine(), theirs(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def pairs_at(width: int, classes: int) -> list[str]:
    """The pairs that are measured at a size."""
    return [name for name in PAIRS if not name.endswith("/trl") or (width, classes) == (256, 32_000)]


def measured(name: str, tokens: int, width: int, classes: int) -> list[Figure]:
    """Time and memory of a pair at a size."""
    mine, other, time, memory = PAIRS[name]
    given = inputs(tokens, width, classes)
    ours, reference = step(mine, given), step(other, given)
    large = classes > 32_000
    if not large:
        check(ours, reference)
    label = f"chunked_loss/{name}/{tokens}x{width}x{classes}"
    goal = memory if tokens >= 2048 else 1.0  # the head's own gradient is all that counts for few tokens
    return [
        compare(f"{label}/time", ours, reference, goal=time, pairs=2 if large else 3, warmup=0),
        compare_memory(f"{label}/memory", ours, reference, goal=goal, warmup=0),
    ]


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--only", nargs="+", metavar="NAME", help="pairs, or sizes such as 2048x256x32000")
    given = parse(words)
    sizes = [(512, 256, 32_000)] if given.quick else [(2048, w, c) for c in CLASSES for w in WIDTHS]
    figures: list[Figure] = []
    for size in sizes:
        label = "x".join(map(str, size))
        for name in pairs_at(*size[1:]):
            if given.only is None or {name, label, f"{name}/{label}"} & set(given.only):
                figures += measured(name, *size)
                print(*(figure.line() for figure in figures[-2:]), sep="\n", file=sys.stderr, flush=True)
    finish(figures)


if __name__ == "__main__":
    main()
