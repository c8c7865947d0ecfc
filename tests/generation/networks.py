"""Small untrained language models, and the paper's algorithm without cache, batch or blocks."""

from __future__ import annotations

import numpy as np
import torch

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
KINDS = ("gpt2", "llama", "qwen2")


def network(kind, seed=0, *, vocabulary=50, positions=64, dropout=0.0, sharp=40.0, **more):
    """A model in evaluation mode; ``sharp`` scales the head, so that an untrained one has preferences."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    torch.manual_seed(seed)
    shared = {"vocab_size": vocabulary, "tie_word_embeddings": False, **ENDS, **more}
    if kind == "gpt2":
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        model = GPT2LMHeadModel(
            GPT2Config(n_positions=positions, n_embd=16, n_layer=2, n_head=4, **drops, **shared)
        )
        torch.nn.init.normal_(model.transformer.wpe.weight, std=0.5)
    else:
        kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
        config, build = kinds[kind]
        model = build(
            config(
                max_position_embeddings=positions,
                num_key_value_heads=2,
                attention_dropout=dropout,
                **SIZE,
                **shared,
            )
        )
    for weights in model.parameters():
        if weights.dim() > 1 and weights.shape != model.lm_head.weight.shape:
            weights.data *= 8  # what a token says then depends on the ones before it
    model.lm_head.weight.data *= sharp
    return model.eval()


def prompts(lengths=(5, 2, 7, 1), vocabulary=50, seed=0):
    """Left-padded prompts and their mask."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
    return tokens * mask, mask.long()


@torch.no_grad()
def next_logits(model, text):
    """Logits of the token after a text, by one forward pass over all of it."""
    return model(input_ids=torch.tensor([text])).logits[0, -1].double().numpy()


def quantile(logits, sampler, number):
    """Temperature, top-k and nucleus, then the inverse of the cumulative distribution."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    if sampler.temperature == 0:
        return order[0]
    weights = np.exp((logits - logits.max()) / sampler.temperature)
    allowed = order[: sampler.top_k]
    total, before, nucleus = weights[allowed].sum(), 0.0, []
    for token in allowed:
        if before / total >= sampler.top_p and nucleus:
            break
        nucleus.append(token)
        before += weights[token]
    mass = np.array([weights[token] if token in nucleus else 0.0 for token in range(len(logits))])
    cumulative = mass.cumsum()
    return int((cumulative <= number * cumulative[-1]).sum())


def interleaved_text(student, teacher, prompt, *, room, top_k, numbers, samplers, eos=()):
    """One row by the paper's algorithm 1: token after token, both models asked for each. Text, whose."""
    text, response, whose = list(prompt), [], []
    for own, other in numbers[:room]:
        token = quantile(next_logits(student, text), samplers[0], own)
        judged = next_logits(teacher, text)
        best = sorted(range(len(judged)), key=lambda other_token: (-judged[other_token], other_token))
        replace = token not in best[:top_k]
        if replace:
            token = quantile(judged, samplers[1], other)
        text.append(token)
        response.append(token)
        whose.append(replace)
        if token in eos:
            break
    return response, whose


def plain_text(model, prompt, *, room, numbers, sampler, eos=()):
    """One row, token after token."""
    text, response = list(prompt), []
    for number, _ in numbers[:room]:
        token = quantile(next_logits(model, text), sampler, number)
        text.append(token)
        response.append(token)
        if token in eos:
            break
    return response


def responses(found):
    """Lists of ids, one per row."""
    return [row[kept].tolist() for row, kept in zip(found.tokens, found.response)]
