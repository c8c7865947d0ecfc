"""The rule of acceptance, by sorting and at its limits; ``tests/parity`` has the released code's."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from limbeck.errors import ConfigError, ShapeError
from limbeck.generation import Sampler, accept, accepted_prefix


def drawn(rows=4, block=6, vocabulary=13, seed=0, ties=False):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, block, vocabulary, generator=generator)
    drafts = torch.randint(vocabulary, (rows, block), generator=generator)
    return drafts, logits.round() if ties else logits


def ranks(drafts, logits):
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    return (order == drafts[..., None]).long().argmax(-1), order


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 12, 13, 50])
def test_among_the_k_most_probable(k, ties):
    for seed in range(5):
        drafts, logits = drawn(seed=seed, ties=ties)
        assert torch.equal(accept(drafts, logits, top_k=k), ranks(drafts, logits)[0] < k)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
def test_within_a_mass_the_crossing_token_is_out(p, ties):
    for seed in range(5):
        drafts, logits = drawn(seed=seed, ties=ties)
        rank, order = ranks(drafts, logits)
        reached = logits.double().softmax(-1).gather(-1, order).cumsum(-1).gather(-1, rank[..., None])[..., 0]
        assert torch.equal(accept(drafts, logits, top_p=p), (rank == 0) | (reached < p))


def test_exactly_k_tokens_of_a_flat_distribution_are_accepted():
    everything = torch.arange(9)[None]
    flat = torch.zeros(1, 9, 9)
    for k in range(1, 10):
        assert accept(everything, flat, top_k=k)[0].tolist() == [True] * k + [False] * (9 - k)


def test_tokens_that_the_teacher_rules_out_do_not_fill_the_k_up():
    logits = torch.full((1, 4, 4), -math.inf)
    logits[..., 2:] = torch.tensor([0.0, 1.0])
    everything = torch.arange(4)[None]
    for k in (2, 3):
        assert accept(everything, logits, top_k=k)[0].tolist() == [False, False, True, True]
    assert accept(everything, logits, top_k=4).all()


def test_raw_logits_decide_not_the_teachers_sampler():
    """A nucleus of one token does not make the others improbable, as in the released code."""
    logits = torch.tensor([[[5.0, 1.0, 0.9, 0.8, 0.7, 0.6]]])
    warped = Sampler(temperature=0.2, top_p=0.5).warp(logits)
    assert accept(torch.tensor([[3]]), logits, top_k=4).item()
    assert not accept(torch.tensor([[3]]), warped, top_k=4).item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_of_the_logits(dtype):
    drafts, logits = drawn(ties=True)
    for rule in ({"top_k": 4}, {"top_p": 0.7}):
        assert torch.equal(accept(drafts, logits.to(dtype), **rule), accept(drafts, logits, **rule))


def test_the_prefix_ends_before_the_first_rejected_token():
    rows = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0]]).bool()
    assert accepted_prefix(rows).tolist() == [3, 1, 0, 2]
    assert accepted_prefix(rows[:, :0]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "acceptance needs one rule; got top_k=None, top_p=None"),
        ({"top_k": 3, "top_p": 0.5}, "acceptance needs one rule; got top_k=3, top_p=0.5"),
        ({"top_k": 0}, "top_k is not valid; got 0"),
        ({"top_p": 0.0}, "top_p is not valid; got 0.0"),
        ({"top_p": 1.0}, "top_p is not valid; got 1.0"),
    ],
)
def test_wrong_rules_are_refused(rule, words):
    drafts, logits = drawn()
    with pytest.raises(ConfigError, match=words):
        accept(drafts, logits, **rule)


def test_wrong_shapes_name_both():
    drafts, logits = drawn()
    with pytest.raises(ShapeError, match=r"drafts \(4, 5\), logits \(4, 6, 13\)"):
        inspect.unwrap(accept)(drafts[:, :5], logits, top_k=3)
