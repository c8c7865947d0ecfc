"""What makes images: a generator or the pixels themselves, with the small networks that judge beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses.data_free import instance_contrast
from ..shapes import Images, Labels, TeacherVectors, Vectors


class Pixels(nn.Module):
    """A batch of images that are trained themselves.

    Example:
        >>> Pixels((4, 1, 8, 8))(torch.zeros(4, 1), torch.zeros(4).long()).shape
        torch.Size([4, 1, 8, 8])
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with noise."""
        nn.init.normal_(self.images)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.images


class Adapter(nn.Module):
    """Brings the student's embedding to the teacher's width, unit length at the end.

    Equal widths: normalised as it is. Otherwise an MLP ``d_S -> d_S -> ReLU -> d_T``, trained with the generator
    and normalised after it; ``released`` is as the code of CPSC-DFKD leaves it: normalised before an MLP that is
    never trained, so that lengths behind it are whatever they are.

    Args:
        student, teacher: widths of the embeddings.
        released: as in the released code.
    """

    def __init__(self, student: int, teacher: int, released: bool = False) -> None:
        super().__init__()
        self.released = released
        self.net: nn.Module = nn.Identity()
        if student != teacher:
            self.net = nn.Sequential(nn.Linear(student, student), nn.ReLU(), nn.Linear(student, teacher))
            self.net.requires_grad_(not released)

    def forward(self, embedding: Vectors) -> TeacherVectors:
        """``(N, d_S)`` to ``(N, d_T)``."""
        if self.released:
            found: Tensor = self.net(F.normalize(embedding, dim=1))
            return found
        return F.normalize(self.net(embedding), dim=1)


class ContrastHead(nn.Module):
    """CMI's projection of batch-norm means: MLP to 256 features of unit length."""

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        hidden = min(width, 512)
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def forward(self, means: Vectors) -> TeacherVectors:
        """``(N, width)`` to ``(N, features)``."""
        return F.normalize(self.net(means), dim=1)

    def contrast(self, local: Tensor, whole: Tensor, current: int, temperature: float) -> Tensor:
        """``instance_contrast`` of projected means."""
        return instance_contrast(self(local), self(whole), current=current, temperature=temperature)


class Synthesiser(nn.Module):
    """The generator's side as one player.

    Args:
        generator: called with noise ``(B, latent)`` and classes ``(B,)``.
        noise: shape of trained noise, for a generator that makes one batch, or None.
        adapter: for the contrast of both networks' embeddings.
        head: for CMI's contrast.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        noise: tuple[int, int] | None = None,
        adapter: Adapter | None = None,
        head: ContrastHead | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.adapter, self.head = generator, adapter, head
        self.noise = None if noise is None else nn.Parameter(torch.randn(noise))

    def rebuild(self) -> None:
        """Begin anew: fresh weights of the generator, fresh noise; adapter and head live on."""
        for module in reversed(list(self.generator.modules())):  # what is around a layer has the last word
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        if self.noise is not None:
            nn.init.normal_(self.noise)

    def forward(self, z: Tensor, y: Labels) -> Images:
        """Images ``(B, C, H, W)``; trained noise takes the place of ``z``."""
        images: Tensor = self.generator(z if self.noise is None or not self.training else self.noise, y)
        return images


def shifted(images: Images, pixels: int) -> Images:
    """All images rolled by one random offset of up to so many pixels each way (DeepInversion's jitter).

    Example:
        >>> torch.equal(shifted(torch.ones(1, 1, 4, 4), 2), torch.ones(1, 1, 4, 4))
        True
    """
    if not pixels:
        return images
    down, right = torch.randint(-pixels, pixels + 1, (2,)).tolist()
    return torch.roll(images, (down, right), (2, 3))


def crops(images: Images, smallest: float) -> Images:
    """Random square crops, resized back and mirrored at random, differentiable; one for each image.

    Args:
        images: ``(N, C, H, W)``.
        smallest: share of the side that the smallest crop keeps.

    Example:
        >>> crops(torch.ones(2, 1, 8, 8), 0.25).shape
        torch.Size([2, 1, 8, 8])
    """
    n, device = len(images), images.device
    side = (smallest + (1 - smallest) * torch.rand(n)).to(device)
    offset = (1 - side)[:, None] * (2 * torch.rand(n, 2).to(device) - 1)
    mirror = torch.where(torch.rand(n).to(device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=device, dtype=images.dtype)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, offset
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
