"""Random crops that are resized, and central ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import AugmentConfig, DataConfig, Loader, TensorSplit, Views, load
from limbeck.data.crops import TRIES, Crops
from limbeck.data.streams import generator
from limbeck.errors import LimbeckError


def picture(width: int, height: int, seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, count in (("train", 12), ("test", 3)):
        for label, name in enumerate(("a", "b")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                picture(30 + 7 * k, 40 + 3 * label, 10 * k + label).save(folder / f"{k:02}.png")
    return tmp_path


def test_each_sample_has_numbers_of_its_own() -> None:
    rows = generator("crops", 5, 2).random((4 * TRIES, 4)).reshape(4, TRIES, 4)
    for sample in range(4):
        random = generator("crops", 5, 2)
        random.bit_generator.advance(sample * TRIES)  # type: ignore[attr-defined]
        assert np.array_equal(random.random((TRIES, 4)), rows[sample])


def test_boxes_are_of_the_published_kind() -> None:
    crops = Crops(0.08, seed=1, epoch=0)
    boxes = [crops.box(i, 100, 100) for i in range(2000)]
    areas = np.array([b.width * b.height for b in boxes]) / 1e4
    ratios = np.array([b.width / b.height for b in boxes])
    assert all(b.left >= 0 and b.top >= 0 for b in boxes)
    assert all(b.left + b.width <= 100 and b.top + b.height <= 100 for b in boxes)
    assert 0.07 < areas.min() < 0.1
    assert 0.95 < areas.max() <= 1
    assert ratios.min() > 0.72
    assert ratios.max() < 1.38
    assert abs(np.log(ratios).mean()) < 0.01
    small = areas[areas < 0.5]  # none of these is ever refused, so they are uniform
    assert small.mean() == pytest.approx((0.08 + 0.5) / 2, abs=0.01)
    lefts = np.array([b.left / (100 - b.width) for b in boxes if b.width < 70])
    assert lefts.mean() == pytest.approx(0.5, abs=0.03)


def test_an_image_that_no_box_fits_gives_its_middle() -> None:
    assert Crops(1.0, 0, 0).box(0, 300, 3) == (148, 0, 4, 3)
    assert Crops(1.0, 0, 0).box(0, 1, 1) == (0, 0, 1, 1)
    assert Crops(0.5, 0, 0).box(0, 3, 300) == (0, 148, 3, 4)


def test_files_are_cut_before_they_are_resized(root: Path) -> None:
    data = load(DataConfig(name="folder", path=str(root), size=16, validation=2))
    views = Views(AugmentConfig(resized_crop=0.1), data.train, 3, (0.0,) * 3, (1.0,) * 3)
    ids = torch.tensor([4, 9])
    batch = views.batch(ids, 6)
    for image, sample in zip(batch.inputs, ids.tolist(), strict=True):
        file = data.train.dataset.paths[int(data.train.ids[sample])]  # type: ignore[attr-defined]
        whole = Image.open(file)
        left, top, width, height = Crops(0.1, 3, 6).box(sample, *whole.size)
        part = whole.resize((16, 16), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
        expected = torch.from_numpy(np.array(part)).permute(2, 0, 1) / 255
        torch.testing.assert_close(image, expected)
    assert torch.equal(batch.labels, data.train.labels[ids])


def test_validation_and_test_show_the_central_square(root: Path) -> None:
    data = load(DataConfig(name="folder", path=str(root), size=8, crop=0.5, validation=2))
    images, _ = data.test.fetch(torch.tensor([1]))
    whole = Image.open(root / "test" / "a" / "01.png")
    assert whole.size == (37, 40)
    middle = whole.resize((8, 8), Image.Resampling.BILINEAR, box=(9.25, 10.75, 27.75, 29.25))
    torch.testing.assert_close(images[0], torch.from_numpy(np.array(middle)).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_the_same_in_any_batch_order_and_worker(root: Path, workers: int) -> None:
    data = load(DataConfig(name="folder", path=str(root), size=8, validation=2))
    views = Views(AugmentConfig(resized_crop=0.2, flip=True), data.train, 1, data.mean, data.std)
    whole = views.batch(torch.arange(22), 4)
    loader = Loader(views, 5, seed=0, shuffle=True, train=True, workers=workers)
    for batch in loader.epoch(4):
        assert torch.equal(batch.inputs, whole.inputs[batch.ids])
    assert not torch.equal(views.batch(torch.arange(22), 5).inputs, whole.inputs)


def test_images_in_memory_keep_their_size() -> None:
    images = torch.arange(3 * 1 * 12 * 10, dtype=torch.uint8).reshape(3, 1, 12, 10)
    split = TensorSplit(images, torch.tensor([0, 1, 2]))
    views = Views(AugmentConfig(resized_crop=1.0), split, 0, (0.0,), (1.0,))
    assert views.batch(torch.tensor([2, 0]), 0).inputs.shape == (2, 1, 12, 10)
    boxes = Crops(0.3, 0, 0)
    views = Views(AugmentConfig(resized_crop=0.3), split, 0, (0.0,), (1.0,))
    left, top, width, height = boxes.box(1, 10, 12)
    part = images[1:2, :, top : top + height, left : left + width].float() / 255
    expected = torch.nn.functional.interpolate(part, (12, 10), mode="bilinear", antialias=True)
    torch.testing.assert_close(views.batch(torch.tensor([1]), 0).inputs, expected)
    assert views.batch(torch.tensor([], dtype=torch.int64), 0).inputs.shape == (0, 1, 12, 10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AugmentConfig(resized_crop=0.1, crop_padding=2),
        lambda: DataConfig(name="folder", crop=0.9),
        lambda: AugmentConfig(resized_crop=1.5),
    ],
)
def test_what_makes_no_sense_is_refused(make: object) -> None:
    with pytest.raises((ValueError, LimbeckError)):
        make()  # type: ignore[operator]
