"""Each loss, forward and backward, against a direct transcription of its formula in the same run.

    python benchmarks/losses.py [--quick] [--full] [--only NAME ...] [--threads N]

Time is the median over alternating pairs; memory is the peak of all CPU allocations of one forward and backward,
workspaces inside kernels included (``_pairs.peak_memory``). Both sides get the same float32 inputs, and their values
and gradients are compared before anything is timed. The transcriptions are in ``_logit_pairs.py``,
``_feature_pairs.py``, ``_embedding_pairs.py``, ``_transport_pairs.py`` and ``_token_pairs.py``;
``--full`` adds the largest sizes.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from _pairs import Figure, compare, compare_memory, finish, parse, parser

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from _embedding_pairs import EMBEDDINGS
from _feature_pairs import FEATURES
from _logit_pairs import LOGIT_LOSSES
from _token_pairs import TOKENS
from _transcribed import LARGE, MAPS, Pair, Size, step
from _transport_pairs import TRANSPORT

PAIRS: dict[str, Pair] = {**LOGIT_LOSSES, **FEATURES, **EMBEDDINGS, **TOKENS, **TRANSPORT}
"""Name, with a slash before what is special -> pair. Every public loss has one."""
DRAWN = ("crd/candidates",)
"""Pairs whose two sides draw at random, each in its own way."""


def check(name: str, pair: Pair, size: Size) -> None:
    """Both sides give the same value and the same gradients."""
    if name in DRAWN:
        return
    mine, theirs = (step(side, pair.inputs(size))() for side in (pair.ours, pair.reference))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) if b.dim() else 1e-5)


def measured(name: str, pair: Pair, size: Size, *, budget: float, pairs: int) -> list[Figure]:
    """Time and memory of a pair at a size."""
    inputs = pair.inputs(size)
    ours, reference = step(pair.ours, inputs), step(pair.reference, inputs)
    label = f"losses/{name}/{'x'.join(map(str, size))}"
    time = compare(f"{label}/time", ours, reference, goal=pair.goal, pairs=pairs, budget=budget)
    return [time, compare_memory(f"{label}/memory", ours, reference, goal=pair.goal)]


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--full", action="store_true", help="the largest sizes too (a quarter of an hour)")
    words.add_argument("--only", nargs="+", default=sorted(PAIRS), metavar="NAME", help="these pairs")
    words.add_argument("--budget", type=float, help="seconds for each figure of time (default 3, quick 0.5)")
    given = parse(words)
    given.budget = given.budget or (0.5 if given.quick else 3)
    figures: list[Figure] = []
    for name in given.only:
        pair = PAIRS[name]
        for size in pair.sizes:
            if given.full or math.prod(size) <= LARGE or size in MAPS:
                check(name, pair, size)
                found = measured(name, pair, size, budget=given.budget, pairs=31 if given.quick else 151)
                print(*(figure.line() for figure in found), sep="\n", file=sys.stderr, flush=True)
                figures += found
    finish(figures)


if __name__ == "__main__":
    main()
