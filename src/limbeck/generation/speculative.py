"""Interleaved sampling of speculative knowledge distillation: the student writes, the teacher corrects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from ..errors import ConfigError
from .acceptance import accept, accepted_prefix, check_rule
from .decoder import Decoder, vocabulary
from .sampling import Sampler, row_numbers, sampling
from .statistics import Statistics
from .texts import Generated, Texts

STUDENT = Sampler(temperature=0.5, top_p=0.5)
"""The student's sampler of the paper."""

TEACHER = Sampler(temperature=0.2, top_p=0.5)
"""The teacher's sampler of the paper."""


@dataclass(frozen=True)
class Interleaved(Generated):
    """Texts of which student and teacher wrote a part each.

    Attributes:
        replaced: ``(B, L)``, True where the token is the teacher's.
        statistics: what was drafted, accepted and replaced.
    """

    replaced: Bool[Tensor, "rows length"]
    statistics: Statistics


def interleave(
    student: nn.Module,
    teacher: nn.Module,
    prompts: Int[Tensor, "rows prompt"],
    mask: Int[Tensor, "rows prompt"] | Bool[Tensor, "rows prompt"],
    *,
    max_new_tokens: int,
    generator: torch.Generator,
    eos: int | Sequence[int] | None = None,
    top_k: int | None = 25,
    top_p: float | None = None,
    gamma: int = 5,
    student_sampler: Sampler = STUDENT,
    teacher_sampler: Sampler = TEACHER,
    pad: int = 0,
) -> Interleaved:
    r"""Texts of the student in which the teacher replaces the tokens that it finds improbable.

    For :math:`i = 1, 2, \dots`: draw :math:`y_i \sim M_s(\cdot | x, y_{<i})`; if :math:`y_i` is not among
    the K most probable tokens of :math:`M_t(\cdot | x, y_{<i})` (``accept``), draw :math:`y_i` from the
    teacher instead. It is done in blocks: the student drafts up to ``gamma`` tokens, one pass of the teacher
    scores them all, the longest accepted prefix is kept, the teacher's token takes the place of the first
    rejected one, and the rest is discarded. A draft that is accepted as a whole gets no further token.

    The random numbers belong to row and position (``row_numbers``), so neither ``gamma`` nor the batch
    changes a text, up to the rounding of the models: blocks only save passes of the teacher.

    K = 1 with a greedy teacher is the teacher's greedy text. :math:`K \ge V` is a text of the student alone,
    ``generate``'s with the same generator, and does not ask the teacher.

    Both models sample in evaluation mode and without gradients, and are left as they were found. Where
    their vocabularies are padded to unlike sizes, both use the smaller one.

    Args:
        student: a causal language model (see ``Decoder``); of a wrapper for distribution, the module inside.
        teacher: one with the student's tokenizer.
        prompts: token ids ``(B, P)``, padded on the left.
        mask: ``(B, P)``, 0 where there is padding.
        max_new_tokens: tokens of the longest response.
        generator: gives one seed per row.
        eos: id or ids of tokens that end a text, whoever wrote them.
        top_k: K; ``None`` with ``top_p``.
        top_p: mass of the other rule of ``accept``.
        gamma: tokens of a draft, at least 1.
        student_sampler: how drafts are drawn.
        teacher_sampler: how replacements are drawn; it does not take part in accepting.
        pad: id that fills up rows that have ended.

    Returns:
        The texts, whose token is whose, and the statistics.

    Raises:
        ShapeError: prompts and mask do not fit, or the padding is not on the left.
        ConfigError: an option is not valid, or the texts would exceed a model's positions.
        ModelError: a model's cache cannot be used, or its logits are not finite.

    Source:
        Xu et al., ICLR 2025, arXiv:2410.11325, algorithm 1 and section 3; K, gamma and the samplers' defaults
        from the paper and the released configuration. Deviations from the released code: see ``accept``; the
        samplers are each model's own, and no token is drawn that is not used.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> config = LlamaConfig(vocab_size=40, **sizes)
        >>> student, teacher = LlamaForCausalLM(config), LlamaForCausalLM(config)
        >>> prompts, draws = torch.tensor([[1, 2], [3, 4]]), torch.Generator().manual_seed(0)
        >>> found = interleave(
        ...     student, teacher, prompts, torch.ones_like(prompts), max_new_tokens=6, generator=draws
        ... )
        >>> found.statistics.tokens, bool((found.replaced.sum() == found.statistics.replaced).all())
        (12, True)
    """
    check_rule(top_k, top_p)
    if gamma < 1:
        raise ConfigError("gamma is not valid", got=gamma, expected="a number of at least 1")
    texts = Texts(prompts, mask, room=max_new_tokens, eos=eos, pad=pad)
    numbers = row_numbers(generator, len(prompts), max_new_tokens).to(prompts.device)
    size = vocabulary(student, teacher)
    asking = size is None or top_k is None or top_k < size
    replaced = torch.zeros_like(texts.tokens, dtype=torch.bool)
    rows, statistics = torch.arange(len(prompts), device=prompts.device), Statistics()
    with sampling(student, teacher):
        writer = Decoder(student, prompts, texts.mask, max_new_tokens)
        judge = Decoder(teacher, prompts, texts.mask, max_new_tokens) if asking else None
        while len(rows):
            at = texts.lengths[rows]
            count = min(gamma, max_new_tokens - int(at.min()))
            begin = texts.last(rows)[:, None]
            drafts = begin[:, :0]
            for step in range(count):
                scores = writer.feed(begin if step == 0 else drafts[:, -1:])[:, -1, :size]
                places = (at + step).clamp(max=max_new_tokens - 1)
                token = student_sampler.pick(scores, numbers[rows, places, 0])
                drafts = torch.cat([drafts, token[:, None]], 1)
            ends = texts.ending(drafts)
            sizes = (accepted_prefix(~ends) + 1).clamp(max=count).minimum(max_new_tokens - at)
            kept = sizes
            if judge is not None:
                scores = judge.feed(torch.cat([begin, drafts[:, :-1]], 1))[..., :size]
                kept = accepted_prefix(accept(drafts, scores, top_k=top_k, top_p=top_p)).minimum(sizes)
                wrong = (kept < sizes).nonzero().squeeze(1)
                places = kept[wrong]
                if len(wrong):
                    drafts[wrong, places] = teacher_sampler.pick(
                        scores[wrong, places], numbers[rows[wrong], (at + kept)[wrong], 1]
                    )
                    replaced[rows[wrong], texts.start + (at + kept)[wrong]] = True
            written = kept + (kept < sizes)
            texts.write(rows, drafts, written)
            statistics += Statistics(
                drafted=int(sizes.sum()),
                accepted=int(kept.sum()),
                replaced=int((kept < sizes).sum()),
                passes=len(rows) if judge is not None else 0,
            )
            left = texts.going(rows).nonzero().squeeze(1)
            for decoder in (writer, judge):
                if decoder is not None:
                    decoder.keep(left, decoder.filled[left] - count + written[left])
            rows = rows[left]
    done = texts.generated()
    return Interleaved(
        tokens=done.tokens,
        mask=done.mask,
        response=done.response,
        lengths=done.lengths,
        replaced=replaced[:, : done.tokens.shape[1]],
        statistics=statistics,
    )
