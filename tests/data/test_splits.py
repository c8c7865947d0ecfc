from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import AugmentConfig, DatasetSplit, TensorSplit, Views, from_arrays, from_datasets
from limbeck.errors import DataError


class Items(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


COLOUR = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)


@pytest.mark.parametrize(
    ("image", "shape", "second"),
    [
        (COLOUR, (3, 4, 5), 3 / 255),
        (Image.fromarray(COLOUR), (3, 4, 5), 3 / 255),
        (torch.from_numpy(COLOUR).permute(2, 0, 1), (3, 4, 5), 3 / 255),
        (GREY, (1, 4, 5), 1 / 255),
        (Image.fromarray(GREY), (1, 4, 5), 1 / 255),
        (torch.from_numpy(GREY).float(), (1, 4, 5), 1.0),
        (GREY.astype(np.float64), (1, 4, 5), 1.0),
    ],
)
def test_wrapped_images_of_every_form(image: Any, shape: tuple[int, ...], second: float) -> None:
    images, labels = DatasetSplit(Items((image, 2), (image, np.int64(1)))).fetch(torch.tensor([1, 0]))
    assert images.dtype == torch.float32
    assert images.shape == (2, *shape)
    assert float(images[0, 0, 0, 1]) == pytest.approx(second)
    assert labels.tolist() == [1, 2]


def test_a_subset_renumbers() -> None:
    split = DatasetSplit(Items(*[(GREY + k, k) for k in range(6)]))
    part = split.subset(torch.tensor([4, 1])).subset(torch.tensor([1, 0]))
    assert part.labels.tolist() == [1, 4]
    assert part.fetch(torch.tensor([0]))[1].tolist() == [1]
    memory = TensorSplit(torch.rand(6, 1, 2, 2), torch.arange(6)).subset(torch.tensor([4, 1]))
    assert memory.labels.tolist() == [4, 1]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "is empty"),
        ([5], "not a pair of image and class id"),
        ([(GREY, "cat")], "not a pair of image and class id"),
        ([("text", 0)], "is not an image"),
        ([(np.zeros(3), 0)], "is not an image"),
        ([(np.full((2, 2), np.nan), 0)], "NaN or infinite"),
        ([(GREY, 0), (GREY[:2], 0)], "differ in size"),
    ],
)
def test_wrapped_data_that_cannot_be_used(items: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DatasetSplit(Items(*items)).fetch(torch.arange(len(items)))


def test_data_that_is_not_map_style() -> None:
    with pytest.raises(DataError, match="not map-style"):
        DatasetSplit(iter([]))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(0, 1, 2, 2), [], "is empty"),
        (torch.zeros(2, 1, 2, 2), [0], "2 images but 1 labels"),
        (torch.zeros(2, 2, 2), [0, 1], "wrong form"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.int64), [0, 1], "wrong form"),
        (torch.tensor([0.0, float("nan")]).reshape(2, 1, 1, 1), [0, 1], "first has id 1"),
        (torch.tensor([float("inf"), 0.0]).reshape(2, 1, 1, 1), [0, 1], "NaN or infinite"),
    ],
)
def test_tensors_that_cannot_be_used(images: torch.Tensor, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSplit(images, torch.tensor(labels, dtype=torch.int64))


def test_from_datasets_with_a_validation_set_of_its_own() -> None:
    items = [(GREY, k % 2) for k in range(8)]
    data = from_datasets(
        Items(*items), Items(*items[:2]), Items(*items[:3]), classes=["no", "yes"], train_size=4
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 3, 2)
    assert data.classes == ("no", "yes")
    assert torch.bincount(data.train.labels).tolist() == [2, 2]
    batch = Views(AugmentConfig(flip=True), data.train, 0, data.mean, data.std).batch(torch.tensor([0]), 0)
    assert batch.inputs.shape == (1, 1, 4, 5)


def test_arrays_and_tensors_of_every_form() -> None:
    labels = np.arange(20) % 2
    for images, channels in [
        (np.zeros((20, 6, 7), np.uint8), 1),
        (np.zeros((20, 6, 7, 3), np.int32), 3),
        (np.zeros((20, 3, 6, 7), np.float64), 3),
        (np.zeros((20, 6, 7), bool), 1),
        (torch.zeros(20, 2, 6, 7, dtype=torch.float16), 2),
    ]:
        data = from_arrays(images, labels, images[:4], torch.from_numpy(labels[:4])[:, None], validation=4)
        assert (data.channels, data.size, len(data.train)) == (channels, (6, 7), 16)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((4, 2, 2), 300), [0, 1, 0, 1], "not 8-bit pixels"),
        (np.zeros((4, 2)), [0, 1, 0, 1], "not a stack of images"),
        (np.full((4, 2, 2), "a"), [0, 1, 0, 1], "does not hold numbers"),
        (np.zeros((4, 2, 2)), [0.5, 1, 0, 1], "not a list of class ids"),
        (np.zeros((4, 2, 2)), [[0, 1], [0, 1]], "not a list of class ids"),
        (np.zeros((4, 2, 2)), [0, 1, 0], "4 images but 3 labels"),
    ],
)
def test_arrays_that_cannot_be_used(images: np.ndarray, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(images, np.array(labels), np.zeros((2, 2, 2)), np.array([0, 1]))
