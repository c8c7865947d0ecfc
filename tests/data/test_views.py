"""A view is a function of (seed, epoch, id): whatever the batch, the order, the rank or the restart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import AugmentConfig, DatasetSplit, TensorSplit, Views

N = 24
PIXELS = torch.randint(0, 256, (N, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % 5
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.3, 0.25)

configs = st.builds(
    AugmentConfig,
    crop_padding=st.integers(0, 3),
    flip=st.booleans(),
    mixup=st.sampled_from([0.0, 0.4, 1.0]),
    cutmix=st.sampled_from([0.0, 0.5, 1.0]),
)
ids_of_a_batch = st.lists(st.integers(0, N - 1), min_size=1, max_size=12)


def views(config: AugmentConfig, seed: int = 0, images: torch.Tensor = PIXELS) -> Views:
    return Views(config, TensorSplit(images, LABELS[: len(images)]), seed, MEAN, STD)


@settings(max_examples=60, deadline=None)
@given(configs, ids_of_a_batch, st.integers(0, 2**70), st.integers(0, 10**6))
def test_the_same_pixels_in_any_company(config: AugmentConfig, ids: list[int], seed: int, epoch: int) -> None:
    whole = views(config, seed).batch(torch.arange(N), epoch)
    part = views(config, seed).batch(torch.tensor(ids), epoch)
    assert torch.equal(part.inputs, whole.inputs[ids])
    assert torch.equal(part.labels, LABELS[ids])
    assert part.epoch == epoch
    if config.mixup or config.cutmix:
        assert part.mixing is not None
        assert torch.equal(part.mixing, whole.mixing[ids])
        assert torch.equal(part.mixed_labels, whole.mixed_labels[ids])
    else:
        assert part.mixing is None


@settings(max_examples=20, deadline=None)
@given(configs, ids_of_a_batch, st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_the_same_pixels_after_other_epochs(config: AugmentConfig, ids: list[int], epochs: list[int]) -> None:
    used, index = views(config), torch.tensor(ids)
    for epoch in epochs:
        used.batch(torch.arange(N), epoch)
    assert torch.equal(used.batch(index, 3).inputs, views(config).batch(index, 3).inputs)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.booleans(), st.integers(0, 99))
def test_views_are_crops_and_flips_of_the_original(pad: int, flip: bool, epoch: int) -> None:
    got = views(AugmentConfig(crop_padding=pad, flip=flip)).batch(torch.arange(N), epoch).inputs
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    for image, view in zip(PIXELS, got):
        padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)))
        candidates = [
            torch.from_numpy(
                (padded[:, :, ::-1] if mirror else padded)[:, top : top + 9, left : left + 7].copy()
            )
            for top, left, mirror in itertools.product(range(2 * pad + 1), range(2 * pad + 1), {False, flip})
        ]
        expected = [candidate.float().div(255).sub(mean).div(std) for candidate in candidates]
        assert any(torch.equal(view, candidate) for candidate in expected)


def test_bytes_floats_and_wrapped_data_give_the_same_views() -> None:
    config = AugmentConfig(crop_padding=2, flip=True, mixup=1.0, cutmix=1.0)
    ids = torch.tensor([3, 1, 20])
    floats = PIXELS.float().div(255)
    wrapped = DatasetSplit(torch.utils.data.TensorDataset(PIXELS, LABELS))
    expected = views(config).batch(ids, 1)
    for split in (TensorSplit(floats, LABELS), wrapped):
        got = Views(config, split, 0, MEAN, STD).batch(ids, 1)
        torch.testing.assert_close(got.inputs, expected.inputs)
        assert torch.equal(got.mixed_labels, expected.mixed_labels)


def test_plain_views_are_only_normalised_and_change_nothing_stored() -> None:
    before = PIXELS.clone()
    got = views(AugmentConfig(crop_padding=3, flip=True, mixup=1.0)).plain(torch.tensor([5]))
    expected = (PIXELS[5].float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[
        :, None, None
    ]
    torch.testing.assert_close(got.inputs[0], expected)
    assert got.mixing is None
    floats = PIXELS.float()
    views(AugmentConfig(mixup=1.0), images=floats).batch(torch.arange(N), 0)
    assert torch.equal(floats, PIXELS.float())
    assert torch.equal(PIXELS, before)


def test_epochs_and_seeds_differ() -> None:
    config, ids = AugmentConfig(crop_padding=2, flip=True), torch.arange(N)
    base = views(config).batch(ids, 0).inputs
    assert not torch.equal(base, views(config).batch(ids, 1).inputs)
    assert not torch.equal(base, views(config, seed=1).batch(ids, 0).inputs)


def test_choices_are_uniform() -> None:
    n = 20_000
    split = TensorSplit(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64))
    config = AugmentConfig(crop_padding=2, flip=True, mixup=1.0, cutmix=1.0)
    plan = Views(config, split, 7, (0.0,), (1.0,)).plan(0)
    for shift in (plan.top, plan.left):
        counts = torch.bincount(shift, minlength=5)
        assert len(counts) == 5
        assert int((counts - n / 5).abs().max()) < 5 * (n * 0.16) ** 0.5
    for coin in (plan.mirrored, plan.cut):
        assert abs(float(coin.float().mean()) - 0.5) < 0.02
    assert abs(float(plan.weight.mean()) - 0.5) < 0.01
    assert not bool((plan.partner == torch.arange(n)).any())
    assert int(plan.partner.min()) >= 0
    assert int(plan.partner.max()) < n


def test_a_row_of_the_plan_does_not_depend_on_the_number_of_samples() -> None:
    config = AugmentConfig(crop_padding=2, flip=True)
    small, large = views(config, images=PIXELS[:5]).plan(4), views(config).plan(4)
    assert torch.equal(small.top, large.top[:5])
    assert torch.equal(small.mirrored, large.mirrored[:5])


@pytest.mark.parametrize("config", [AugmentConfig(mixup=0.5), AugmentConfig(crop_padding=2, mixup=1.0)])
def test_mixup_is_the_weighted_sum_with_the_partner(config: AugmentConfig) -> None:
    ids = torch.arange(N)
    mixed = views(config).batch(ids, 2)
    alone = views(AugmentConfig(crop_padding=config.crop_padding)).batch(ids, 2).inputs
    partner = views(config).plan(2).partner
    assert mixed.mixing is not None
    weight = mixed.mixing[:, None, None, None]
    torch.testing.assert_close(
        mixed.inputs, weight * alone + (1 - weight) * alone[partner], rtol=1e-4, atol=1e-5
    )
    assert torch.equal(mixed.mixed_labels, LABELS[partner])
    assert bool(((mixed.mixing >= 0) & (mixed.mixing <= 1)).all())


def test_cutmix_pastes_one_box_and_counts_its_pixels() -> None:
    first, second = (
        torch.zeros(1, 1, 20, 30, dtype=torch.uint8),
        torch.full((1, 1, 20, 30), 255, dtype=torch.uint8),
    )
    split = TensorSplit(torch.cat([first, second]), torch.tensor([0, 1]))
    shares = []
    for epoch in range(200):
        batch = Views(AugmentConfig(cutmix=1.0), split, 0, (0.0,), (1.0,)).batch(torch.tensor([0]), epoch)
        image = batch.inputs[0, 0]
        assert batch.mixed_labels.tolist() == [1]
        assert set(image.unique().tolist()) <= {0.0, 1.0}
        rows, columns = image.amax(1).nonzero(), image.amax(0).nonzero()
        if len(rows):
            box = image[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
            assert bool((box == 1).all())
        assert float(batch.mixing[0]) == pytest.approx(float((image == 0).float().mean()), abs=1e-6)
        shares.append(float(batch.mixing[0]))
    assert min(shares) < 0.3
    assert max(shares) > 0.95


def test_one_sample_mixes_with_itself() -> None:
    one = views(AugmentConfig(mixup=1.0), images=PIXELS[:1])
    torch.testing.assert_close(one.batch(torch.tensor([0]), 0).inputs, one.plain(torch.tensor([0])).inputs)


@pytest.mark.parametrize("bad", [{"crop_padding": -1}, {"mixup": -0.1}, {"cutmix": -1}, {"rotate": True}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        AugmentConfig(**bad)
