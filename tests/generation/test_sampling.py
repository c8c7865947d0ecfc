"""Samplers against transformers' and against a sum over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from tests.generation.networks import network, quantile
from torch import nn

from limbeck.errors import ConfigError, ModelError
from limbeck.generation import Sampler, row_numbers, sampling

SAMPLERS = [
    Sampler(),
    Sampler(temperature=0.2, top_p=0.5),
    Sampler(temperature=2.0, top_k=5),
    Sampler(temperature=0.7, top_k=7, top_p=0.8),
    Sampler(top_p=1e-9),
    Sampler(top_k=1),
    Sampler(top_k=100),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(rows=6, vocabulary=23, seed=0, size=3.0):
    return size * torch.randn(rows, vocabulary, generator=seeded(seed))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_distribution_is_that_of_transformers(sampler):
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    x = logits()
    expected = TemperatureLogitsWarper(float(sampler.temperature))(None, x)
    if sampler.top_k is not None:
        expected = TopKLogitsWarper(sampler.top_k)(None, expected)
    if sampler.top_p < 1:
        expected = TopPLogitsWarper(sampler.top_p)(None, expected)
    torch.testing.assert_close(sampler.warp(x).softmax(1), expected.softmax(1))


@pytest.mark.parametrize("sampler", [*SAMPLERS, Sampler(temperature=0)], ids=str)
def test_a_number_picks_the_token_at_its_quantile(sampler):
    x = logits(rows=200).double()
    numbers = torch.rand(200, generator=seeded(1), dtype=torch.float64)
    expected = [quantile(row.numpy(), sampler, float(u)) for row, u in zip(x, numbers)]
    assert sampler.pick(x, numbers).tolist() == expected


def test_draws_have_the_distributions_frequencies():
    sampler, x = Sampler(temperature=1.5, top_p=0.9), logits(1, 8)
    drawn = sampler.draw(x.expand(40_000, 8), seeded())
    shares = torch.bincount(drawn, minlength=8) / len(drawn)
    p = sampler.warp(x)[0].softmax(0)
    assert (shares[p == 0] == 0).all()
    torch.testing.assert_close(shares, p, atol=0.012, rtol=0)


def test_the_crossing_token_is_kept():
    x = torch.tensor([[0.5, 0.3, 0.2]]).log()
    for p, kept in ((0.4, 1), (0.5, 1), (0.6, 2), (0.79, 2), (0.81, 3), (1.0, 3)):
        assert Sampler(top_p=p).warp(x).isfinite().sum() == kept


def test_equal_tokens_are_ordered_by_id():
    x = torch.tensor([[1.0, 3.0, 3.0, 1.0, 3.0, 0.0]])
    for k, kept in ((1, [1]), (2, [1, 2]), (3, [1, 2, 4]), (4, [0, 1, 2, 4]), (5, [0, 1, 2, 3, 4])):
        assert Sampler(top_k=k).warp(x)[0].isfinite().nonzero().squeeze(1).tolist() == kept
    assert Sampler(top_p=0.5).warp(torch.zeros(1, 4))[0].isfinite().tolist() == [True, True, False, False]
    assert Sampler(temperature=0).draw(x, seeded()).tolist() == [1]


@pytest.mark.parametrize("sampler", [*SAMPLERS, Sampler(temperature=0)], ids=str)
def test_impossible_tokens_are_never_drawn(sampler):
    x = torch.full((1000, 9), -math.inf)
    x[:, [3, 6]] = torch.tensor([0.0, 1.0])
    assert set(sampler.draw(x, seeded()).tolist()) <= {3, 6}
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert set(sampler.pick(x[:2], ends).tolist()) <= {3, 6}


@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_extreme_logits_and_temperatures(temperature):
    x = 300 * logits()
    sampler = Sampler(temperature=temperature, top_p=0.9)
    drawn = sampler.draw(x, seeded())
    assert ((drawn >= 0) & (drawn < x.shape[1])).all()
    if temperature < 1e-3:
        assert torch.equal(drawn, x.argmax(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = logits().to(dtype)
    sampler = Sampler(temperature=0.8, top_p=0.9)
    assert sampler.warp(x).dtype == torch.float32
    assert torch.equal(sampler.draw(x, seeded()), sampler.draw(x.float(), seeded()))


def test_a_restored_generator_draws_the_same():
    generator, x = seeded(), logits(50)
    state = generator.get_state()
    first, second = (Sampler().draw(x, generator) for _ in range(2))
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(Sampler().draw(x, generator), first)


def test_the_global_stream_is_not_touched():
    state = torch.get_rng_state()
    Sampler().draw(logits(), seeded())
    row_numbers(seeded(), 3, 4)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(bad, temperature):
    x = logits()
    x[2, 3] = bad
    with pytest.raises(ModelError, match="no token can be drawn"):
        Sampler(temperature=temperature).draw(x, seeded())
    with pytest.raises(ModelError, match="a row of -inf"):
        Sampler(temperature=temperature).draw(torch.full((1, 4), -math.inf), seeded())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -0.1}, "temperature is not valid; got -0.1"),
        ({"temperature": math.nan}, "temperature is not valid"),
        ({"temperature": math.inf}, "temperature is not valid"),
        ({"top_p": 0.0}, "top_p is not valid; got 0.0"),
        ({"top_p": 1.1}, "top_p is not valid"),
        ({"top_p": math.nan}, "top_p is not valid"),
        ({"top_k": 0}, "top_k is not valid; got 0"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Sampler(**options)


def test_a_sampler_is_frozen():
    with pytest.raises(AttributeError):
        Sampler().temperature = 2.0


def test_rows_have_their_own_numbers():
    both = row_numbers(seeded(), 20, 30)
    assert both.shape == (20, 30, 2)
    assert both.unique().numel() == both.numel()
    generator = seeded()
    one_by_one = torch.cat([row_numbers(generator, 1, 30) for _ in range(20)])
    assert torch.equal(both, one_by_one)
    assert torch.equal(both[:, :7], row_numbers(seeded(), 20, 7))
    assert abs(float(both.mean()) - 0.5) < 0.03


def test_modes_come_back_even_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    model.train()
    model[1][1].eval()
    before = [module.training for module in model.modules()]

    def fails():
        with sampling(model, model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_weights_get_gradients_after_sampling_under_autocast(monkeypatch):
    dropped, drop = [], torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: (dropped.append(True), drop()))
    model = network("llama").train()
    tokens = torch.tensor([[3, 4, 5]])
    with torch.autocast("cpu", torch.bfloat16):
        with sampling(model):
            model(input_ids=tokens)
        assert dropped
        model(input_ids=tokens).logits.float().square().sum().backward()
    assert all(weights.grad is not None for weights in model.parameters())
