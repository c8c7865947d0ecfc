"""A model's answers to the prompts of a split, as data to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import ConfigError, DataError
from ..generation import Sampler
from ..seeds import derive
from .responses import GREEDY, respond

if TYPE_CHECKING:
    from ..runs import Run

BATCH = 64
"""Prompts at a time; part of what decides the draws."""


def answer(
    run: Run,
    model: nn.Module,
    split: str,
    out: Path,
    *,
    new_tokens: int,
    sampler: Sampler = GREEDY,
    seed: int = 0,
) -> int:
    """Write ``{"prompt", "response"}`` of every sample of a split, as sequence-level KD learns from.

    A file that is there already is gone on with from its last whole batch: what is drawn follows from seed and place
    alone, so that it ends as if it had never been stopped. Give the same settings.

    Args:
        run: whose data give the prompts.
        model: its student.
        split: train, validation or test.
        out: the file of JSON lines.
        new_tokens: tokens of the longest response.
        sampler: how tokens are drawn.
        seed: of the draws.

    Returns:
        How many answers are in the file.

    Raises:
        ConfigError: no such split.
        DataError: the file holds answers to other prompts, or the data cannot be read.

    Source:
        Kim and Rush, EMNLP 2016, arXiv:1606.07947; the teacher's text by greedy or drawn tokens, not by beam search.
    """
    from ..data import load

    if split not in ("train", "validation", "test"):
        raise ConfigError(f"no split {split!r}", expected="train, validation or test")
    data: Any = load(run.config.data)
    prompts = [prompt for prompt, _ in getattr(data, split).texts]
    done = _done(out, prompts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a" if done else "w", encoding="utf-8") as file:
        for first in range(done, len(prompts), BATCH):
            asked = prompts[first : first + BATCH]
            draws = derive(seed, "answers", first)
            written = respond(
                model, data.tokenizer, asked, new_tokens=new_tokens, sampler=sampler, seed=draws, batch=BATCH
            )
            rows = [{"prompt": p, "response": r} for p, r in zip(asked, written, strict=True)]
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
    return len(prompts)


def _done(out: Path, prompts: list[str]) -> int:
    """Answers in whole batches that are there already; the file is cut to them."""
    if not out.is_file():
        return 0
    lines = out.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    try:
        known = [json.loads(line)["prompt"] for line in whole]
    except (ValueError, KeyError, TypeError):
        known = [""] * (len(prompts) + 1)
    if known != prompts[: len(known)]:
        raise DataError(
            f"{out} holds something else than answers to these prompts",
            fix="choose another file, or remove it",
        )
    done = len(known) if len(known) == len(prompts) else len(known) - len(known) % BATCH
    with out.open("r+b") as file:
        file.truncate(sum(map(len, whole[:done])))
    return done
