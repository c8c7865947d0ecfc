"""Images and masks: splits, folders, views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import AugmentConfig, DataConfig, Loader, MaskSplit, load
from limbeck.data.ellipses import COUNTS
from limbeck.data.mask_views import MaskViews
from limbeck.errors import ConfigError, DataError


def write(root: Path, part: str, count: int, size: int = 8) -> None:
    random = np.random.default_rng(len(part))
    for folder in ("images", "masks"):
        (root / part / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        mask = random.integers(0, 3, (size, size)).astype(np.uint8)
        image = np.stack([mask * 60 + c for c in range(3)], 2)
        Image.fromarray(image).save(root / part / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(root / part / "masks" / f"{i:02}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    for part, count in (("train", 12), ("test", 5)):
        write(tmp_path, part, count)
    return tmp_path


def config(root: Path, **more: object) -> DataConfig:
    return DataConfig.model_validate({"name": "segmentation", "path": str(root), **more})


def test_folders(root: Path) -> None:
    data = load(config(root, validation=2))
    assert [len(x) for x in (data.train, data.validation, data.test)] == [10, 2, 5]
    assert data.classes == ("background", "cat", "dog")
    assert data.size == (8, 8)
    images, masks = data.train.fetch(torch.tensor([3, 0]))
    assert torch.equal((images[:, 0] * 255).round().long(), masks * 60)
    assert len(load(config(root, validation=2, train_size=4)).train) == 4
    assert load(config(root, size=6)).size == (6, 6)


def test_folders_that_are_wrong(root: Path) -> None:
    for settings, words in (
        ({"noise": {"kind": "symmetric", "rate": 0.1}}, "masks have many"),
        ({"train_size": 100}, "more than there is"),
        ({"channels": 2}, "1 or 3"),
    ):
        with pytest.raises(DataError, match=words):
            load(config(root, **settings))
    with pytest.raises(DataError, match="needs a folder"):
        load(DataConfig(name="segmentation"))
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(root / "train" / "masks" / "03.png")
    with pytest.raises(DataError, match=r"classes.txt does not name"):
        load(config(root)).train.fetch(torch.arange(10))
    (root / "train" / "masks" / "04.png").unlink()
    with pytest.raises(DataError, match=r"1 images .* have no mask"):
        load(config(root))
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes.txt"):
        load(config(root))


def test_weak_folders_never_open_a_mask(root: Path) -> None:
    with pytest.raises(DataError, match="no validation folder"):
        load_weak(root)
    write(root, "validation", 3)
    (root / "train" / "labels.csv").unlink()
    with pytest.raises(DataError, match="masks, which a run from image-level labels does not open"):
        load(config(root, weak=True))
    for mask in (root / "train" / "masks").iterdir():
        mask.write_bytes(b"not an image")
    data = load_weak(root)
    images, present = data.train.fetch(torch.arange(12))
    assert present[:2].tolist() == [[1, 1, 0], [1, 0, 1]]
    assert images.shape == (12, 3, 8, 8)
    with pytest.raises(DataError, match="unknown class"):
        load_weak(root, "00.png,horse\n")


def load_weak(root: Path, first: str = "00.png,cat\n") -> object:
    rest = "".join(f"{i:02}.png,dog\n" for i in range(1, 12))
    (root / "train" / "labels.csv").write_text(first + rest)
    return load(config(root, weak=True))


def test_image_and_mask_move_together() -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 200, (20, 12, 12)).byte()
    split = MaskSplit(masks[:, None].repeat(1, 3, 1, 1), masks)
    augment = AugmentConfig(flip=True, crop_padding=3)
    views = MaskViews(augment, split, 5, (0.0,) * 3, (1.0,) * 3)
    batch = views.batch(torch.arange(20), 2)
    seen = batch.labels != -100
    shown = (batch.inputs[:, 1] * 255).round().long()
    assert torch.equal(shown[seen], batch.labels[seen])
    assert bool((shown[~seen] == 0).all())
    assert 0 < int((~seen).sum()) < 20 * 12 * 6
    assert not torch.equal(batch.labels[0], masks[0].long())
    again = MaskViews(augment, split, 5, (0.0,) * 3, (1.0,) * 3).batch(torch.tensor([7, 3]), 2)
    assert torch.equal(again.labels, batch.labels[[7, 3]])
    assert torch.equal(again.inputs, batch.inputs[[7, 3]])
    assert not torch.equal(views.batch(torch.arange(20), 3).labels, batch.labels)


def test_resized_crops_of_masks_hold_no_new_class() -> None:
    masks = torch.zeros(6, 16, 16, dtype=torch.uint8)
    masks[:, 4:12, 4:12] = 9
    split = MaskSplit(masks[:, None] * 20, masks)
    views = MaskViews(AugmentConfig(resized_crop=0.3), split, 0, (0.0,), (1.0,))
    batch = views.batch(torch.arange(6), 0)
    assert set(batch.labels.unique().tolist()) == {0, 9}
    inside = (batch.inputs[:, 0] * 255 > 175) == (batch.labels == 9)
    assert float(inside.float().mean()) > 0.9
    with pytest.raises(ConfigError, match="not mixed"):
        MaskViews(AugmentConfig(mixup=0.2), split, 0, (0.0,), (1.0,))


def test_the_loader_gives_masks_to_every_process() -> None:
    data = load(DataConfig(name="ellipses", size=16))
    assert len(data.train) == COUNTS["train"]
    views = MaskViews(AugmentConfig(), data.train, 0, data.mean, data.std)
    whole = next(Loader(views, 8, seed=0, shuffle=True, train=True).epoch(0))
    parts = [
        next(Loader(views, 8, seed=0, shuffle=True, train=True, rank=r, world=2).epoch(0)) for r in (0, 1)
    ]
    assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels)


def test_ellipses_are_always_the_same_and_weak_ones_lack_masks() -> None:
    full, weak = (load(DataConfig(name="ellipses", size=16, weak=w)) for w in (False, True))
    assert torch.equal(full.train.images, weak.train.images)
    assert weak.train.labels.shape == (400, 4)
    expected = torch.stack([(full.train.labels == k).flatten(1).any(1) for k in range(4)], 1)
    assert torch.equal(weak.train.labels.bool(), expected)
    assert torch.equal(full.test.labels, weak.test.labels)


def test_a_split_refuses_masks_of_another_size() -> None:
    with pytest.raises(DataError, match="do not fit"):
        MaskSplit(torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2, 4, 5).byte())
