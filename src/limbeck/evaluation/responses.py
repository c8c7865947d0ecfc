"""Responses that a language model writes to prompts, and how near they come to references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..data.text import prompt_ids
from ..errors import DependencyError
from ..generation import Sampler, generate

GREEDY = Sampler(temperature=0)
"""Always the likeliest token."""


def respond(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    new_tokens: int,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    batch: int = 64,
) -> list[str]:
    """What a model writes after each prompt, up to its end token or ``new_tokens``.

    Args:
        model: a causal language model of transformers.
        tokenizer: its fast tokenizer, with an end token.
        prompts: texts, written as in training (no template is added).
        new_tokens: tokens of the longest response.
        sampler: how tokens are drawn.
        seed: of the draws.
        batch: prompts at a time.

    Raises:
        ConfigError: a prompt and its response exceed the model's positions.
    """
    device = next(model.parameters()).device
    known = [prompt_ids(tokenizer, prompt) or [tokenizer.eos_token_id] for prompt in prompts]
    generator, texts = torch.Generator().manual_seed(seed), []
    for first in range(0, len(known), batch):
        rows = known[first : first + batch]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        found = generate(
            model,
            ids,
            mask,
            max_new_tokens=new_tokens,
            generator=generator,
            eos=tokenizer.eos_token_id,
            sampler=sampler,
        )
        for tokens, length in zip(found.tokens[:, width:].tolist(), found.lengths.tolist(), strict=True):
            texts.append(tokenizer.decode(tokens[:length], skip_special_tokens=True))
    return texts


def response_metrics(responses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """How near responses come to references.

    Returns:
        ``exact_match``: share of equal texts, white space around them aside; ``error_rate``: insertions,
        deletions and replacements of words per word of the references (phoneme error rate where words are
        phonemes), may exceed 1; ``rouge_l``: mean F measure of the longest common subsequence of words, by the
        package rouge-score, without stemming.

    Raises:
        DependencyError: rouge-score is not installed.

    Example:
        >>> response_metrics(["K AE1 T", "D AO1 G"], ["K AE1 T", "D AO1 G Z"])
        {'exact_match': 0.5, 'error_rate': 0.14285714285714285, 'rouge_l': 0.9285714285714286}
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise DependencyError("Rouge-L needs rouge-score", fix="pip install 'limbeck[llm]'") from None
    pairs = [(a.strip(), b.strip()) for a, b in zip(responses, references, strict=True)]
    scorer = RougeScorer(["rougeL"])
    words = sum(len(b.split()) for _, b in pairs)
    return {
        "exact_match": sum(a == b for a, b in pairs) / max(len(pairs), 1),
        "error_rate": sum(edits(a.split(), b.split()) for a, b in pairs) / max(words, 1),
        "rouge_l": sum(scorer.score(b, a)["rougeL"].fmeasure for a, b in pairs) / max(len(pairs), 1),
    }


def edits(left: Sequence[str], right: Sequence[str]) -> int:
    """Fewest insertions, deletions and replacements that turn one sequence into the other.

    Example:
        >>> edits("kitten", "sitting")
        3
    """
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]
