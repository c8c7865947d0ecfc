"""Tuples of samples: disjoint groups, no repetition, the same after a restart and over ranks."""

from __future__ import annotations

import inspect
from math import comb

import pytest
import torch

from limbeck.data import AugmentConfig, Loader, TensorSplit, Views
from limbeck.data.tuples import Tuples
from limbeck.errors import ConfigError


def views(n: int) -> Views:
    images = torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, 2, 2).contiguous()
    return Views(AugmentConfig(), TensorSplit(images, torch.zeros(n, dtype=torch.int64)), 0, (0.0,), (1.0,))


def loader(n: int, batch: int, tuples: Tuples, **options: int) -> Loader:
    return Loader(views(n), batch, seed=0, shuffle=True, train=True, tuples=tuples, **options)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("samples", [5, 9, 40])
def test_members_differ_and_groups_are_sets(size: int, samples: int) -> None:
    members = Tuples(samples, size, 200, seed=3).members
    border = size - size // 2
    assert len(members) == min(200, comb(samples, size) * comb(size, border))
    assert all(len(set(row)) == size for row in members.tolist())
    groups = {(frozenset(row[:border]), frozenset(row[border:])) for row in members.tolist()}
    assert len(groups) == len(members)
    assert int(members.min()) >= 0
    assert int(members.max()) < samples


def test_all_ordered_pairs_are_there_when_few_are_possible() -> None:
    pairs = {tuple(row) for row in Tuples(5, 2, 100, seed=0).members.tolist()}
    assert pairs == {(i, j) for i in range(5) for j in range(5) if i != j}


def test_drawn_samples_are_equally_frequent() -> None:
    counts = Tuples(100, 2, 5000, seed=0).members.flatten().bincount(minlength=100).float()
    assert counts.mean() == 100
    assert counts.std() < 15  # binomial: 10


def test_a_seed_decides_members_and_order() -> None:
    a, b, c = (Tuples(50, 3, 300, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.members, b.members)
    assert torch.equal(a.order(4, 60), b.order(4, 60))
    assert not torch.equal(a.members, c.members)
    assert not torch.equal(a.order(4, 60), a.order(5, 60))


@pytest.mark.parametrize("samples", [8, 26, 60, 130])
def test_every_tuple_comes_once_in_each_walk(samples: int) -> None:
    tuples = Tuples(6, 2, 100, seed=0)
    seen = torch.cat([tuples.order(epoch, samples) for epoch in range(40)]).view(-1, 2).tolist()
    for start in range(0, len(seen) - 30, 30):
        assert len({tuple(row) for row in seen[start : start + 30]}) == 30


def test_a_loader_gives_full_batches_of_whole_tuples_from_any_step_on() -> None:
    tuples = Tuples(20, 3, 50, seed=0)
    whole = loader(20, 6, tuples)
    batches = list(whole.epoch(2))
    assert [len(batch) for batch in batches] == [6] * 4 == [6] * len(whole)
    known = {tuple(row) for row in tuples.members.tolist()}
    for batch in batches:
        assert {tuple(row) for row in batch.ids.view(-1, 3).tolist()} <= known
        assert torch.equal(batch.inputs[:, 0, 0, 0], batch.ids.float())
    again = list(loader(20, 6, Tuples(20, 3, 50, seed=0)).epoch(2, start=2))
    assert [b.ids.tolist() for b in again] == [b.ids.tolist() for b in batches[2:]]


def test_ranks_share_whole_tuples_of_the_same_batches() -> None:
    tuples = Tuples(20, 2, 60, seed=0)
    one = loader(20, 8, tuples).ids(1)
    two = [loader(20, 8, tuples, rank=rank, world=2).ids(1) for rank in (0, 1)]
    assert [torch.cat(parts).tolist() for parts in zip(*two, strict=True)] == [ids.tolist() for ids in one]


def test_too_few_samples_and_too_small_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="a tuple takes 4 samples; got a training split of 3"):
        inspect.unwrap(Tuples)(3, 4, 10, seed=0)
    with pytest.raises(ConfigError, match="a batch does not hold a tuple of 5 samples"):
        loader(20, 4, Tuples(20, 5, 10, seed=0))
