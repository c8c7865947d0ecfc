from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import Data, DataConfig, TensorSplit, load
from limbeck.data.assembly import assemble, statistics, stratified
from limbeck.errors import DataError


def split(labels: list[int], size: tuple[int, int] = (2, 2)) -> TensorSplit:
    return TensorSplit(torch.rand(len(labels), 1, *size), torch.tensor(labels))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_stratified_draws_keep_the_class_shares(labels: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(labels)))
    known = torch.tensor(labels)
    ids = stratified(known, count, np.random.default_rng(0))
    assert len(ids) == len(set(ids.tolist())) == count
    for label in set(labels):
        exact = count * labels.count(label) / len(labels)
        assert abs(int((known[ids] == label).sum()) - exact) < 1
    assert torch.equal(ids, stratified(known, count, np.random.default_rng(0)))


def test_few_shot_keeps_every_class() -> None:
    labels = [0] * 90 + [1] * 8 + [2] * 2
    ids = stratified(torch.tensor(labels), 4, np.random.default_rng(0), least=1)
    assert torch.bincount(torch.tensor(labels)[ids]).tolist() == [2, 1, 1]


def test_digits_splits_are_disjoint_and_the_test_split_never_moves() -> None:
    def rows(data: Data, part: str) -> set[bytes]:
        kept = getattr(data, part)
        return {image.numpy().tobytes() for image in kept.fetch(torch.arange(len(kept)))[0]}

    first = load(DataConfig())
    other = load(DataConfig(validation=0.3, train_size=50, split_seed=9))
    assert rows(first, "test") == rows(other, "test")
    assert rows(first, "validation") != rows(other, "validation")
    assert not rows(first, "train") & rows(first, "validation")
    assert not (rows(first, "train") | rows(first, "validation")) & rows(first, "test")
    assert len(first.train) + len(first.validation) + len(first.test) == 1797
    assert torch.bincount(other.train.labels).tolist() == [5] * 10
    assert (first.channels, first.size, len(first.classes)) == (1, (8, 8), 10)


def test_few_shot_comes_after_validation_and_leaves_the_normalisation() -> None:
    whole, few = load(DataConfig()), load(DataConfig(train_size=100))
    assert len(few.train) == 100
    assert torch.equal(whole.validation.labels, few.validation.labels)
    assert (whole.mean, whole.std) == (few.mean, few.std)
    pixels = {image.numpy().tobytes() for image in whole.train.fetch(torch.arange(len(whole.train)))[0]}
    assert {image.numpy().tobytes() for image in few.train.fetch(torch.arange(100))[0]} <= pixels


def test_draws_depend_on_the_split_seed_only() -> None:
    first, again = load(DataConfig(train_size=60)), load(DataConfig(train_size=60))
    other = load(DataConfig(train_size=60, split_seed=1))
    ids = torch.arange(60)
    assert torch.equal(first.train.fetch(ids)[0], again.train.fetch(ids)[0])
    assert not torch.equal(first.train.fetch(ids)[0], other.train.fetch(ids)[0])


def test_statistics_are_those_of_all_pixels() -> None:
    images = torch.rand(700, 2, 3, 5) * torch.tensor([1.0, 3.0])[:, None, None]
    mean, std = statistics(TensorSplit(images, torch.zeros(700, dtype=torch.int64)))
    assert mean == pytest.approx(images.mean((0, 2, 3)).tolist(), rel=1e-5)
    assert std == pytest.approx(images.std((0, 2, 3), correction=0).tolist(), rel=1e-5)
    blank = TensorSplit(torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64))
    assert statistics(blank) == ((0.0,), (1.0,))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"validation": 1797}, "data.validation leaves an empty split"),
        ({"validation": 0.0001}, "data.validation leaves an empty split"),
        ({"train_size": 5}, "data.train_size does not fit"),
        ({"train_size": 1400}, "expected 10 .* to 1293"),
    ],
)
def test_impossible_sizes(settings_: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(DataConfig(**settings_))


def test_everything_as_training_data_is_allowed() -> None:
    assert len(load(DataConfig(train_size=1293)).train) == 1293


def test_an_unknown_name_says_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown data set 'cifar-10'; expected 'cifar10'"):
        load(DataConfig(name="cifar-10"))


def test_splits_must_agree() -> None:
    with pytest.raises(
        DataError, match=r"test split of x has labels outside the classes; got labels from 0 to 2"
    ):
        assemble("x", split([0, 1, 0, 1]), split([0, 2]), classes=["a", "b"])
    with pytest.raises(DataError, match="labels from -1"):
        assemble("x", split([0, -1, 0, 1]), split([0, 1]), classes=["a", "b"])
    with pytest.raises(DataError, match="test images of x differ"):
        assemble("x", split([0, 1, 0, 1] * 5), split([0, 1], (3, 3)), classes=["a", "b"])
