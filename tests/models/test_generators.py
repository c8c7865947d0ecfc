"""Generators: sizes, classes, norms."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ModelError
from limbeck.models.generators import ClassBatchNorm2d, build_generator


@pytest.mark.parametrize("name", ["conditional", "unconditional"])
@pytest.mark.parametrize(
    ("size", "channels"), [((8, 8), 1), ((28, 28), 1), ((32, 32), 3), ((64, 64), 3), ((14, 9), 2)]
)
def test_images_have_the_size_of_the_data(name: str, size: tuple[int, int], channels: int) -> None:
    net = build_generator(name, classes=5, channels=channels, size=size, latent=6, width=4)
    images = net(torch.randn(3, 6), torch.tensor([0, 4, 2]))
    assert images.shape == (3, channels, *size)
    assert float(images.detach().abs().mean()) > 0


def test_the_class_changes_the_image_only_where_it_is_told() -> None:
    z, classes = torch.randn(4, 6), (torch.zeros(4).long(), torch.ones(4).long())
    plain = build_generator("unconditional", classes=2, channels=1, size=(8, 8), latent=6, width=4).eval()
    assert torch.equal(plain(z, classes[0]), plain(z, classes[1]))
    told = build_generator("conditional", classes=2, channels=1, size=(8, 8), latent=6, width=4).eval()
    assert torch.equal(told(z, classes[0]), told(z, classes[1]))  # tables start alike
    told.norms[3].shift.weight.data[1] = 2.0
    torch.testing.assert_close(told(z, classes[1]), told(z, classes[0]) + 2)


def test_class_batch_norm_by_hand() -> None:
    norm = ClassBatchNorm2d(2, classes=3)
    norm.scale.weight.data, norm.shift.weight.data = torch.randn(3, 2), torch.randn(3, 2)
    x, y = torch.randn(4, 2, 3, 3), torch.tensor([2, 0, 2, 1])
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    normal = (x - mean) / (var + 1e-3).sqrt()
    want = norm.scale.weight[y][:, :, None, None] * normal + norm.shift.weight[y][:, :, None, None]
    torch.testing.assert_close(norm(x, y), want)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "conditionl"}, "unknown generator"),
        ({"size": (3, 8)}, "at least 4 pixels"),
        ({"depth": 3}, "no option 'depth'"),
    ],
)
def test_what_cannot_be_built(wrong: dict, message: str) -> None:
    known = {"name": "conditional", "classes": 2, "channels": 1, "size": (8, 8), "latent": 4}
    with pytest.raises(ModelError, match=message):
        build_generator(**{**known, **wrong})
