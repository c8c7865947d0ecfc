"""Generators: images from noise, of a requested class or of any."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError, suggest
from ..shapes import Images, Labels


class ClassBatchNorm2d(nn.Module):
    """Batch normalisation whose scale and shift belong to the requested class.

    ``gamma_y * (x - mean) / sqrt(var + eps) + beta_y`` per channel, tables of scales and shifts that start at 1
    and 0 (CPSC's categorical feature embedding; de Vries et al. 2017, arXiv:1707.00683).

    Args:
        channels: of the maps.
        classes: K, rows of both tables.
        eps: added to the variance (released code of CPSC-DFKD: 1e-3).
        momentum: of the running statistics.

    Example:
        >>> norm = ClassBatchNorm2d(4, classes=3)
        >>> norm(torch.randn(2, 4, 5, 5), torch.tensor([0, 2])).shape
        torch.Size([2, 4, 5, 5])
    """

    def __init__(self, channels: int, classes: int, eps: float = 1e-3, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps, momentum=momentum, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scales of 1 and shifts of 0."""
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Images, y: Labels) -> Images:
        """Normalised maps ``(B, channels, H, W)`` for requested classes ``(B,)``."""
        scale, shift = (table(y)[:, :, None, None] for table in (self.scale, self.shift))
        return torch.addcmul(shift, scale, self.norm(x))


class _PlainBatchNorm2d(nn.Module):
    """The same call without classes."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        normal: Tensor = self.norm(x)
        return normal


class Generator(nn.Module):
    """Images from noise: a linear layer to a quarter of the size, then twice a doubling and a convolution.

    ``Linear(latent -> 2w * h/4 * w/4) -> norm -> x2 -> conv 2w -> norm -> leaky ReLU 0.2 -> x2 -> conv w -> norm
    -> leaky ReLU -> conv channels -> tanh -> norm``. With classes every norm is a ``ClassBatchNorm2d``: the last
    one learns each class's mean and contrast per channel, and lets pixels leave [-1, 1]. Without, they are plain,
    the last one without scale and shift. Images are in the normalised pixels that networks are fed. The doubling
    is nearest-neighbour and ends at the exact size, so any size of at least 4 will do.

    Args:
        channels: image channels.
        size: height and width.
        latent: length of the noise.
        width: channels ``w`` of the last hidden maps (64 in CPSC-DFKD).
        classes: K, or None for images of any class.

    Source: GeneratorD of the released code of CPSC-DFKD (Shao et al. 2023); DCGAN-like, as in DAFL and DFAD.

    Example:
        >>> net = Generator(channels=1, size=(8, 8), latent=16, width=8, classes=10)
        >>> net(torch.randn(3, 16), torch.tensor([0, 1, 9])).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self, *, channels: int, size: tuple[int, int], latent: int, width: int = 64, classes: int | None
    ) -> None:
        super().__init__()
        if min(size) < 4 or min(latent, width, channels) < 1:
            raise ModelError(
                "the generator cannot be built",
                got=f"size {size[0]}x{size[1]}, latent {latent}, width {width}, channels {channels}",
                expected="sides of at least 4 pixels, and positive numbers",
            )
        self.latent, self.classes = latent, classes
        half = tuple(-(-side // 2) for side in size)
        self.sizes = ((-(-half[0] // 2), -(-half[1] // 2)), (half[0], half[1]), size)
        wide = 2 * width

        def norm(count: int, last: bool = False) -> nn.Module:
            if classes is not None:
                return ClassBatchNorm2d(count, classes)
            return _PlainBatchNorm2d(count, affine=not last)

        self.fc = nn.Linear(latent, wide * self.sizes[0][0] * self.sizes[0][1])
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in ((wide, wide), (wide, width), (width, channels))
        )
        self.norms = nn.ModuleList([norm(wide), norm(wide), norm(width), norm(channels, last=True)])

    def forward(self, z: Tensor, y: Labels) -> Images:
        """Images ``(B, channels, H, W)`` of noise ``(B, latent)`` and requested classes ``(B,)``."""
        x = self.norms[0](self.fc(z).unflatten(1, (-1, *self.sizes[0])), y)
        for i in (0, 1):
            x = F.interpolate(x, size=self.sizes[i + 1], mode="nearest")
            x = F.leaky_relu(self.norms[i + 1](self.convs[i](x), y), 0.2)
        return self.norms[3](torch.tanh(self.convs[2](x)), y)  # type: ignore[no-any-return]


def conditional(
    *, classes: int, channels: int, size: tuple[int, int], latent: int, width: int = 64
) -> Generator:
    """A generator that is told the class."""
    return Generator(channels=channels, size=size, latent=latent, width=width, classes=classes)


def unconditional(
    *, classes: int, channels: int, size: tuple[int, int], latent: int, width: int = 64
) -> Generator:
    """A generator that is not told the class."""
    return Generator(channels=channels, size=size, latent=latent, width=width, classes=None)


GENERATORS: dict[str, Callable[..., nn.Module]] = {"conditional": conditional, "unconditional": unconditional}
"""Every generator that a configuration can name; called with classes, channels, size, latent and its options."""


def build_generator(
    name: str, *, classes: int, channels: int, size: tuple[int, int], latent: int, **options: int
) -> nn.Module:
    """Make a generator by name.

    Raises:
        ModelError: an unknown name or option, or a size that it cannot have.

    Example:
        >>> sum(p.numel() for p in build_generator("unconditional", classes=10, channels=1, size=(28, 28),
        ...     latent=8, width=4).parameters())
        4481
    """
    if name not in GENERATORS:
        raise ModelError(f"unknown generator {name!r}", expected=suggest(name, list(GENERATORS)))
    if strange := sorted(options.keys() - {"width"}):
        raise ModelError(f"generator {name!r} has no option {strange[0]!r}", expected="width")
    return GENERATORS[name](classes=classes, channels=channels, size=size, latent=latent, **options)
