"""Sampling from one model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from .decoder import Decoder
from .sampling import Sampler, row_numbers, sampling
from .texts import Generated, Texts

PLAIN = Sampler()
"""The model's own distribution."""


def generate(
    model: nn.Module,
    prompts: Int[Tensor, "rows prompt"],
    mask: Int[Tensor, "rows prompt"] | Bool[Tensor, "rows prompt"],
    *,
    max_new_tokens: int,
    generator: torch.Generator,
    eos: int | Sequence[int] | None = None,
    sampler: Sampler = PLAIN,
    pad: int = 0,
) -> Generated:
    r"""Continue each prompt, :math:`y_i \sim M(\cdot | x, y_{<i})`, until its end or ``max_new_tokens``.

    A row's text depends on its prompt and on its share of the generator's numbers (``row_numbers``): a batch
    says what its rows one after another would say, up to the rounding of the model. Rows that have ended
    leave the batch. The model samples in evaluation mode and without gradients, and is left as it was found.

    Args:
        model: a causal language model of transformers, or one like it (see ``Decoder``); of a wrapper for
            distribution, the module inside.
        prompts: token ids ``(B, P)``, padded on the left.
        mask: ``(B, P)``, 0 where there is padding.
        max_new_tokens: tokens of the longest response.
        generator: gives one seed per row.
        eos: id or ids of tokens that end a text.
        sampler: how tokens are drawn.
        pad: id that fills up rows that have ended.

    Returns:
        The texts, with masks of what is text and what is response.

    Raises:
        ShapeError: prompts and mask do not fit, or the padding is not on the left.
        ConfigError: an option is not valid, or the texts would exceed the model's positions.
        ModelError: the model's cache cannot be used, or its logits are not finite.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=9, **sizes))
        >>> prompts = torch.tensor([[0, 0, 3], [4, 5, 6]])
        >>> mask = torch.tensor([[0, 0, 1], [1, 1, 1]])
        >>> found = generate(model, prompts, mask, max_new_tokens=4, generator=torch.Generator())
        >>> found.tokens.shape, found.lengths
        (torch.Size([2, 7]), tensor([4, 4]))
    """
    texts = Texts(prompts, mask, room=max_new_tokens, eos=eos, pad=pad)
    numbers = row_numbers(generator, len(prompts), max_new_tokens).to(prompts.device)
    rows = torch.arange(len(prompts), device=prompts.device)
    with sampling(model):
        decoder = Decoder(model, prompts, texts.mask, max_new_tokens)
        while len(rows):
            scores = decoder.feed(texts.last(rows)[:, None])[:, -1]
            chosen = sampler.pick(scores, numbers[rows, texts.lengths[rows], 0])
            texts.write(rows, chosen[:, None], torch.ones_like(rows))
            left = texts.going(rows).nonzero().squeeze(1)
            if len(left) < len(rows):
                decoder.keep(left, decoder.filled[left])
                rows = rows[left]
    return texts.generated()
