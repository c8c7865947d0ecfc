"""Sampling from one model: batched and cached against one row at a time with neither."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
from tests.generation.networks import KINDS, network, plain_text, prompts, responses
from tests.running import environment

from limbeck.errors import ConfigError, ModelError, ShapeError
from limbeck.generation import Sampler, generate, row_numbers

SAMPLERS = [Sampler(temperature=0.0), Sampler(temperature=0.8, top_p=0.9), Sampler(top_k=4)]
ROOM = 9


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("eos", [None, 9, (9, 16, 41)], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_says_what_each_row_would_say_without_a_cache(kind, sampler, eos):
    model, (tokens, mask) = network(kind), prompts()
    found = generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded(), sampler=sampler, eos=eos)
    ends = () if eos is None else (eos,) if isinstance(eos, int) else eos
    numbers = row_numbers(seeded(), 4, ROOM).tolist()
    expected = [
        plain_text(model, row[kept > 0].tolist(), room=ROOM, numbers=own, sampler=sampler, eos=ends)
        for row, kept, own in zip(tokens, mask, numbers)
    ]
    assert responses(found) == expected
    assert found.lengths.tolist() == [len(row) for row in expected]


def test_greedy_text_is_that_of_transformers():
    model, (tokens, mask) = network("llama"), prompts()
    found = generate(
        model, tokens, mask, max_new_tokens=ROOM, generator=seeded(), sampler=Sampler(temperature=0.0)
    )
    expected = model.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=ROOM, do_sample=False, eos_token_id=None
    )
    assert torch.equal(found.tokens, expected)


def test_rows_one_after_another_say_the_same_as_a_batch():
    model, (tokens, mask) = network("llama"), prompts()
    options = {"max_new_tokens": ROOM, "eos": (9, 16)}
    together = generate(model, tokens, mask, generator=seeded(), **options)
    generator = seeded()
    alone = [
        generate(model, tokens[i : i + 1], mask[i : i + 1], generator=generator, **options) for i in range(4)
    ]
    assert responses(together) == [row for found in alone for row in responses(found)]


def test_a_shorter_limit_gives_the_beginning():
    model, (tokens, mask) = network("llama"), prompts()
    long = generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded())
    short = generate(model, tokens, mask, max_new_tokens=5, generator=seeded())
    assert responses(short) == [row[:5] for row in responses(long)]


def test_what_is_returned():
    model, (tokens, mask) = network("llama"), prompts()
    open_end = responses(generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded()))
    eos = open_end[1][2]
    found = generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded(), eos=eos, pad=33)
    wanted = [row[: row.index(eos) + 1] if eos in row else row for row in open_end]
    assert responses(found) == wanted
    longest = max(len(row) for row in wanted)
    assert found.tokens.shape == found.mask.shape == found.response.shape == (4, 7 + longest)
    assert torch.equal(found.tokens[:, :7], tokens)
    assert torch.equal(found.mask[:, :7], mask.bool())
    assert torch.equal(found.mask[:, 7:], found.response[:, 7:])
    assert not found.response[:, :7].any()
    assert (found.tokens[:, 7:][~found.response[:, 7:]] == 33).all()
    assert found.lengths.tolist() == [len(row) for row in wanted]
    assert responses(generate(model, tokens, mask, max_new_tokens=1, generator=seeded())) == [
        row[:1] for row in open_end
    ]


def test_rows_that_ended_leave_the_batch():
    model, (tokens, mask) = network("llama"), prompts()
    open_end = responses(generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded()))
    sizes = []
    model.register_forward_pre_hook(
        lambda module, args, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    eos = (open_end[0][1], open_end[1][3])
    found = generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded(), eos=eos)
    assert sum(sizes) == 4 + int(found.lengths.sum())
    assert min(sizes) < 4


def test_a_restored_generator_gives_the_same_text():
    model, (tokens, mask) = network("llama"), prompts()
    generator = seeded()
    generate(model, tokens, mask, max_new_tokens=3, generator=generator)
    state = generator.get_state()
    first = generate(model, tokens, mask, max_new_tokens=ROOM, generator=generator)
    later = generate(model, tokens, mask, max_new_tokens=ROOM, generator=generator)
    generator.set_state(state)
    again = generate(model, tokens, mask, max_new_tokens=ROOM, generator=generator)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, later.tokens)


def test_dropout_does_not_act_and_train_mode_comes_back():
    plain, model = network("gpt2"), network("gpt2", dropout=0.5).train()
    model.transformer.h[0].eval()
    tokens, mask = prompts()
    found = generate(model, tokens, mask, max_new_tokens=ROOM, generator=seeded())
    assert torch.equal(
        found.tokens, generate(plain, tokens, mask, max_new_tokens=ROOM, generator=seeded()).tokens
    )
    assert model.training
    assert model.transformer.h[1].training
    assert not model.transformer.h[0].training
    assert not found.tokens.is_inference()


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_masks_of_other_types(dtype):
    model, (tokens, mask) = network("llama"), prompts()
    a, b = (generate(model, tokens, m, max_new_tokens=4, generator=seeded()) for m in (mask, mask.to(dtype)))
    assert torch.equal(a.tokens, b.tokens)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"max_new_tokens": 0}, ConfigError, "max_new_tokens is not valid; got 0"),
        ({"max_new_tokens": 63}, ConfigError, "longer than the model's positions"),
        ({"mask": torch.tensor([[1, 1, 0]])}, ShapeError, "not padded on the left; got the mask of row 0"),
        ({"mask": torch.tensor([[1, 0, 1]])}, ShapeError, "padding_side = 'left'"),
        ({"mask": torch.tensor([[0, 0, 0]])}, ShapeError, "leave out empty prompts"),
        ({"mask": torch.tensor([[1, 1]])}, ShapeError, r"prompts \(1, 3\), mask \(1, 2\)"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(changes, error, words):
    given = {"mask": torch.tensor([[0, 1, 1]]), "max_new_tokens": 4} | changes
    with pytest.raises(error, match=words):
        inspect.unwrap(generate)(network("gpt2"), torch.tensor([[0, 3, 4]]), generator=seeded(), **given)


def test_a_model_that_diverged_is_named():
    model, (tokens, mask) = network("llama").train(), prompts()
    model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(ModelError, match="no token can be drawn"):
        generate(model, tokens, mask, max_new_tokens=4, generator=seeded())
    assert model.training


def test_the_room_needs_no_transformers():
    code = "import sys, limbeck, limbeck.generation; print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
