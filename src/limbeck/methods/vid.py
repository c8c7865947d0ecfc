"""VID: variational information distillation."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..connectors import match, text, width
from ..losses import vid
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod


class VID(FeatureMethod):
    """``CE + sum over stages of VID``, with a trained mean and a trained variance for each channel.

    Example:
        >>> VID(variance=1.0).options.variance
        1.0
    """

    name = "vid"
    paper = "Ahn et al., CVPR 2019, arXiv:1904.05835"
    status = "verified"

    class Options(FeatureMethod.Options):
        """Layers, and the variance."""

        variance: float = Field(5.0, gt=1e-3, description="of every channel at the start")
        eps: float = Field(1e-5, gt=0, le=1e-4, description="added to the variance")

    options: Options
    guesses: nn.ModuleList

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o, pairs = self.options, self.maps(self.stages(student, teacher))
        sizes = [(width(pair.source), width(pair.target)) for pair in pairs]
        self.guesses = nn.ModuleList(Guess(a, b, variance=o.variance, eps=o.eps) for a, b in sizes)
        self.compare(pairs, [text(size) + " by three 1x1 convolutions" for size in sizes])

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        values = []
        for guess, (s, t) in zip(self.guesses, self.feature_maps(student, teacher), strict=True):
            s, t = match(s, t)
            mean, variance = guess(s)
            values.append(vid(mean, t, variance))
        return {self.name: Term(sum(values[1:], values[0]))}


class Guess(nn.Module):
    """Mean and variance of the teacher's features, guessed from the student's.

    The mean comes from three 1x1 convolutions without bias, with ReLU between them; the variance is one trained
    number per channel, ``softplus(log_scale) + eps``.

    Args:
        inputs: the student's channels.
        outputs: the teacher's channels.
        variance: at the start.
        eps: the least variance.

    Source:
        RepDistiller ``VIDLoss``. (mdistiller keeps the numbers outside the module: its variance is never
        trained.)

    Example:
        >>> mean, variance = Guess(4, 6)(torch.zeros(2, 4, 3, 3))
        >>> mean.shape, variance[:2]
        (torch.Size([2, 6, 3, 3]), tensor([5.0000, 5.0000], grad_fn=<SliceBackward0>))
    """

    def __init__(self, inputs: int, outputs: int, variance: float = 5.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.regressor = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((outputs,), math.log(math.expm1(variance - eps))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(N, C, H, W)`` to the mean ``(N, D, H, W)`` and the variance ``(D,)``."""
        return self.regressor(x), F.softplus(self.log_scale) + self.eps
