"""The rule of acceptance: by sorting, at its limits, and as the released code applies it."""

from __future__ import annotations

import inspect
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.errors import ConfigError, ShapeError
from limbeck.generation import Sampler, accept, accepted_prefix

HERE = Path(__file__).parent
GOLDENS = Path(os.environ.get("LIMBECK_GOLDENS", HERE.parent / "parity" / "goldens"))
CASES = [
    case
    for case in json.loads((GOLDENS / "language.json").read_text())["cases"]
    if case["method"] == "skd.accept"
]


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_released_code(case):
    """Its student's logits are one-hot there, so that its fresh draw is the drafted token, and no warping is set.

    The teacher's first token has all of the mass, so its draw is that token. Where the draft has ended
    (``is_done_candidate``) and is accepted as a whole, it takes one off its count of matches and returns the
    whole draft nevertheless.
    """
    with np.load(GOLDENS / "language.npz") as arrays:
        values = {**case["inputs"], **case["outputs"]}
        found = {name: torch.from_numpy(np.array(arrays[key])) for name, key in values.items()}
    options, gamma = case["hyper"], case["hyper"]["gamma"]
    drafts, logits = found["candidate_input_ids"][:, -gamma:], found["teacher_logits"][:, :gamma]
    assert torch.equal(found["candidate_logits"].argmax(-1), drafts)
    rule = {"top_k": options["teacher_k"]} if options["teacher_k"] else {"top_p": options["teacher_p"]}
    kept = int(accepted_prefix(accept(drafts, logits, **rule)))
    text = drafts[:, :kept]
    if kept < gamma:
        replacement = Sampler().draw(logits[:, kept], torch.Generator().manual_seed(0))
        text = torch.cat([text, replacement[:, None]], 1)
    assert torch.equal(text, found["valid_tokens"])
    whole = options["is_done_candidate"] and kept == gamma
    assert kept - whole == int(found["n_matches"])
    assert options["resample_flag"] == (kept < gamma)


def test_every_case_of_the_released_code_is_here():
    assert CASES


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
