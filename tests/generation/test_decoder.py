"""The cached decoder says what the model says of the whole text, whatever was rolled back before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.generation.networks import KINDS, network, next_logits, prompts
from torch import nn

from limbeck.errors import ConfigError, ModelError
from limbeck.generation import Decoder
from limbeck.generation.decoder import cache_name, vocabulary

ROOM = 20


class Pairs(nn.Module):
    """A model whose cache is a tuple of pairs, or an object with two lists."""

    def __init__(self, inner, form):
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache):
        from transformers import DynamicCache

        cache = DynamicCache()
        if past_key_values is not None:
            pairs = past_key_values
            if self.form == "lists":
                pairs = list(zip(pairs.key_cache, pairs.value_cache))
            cache = DynamicCache([(keys, values) for keys, values in pairs])
        found = self.inner(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **{cache_name(self.inner): cache},
        )
        layers = getattr(found, cache_name(self.inner)).layers
        pairs = tuple((layer.keys, layer.values) for layer in layers)
        if self.form == "lists":
            pairs = SimpleNamespace(key_cache=[k for k, _ in pairs], value_cache=[v for _, v in pairs])
        return SimpleNamespace(logits=found.logits, past_key_values=pairs)


def walk(model, whole, lengths, seed):
    """Feed blocks of unlike useful length, roll back, drop and reorder rows; compare with whole texts."""
    generator = torch.Generator().manual_seed(seed)

    def number(high, low=0):
        return int(torch.randint(low, high, (), generator=generator))

    tokens, mask = prompts(lengths, seed=seed)
    texts = [row[kept > 0].tolist() for row, kept in zip(tokens, mask)]
    start = [len(text) for text in texts]
    with torch.no_grad():
        decoder = Decoder(model, tokens, mask.bool(), ROOM)
        for _ in range(8):
            block = number(5, 1)
            drafts = torch.randint(50, (len(texts), block - 1), generator=generator)
            begin = torch.tensor([text[-1:] for text in texts])
            logits = decoder.feed(torch.cat([begin, drafts], 1))
            for row, text in enumerate(texts):
                for place in range(block):
                    if len(text) + place < start[row] + ROOM:
                        expected = next_logits(whole, text + drafts[row, :place].tolist())
                        error = abs(logits[row, place].double().numpy() - expected).max()
                        assert error <= 1e-5 * max(1, abs(expected).max())
            rows = torch.arange(len(texts))
            if number(2):
                rows = torch.randperm(len(texts), generator=generator)
                rows = rows[: max(2, len(rows) - number(2))]
            kept = [min(number(block), start[row] + ROOM - 1 - len(texts[row])) for row in rows.tolist()]
            texts = [
                texts[row] + drafts[row, :count].tolist() + [number(50)] for row, count in zip(rows, kept)
            ]
            start = [start[row] for row in rows.tolist()]
            decoder.keep(rows, torch.tensor([len(text) - 1 for text in texts]))
            assert decoder.width == max(len(text) for text in texts) - 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [(5, 2, 7, 1), (1, 1), (3, 3, 3)], ids=str)
def test_what_was_rolled_back_leaves_no_trace(kind, lengths, seed):
    model = network(kind, seed)
    walk(model, model, lengths, seed)


@pytest.mark.parametrize("form", ["pairs", "lists"])
def test_other_forms_of_caches(form):
    model = network("llama")
    walk(Pairs(model, form), model, (5, 2, 7, 1), 0)


def test_equal_prompts_need_no_gathering():
    """All rows cut at one place: the cache is a slice, and what is behind it is gone."""
    model = network("llama")
    tokens, mask = prompts((4, 4, 4))
    with torch.no_grad():
        decoder = Decoder(model, tokens, mask.bool(), ROOM)
        decoder.feed(torch.full((3, 5), 7))
        assert decoder.cache.layers[0].keys.shape[2] == decoder.width == 8
        decoder.keep(torch.arange(3), torch.tensor([5, 5, 5]))
        assert decoder.cache.layers[1].values.shape[2] == decoder.width == 5
        decoder.keep(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
        assert decoder.cache is None


def test_filling_beyond_the_last_position_does_no_harm():
    """GPT-2 has no position there; the texts that still grow are not touched by it."""
    model = network("gpt2", positions=10)
    tokens, mask = prompts((7, 3))
    with torch.no_grad():
        decoder = Decoder(model, tokens, mask.bool(), 3)
        logits = decoder.feed(torch.full((2, 5), 7))
    expected = next_logits(model, [*tokens[1, -3:-1].tolist(), 7, 7, 7])
    torch.testing.assert_close(logits[1, 2].double(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_texts_longer_than_the_models_positions_are_refused():
    model = network("gpt2", positions=10)
    tokens, mask = prompts((7, 3))
    with pytest.raises(ConfigError, match="a prompt of 7 and 4 new tokens; expected at most 10"):
        Decoder(model, tokens, mask.bool(), 4)


def test_a_prompt_gives_logits_of_one_place_only():
    seen = []
    model = network("llama")
    model.lm_head.register_forward_hook(lambda module, inputs, out: seen.append(out.shape[1]))
    tokens, mask = prompts()
    with torch.no_grad():
        Decoder(model, tokens, mask.bool(), 4)
    assert seen == [1]


def test_a_sliding_window_is_good_until_it_is_full():
    window = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 0}
    model = network("qwen2", **window)
    tokens, mask = prompts((4, 2))
    with torch.no_grad():
        decoder = Decoder(model, tokens, mask.bool(), 20)
        decoder.feed(torch.full((2, 4), 7))
        decoder.keep(torch.arange(2), torch.tensor([5, 2]))
        logits = decoder.feed(torch.full((2, 3), 9))
        text = [*tokens[1, -2:-1].tolist(), 7, 9, 9, 9]
        expected = torch.tensor(next_logits(model, text))
        torch.testing.assert_close(logits[1, 2].double(), expected, rtol=1e-5, atol=1e-5)
        with pytest.raises(ModelError, match=r"layer 0 with shape \(2, 2, 11, 4\) after 12 tokens"):
            decoder.feed(torch.full((2, 4), 9))


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        (None, "got NoneType"),
        (SimpleNamespace(layers=[SimpleNamespace(conv_states=torch.ones(1))]), "layer 0 with conv_states"),
        ([(torch.ones(2, 3, 4), torch.ones(2, 3, 4))], r"layer 0 with shape \(2, 3, 4\) after 6 tokens"),
    ],
)
def test_caches_that_cannot_be_cut_are_refused(cache, words):
    class Model(nn.Module):
        def forward(self, input_ids, **rest):
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 5), past_key_values=cache)

    tokens, mask = prompts((7, 3))
    with pytest.raises(ModelError, match=words):
        Decoder(Model(), tokens, mask.bool(), 4)


def test_the_smallest_vocabulary_counts():
    assert vocabulary(network("llama", vocabulary=40), network("gpt2"), nn.Identity()) == 40


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_adapter_goes_by_the_names_of_its_model(kind):
    from peft import LoraConfig, get_peft_model

    model = network(kind)
    targets = ["c_attn"] if kind == "gpt2" else ["q_proj"]
    adapted = get_peft_model(model, LoraConfig(target_modules=targets, fan_in_fan_out=kind == "gpt2"))
    assert cache_name(adapted) == cache_name(model)
    walk(adapted, adapted, (5, 3, 1), seed=2)
