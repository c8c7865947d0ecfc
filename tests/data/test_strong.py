"""Strong views: what each operation does, and that a view depends on seed, epoch and id alone."""

from __future__ import annotations

import pytest
import torch

from limbeck.data.strong import OPERATIONS, StrongViews

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def images(count=64, channels=3):
    return torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def normalised(x):
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def strong(seed=0, count=64, **options):
    return StrongViews(count, MEAN, STD, seed=seed, **options)


def test_a_view_depends_on_seed_epoch_and_id_alone():
    x, ids = normalised(images()), torch.arange(64)
    whole = strong()(x, ids, 3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    again = strong()
    again(x, ids, 7)
    assert torch.allclose(again(x[order[:10]], ids[order[:10]], 3), whole[order[:10]], atol=1e-5)
    assert (strong()(x, ids, 4) - whole).abs().max() > 0.5
    assert (strong(seed=1)(x, ids, 3) - whole).abs().max() > 0.5


def test_inputs_are_left_alone_and_pixels_stay_pixels():
    x = normalised(images())
    kept = x.clone()
    out = strong(magnitude=30.0)(x, torch.arange(64), 0)
    assert torch.equal(x, kept)
    pixels = out * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert pixels.min() > -1e-5
    assert pixels.max() < 1 + 1e-5
    changed = (out - x).abs().amax((1, 2, 3)) > 0.05
    assert changed.float().mean() > 0.9


def test_no_operation_is_the_weak_view():
    x = normalised(images())
    assert torch.allclose(strong(operations=0)(x, torch.arange(64), 0), x, atol=1e-5)


def test_every_operation_comes_up_equally_often():
    draws = strong(count=4000)._draw(0)
    chosen = (draws[:, [0, 4]] * len(OPERATIONS)).long().flatten()
    assert torch.bincount(chosen, minlength=len(OPERATIONS)).float().std() < 40


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_pixels_and_change_images(name, channels):
    x = images(8, channels)
    level, draws = torch.tensor([-1.0, 1.0] * 4), torch.rand(8, 2)
    out = OPERATIONS[name](x.clone(), level, draws)
    assert out.shape == x.shape
    assert out.min() >= -1e-6
    assert out.max() <= 1 + 1e-6
    if not (name == "colour" and channels == 1):
        assert (out - x).abs().amax((1, 2, 3)).max() > 0.05


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "invert"}))
def test_strength_zero_changes_next_to_nothing(name):
    x = images(8)
    out = OPERATIONS[name](x.clone(), torch.zeros(8), torch.rand(8, 2))
    assert torch.allclose(out, x, atol=1 / 200 if name == "posterise" else 1e-5)


def test_what_some_operations_do():
    x = images(4)
    right, none = torch.full((4,), 0.25 / 0.45), torch.zeros(4, 2)  # a quarter of the width: two pixels
    moved = OPERATIONS["translate_x"](x, right, none)
    assert torch.allclose(moved[..., :6], x[..., 2:], atol=1e-5)
    assert moved[..., 6:].abs().max() < 1e-5
    turned = OPERATIONS["rotate"](x, torch.full((4,), 3.0), none)  # three times 30 degrees
    assert torch.allclose(turned, x.rot90(1, (2, 3)), atol=1e-4)
    assert torch.allclose(OPERATIONS["invert"](x, right, none), 1 - x)
    hidden = OPERATIONS["cutout"](torch.ones(1, 1, 8, 8), torch.tensor([0.5]), torch.tensor([[0.5, 0.5]]))
    assert int((hidden == 0).sum()) == 16
    assert not hidden[..., 2:6, 2:6].any()
    stretched = OPERATIONS["autocontrast"](x * 0.5 + 0.2, right, none)
    assert torch.allclose(stretched.amin((2, 3)), torch.zeros(4, 3), atol=1e-5)
    assert torch.allclose(stretched.amax((2, 3)), torch.ones(4, 3), atol=1e-5)
