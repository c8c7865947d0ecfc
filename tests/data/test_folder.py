from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import AugmentConfig, DataConfig, Loader, Views, load
from limbeck.errors import DataError


def draw(path: Path, value: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), value, np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, n in (("train", 10), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            for k in range(n):
                draw(tmp_path / part / name / f"{k:02}.png", 100 * label + k)
    return tmp_path


def read(root: Path, **settings: object) -> object:
    return load(DataConfig(name="folder", path=str(root), **settings))  # type: ignore[arg-type]


def test_train_and_test_folders(root: Path) -> None:
    data = load(DataConfig(name="folder", path=str(root)))
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 8)
    assert (data.classes, data.channels, data.size) == (("cat", "dog"), 3, (8, 8))
    images, labels = data.test.fetch(torch.tensor([5]))
    assert float(images[0, 0, 0, 0]) == pytest.approx(101 / 255)
    assert labels.tolist() == [1]


def test_all_three_folders_and_a_test_split_that_is_drawn(root: Path) -> None:
    shutil.copytree(root / "test", root / "validation")
    data = load(DataConfig(name="folder", path=str(root)))
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 8, 8)
    shutil.rmtree(root / "validation")
    shutil.rmtree(root / "test")
    first = load(DataConfig(name="folder", path=str(root)))
    other = load(DataConfig(name="folder", path=str(root), split_seed=4))
    assert (len(first.train), len(first.validation), len(first.test)) == (14, 2, 4)
    ids = torch.arange(4)
    assert torch.equal(first.test.fetch(ids)[0], other.test.fetch(ids)[0])


def test_sizes_modes_and_orientation(root: Path) -> None:
    draw(root / "train" / "cat" / "wide.png", 7, (4, 12), "L")
    draw(root / "train" / "dog" / "palette.png", 7, (9, 9), "P")
    turned = Image.new("RGB", (6, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "train" / "dog" / "turned.jpg", exif=exif)
    (root / "train" / "dog" / "notes.txt").write_text("not an image")
    data = load(DataConfig(name="folder", path=str(root), size=16, channels=1, validation=2))
    assert (data.channels, data.size, len(data.train)) == (1, (16, 16), 21)
    images, _ = data.train.fetch(torch.arange(21))
    assert images.shape == (21, 1, 16, 16)


def test_worker_processes_decode_the_same(root: Path) -> None:
    data = load(DataConfig(name="folder", path=str(root)))
    batches = []
    for workers in (0, 2):
        views = Views(AugmentConfig(crop_padding=1, flip=True), data.train, 0, data.mean, data.std)
        loader = Loader(views, 4, seed=0, shuffle=True, train=True, workers=workers)
        batches.append(torch.cat([batch.inputs for batch in loader.epoch(0)]))
    assert torch.equal(*batches)


def test_images_of_several_sizes_need_a_size(root: Path) -> None:
    draw(root / "train" / "cat" / "wide.png", 7, (4, 12))
    with pytest.raises(DataError, match=r"differ in size.*data\.size"):
        read(root)


def test_a_file_that_is_no_image_is_named_at_the_start(root: Path) -> None:
    (root / "test" / "dog" / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"cannot read the image .*broken\.jpg"):
        read(root)


def test_a_truncated_image_is_named_when_it_is_met(root: Path) -> None:
    path = root / "test" / "dog" / "99.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:120])
    data = load(DataConfig(name="folder", path=str(root)))
    with pytest.raises(DataError, match=r"cannot read the image .*99\.png"):
        data.test.fetch(torch.arange(len(data.test)))


def test_class_folders_must_agree(root: Path) -> None:
    draw(root / "test" / "fox" / "0.png", 0)
    with pytest.raises(DataError, match="these differ: fox"):
        read(root)
    shutil.rmtree(root / "test" / "fox")
    shutil.rmtree(root / "test" / "dog")
    with pytest.raises(DataError, match="got 1 classes; expected 2; these differ: dog"):
        read(root)


def test_missing_and_empty_folders(root: Path, tmp_path: Path) -> None:
    (root / "train" / "eel").mkdir()
    (root / "test" / "eel").mkdir()
    with pytest.raises(DataError, match="eel holds no image"):
        read(root)
    with pytest.raises(DataError, match="there is no folder"):
        read(root / "train")
    (tmp_path / "bare" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="has no class folders"):
        read(tmp_path / "bare")
    with pytest.raises(DataError, match=r"set data\.path"):
        load(DataConfig(name="folder"))
    with pytest.raises(DataError, match=r"data\.channels"):
        read(root, channels=2)
