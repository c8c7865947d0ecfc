from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import AugmentConfig, DatasetSplit, Loader, TensorSplit, Views
from limbeck.errors import ConfigError
from limbeck.signals import Batch

CONFIG = AugmentConfig(crop_padding=1, flip=True, mixup=1.0)


def split(n: int) -> TensorSplit:
    pixels = torch.randint(
        0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return TensorSplit(pixels, torch.arange(n) % 3)


def views(n: int) -> Views:
    return Views(CONFIG, split(n), 0, (0.5,), (0.5,))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.ids, y.ids) and torch.equal(x.inputs, y.inputs) for x, y in zip(a, b)
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 8), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 50)
)
def test_ranks_together_see_what_one_process_sees(
    n: int, share: int, world: int, shuffle: bool, drop_last: bool, epoch: int
) -> None:
    size = share * world
    if n < (size if drop_last else world):
        with pytest.raises(ConfigError, match="does not fill one batch"):
            Loader(views(n), size, seed=3, shuffle=shuffle, train=True, world=world, drop_last=drop_last)
        return
    single = Loader(views(n), size, seed=3, shuffle=shuffle, train=True, drop_last=drop_last)
    ranks = [
        Loader(views(n), size, seed=3, shuffle=shuffle, train=True, drop_last=drop_last, rank=r, world=world)
        for r in range(world)
    ]
    alone = list(single.epoch(epoch))
    together = [list(rank.epoch(epoch)) for rank in ranks]
    assert len(alone) == len(single)
    assert all(len(batches) == len(rank) for batches, rank in zip(together, ranks))
    seen = []
    for step, batches in enumerate(zip(*together)):
        assert len({len(batch) for batch in batches}) == 1
        ids = torch.cat([batch.ids for batch in batches])
        inputs = torch.cat([batch.inputs for batch in batches])
        assert torch.equal(ids, alone[step].ids[: len(ids)])
        assert torch.equal(inputs, alone[step].inputs[: len(ids)])
        seen += ids.tolist()
    assert len(set(seen)) == len(seen)
    if not drop_last:
        assert len(seen) == n - n % world


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 9), st.integers(0, 5))
def test_start_skips_steps_exactly(n: int, size: int, start: int, epoch: int) -> None:
    loader = Loader(views(n), size, seed=0, shuffle=True, train=True)
    assert same(list(loader.epoch(epoch, start)), list(loader.epoch(epoch))[start:])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_evaluation_sees_every_sample_once_and_unchanged(n: int, size: int, world: int) -> None:
    ranks = [
        list(Loader(views(n), size, seed=0, shuffle=False, train=False, rank=r, world=world).epoch(0))
        for r in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    ids = torch.cat([torch.cat([batch.ids for batch in batches]) for batches in zip(*ranks)])
    assert ids.tolist() == list(range(n))
    plain = views(n).plain(torch.arange(n)).inputs
    inputs = torch.cat([torch.cat([batch.inputs for batch in batches]) for batches in zip(*ranks)])
    assert torch.equal(inputs, plain)


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int, size: int = 7) -> list[int]:
        loader = Loader(views(40), size, seed=seed, shuffle=True, train=True)
        return torch.cat(loader.ids(epoch)).tolist()

    assert order(0, 0) == order(0, 0, size=11)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert sorted(order(5, 2)) == list(range(40))


@pytest.mark.parametrize("train", [True, False])
def test_worker_processes_change_nothing(train: bool) -> None:
    inner = split(20)
    wrapped = DatasetSplit(torch.utils.data.TensorDataset(inner.images, inner.labels), inner.labels)

    def run(workers: int, start: int = 0) -> list[Batch]:
        loader = Loader(
            Views(CONFIG, wrapped, 0, (0.5,), (0.5,)), 6, seed=0, shuffle=train, train=train, workers=workers
        )
        return list(loader.epoch(1, start))

    assert same(run(0), run(2))
    assert same(run(0)[2:], run(2, start=2))
    assert run(2, start=4) == []
    in_memory = Loader(views(20), 6, seed=0, shuffle=train, train=train, workers=3)
    assert same(run(0), list(in_memory.epoch(1)))


def test_an_empty_share_has_the_form_of_a_batch() -> None:
    inner = split(3)
    wrapped = DatasetSplit(torch.utils.data.TensorDataset(inner.images, inner.labels))
    for part in (inner, wrapped):
        last = list(
            Loader(
                Views(CONFIG, part, 0, (0.5,), (0.5,)), 2, seed=0, shuffle=False, train=False, rank=1, world=2
            ).epoch(0)
        )[-1]
        assert last.inputs.shape == (0, 1, 4, 4)
        assert last.labels.shape == (0,)


@pytest.mark.parametrize(("size", "world"), [(0, 1), (-4, 1), (5, 2)])
def test_batch_sizes_that_cannot_be_shared(size: int, world: int) -> None:
    with pytest.raises(ConfigError, match="cannot be shared out"):
        Loader(views(10), size, seed=0, shuffle=True, train=True, world=world)
