"""FT: factor transfer."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..connectors import width
from ..losses import ft
from ..losses.ft import Distance, Form
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod

WEIGHTS: dict[Form, float] = {"factor": 500.0, "attention": 200.0}


class FT(FeatureMethod):
    """30 epochs of training a paraphraser of the teacher's last stage, then ``CE + 500 FT`` with it frozen.

    ``form="attention"`` is RepDistiller's, weight 200: attention maps of factors instead of factors.

    Example:
        >>> FT().weight, FT(form="attention").weight
        (500.0, 200.0)
    """

    name = "ft"
    paper = "Kim, Park, Kwak, NeurIPS 2018, arXiv:1802.04977"
    status = "verified"

    class Options(FeatureMethod.Options):
        """Layers, the initialisation stage, and options of ``limbeck.losses.ft``."""

        initial_epochs: int = Field(30, ge=1, description="epochs of the initialisation stage")
        rate: float = Field(0.5, gt=0, description="channels of the factor, as a share of the teacher's")
        form: Form = Field("factor", description="what is compared: the authors', or RepDistiller's")
        distance: Distance = Field("l1", description="how")

    options: Options
    paraphrasers: nn.ModuleList
    translators: nn.ModuleList

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.initial_epochs = self.options.initial_epochs
        self.weight = WEIGHTS[self.options.form]

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pairs = self.maps(self.deepest(student, teacher, embedding=False))
        sizes = [(width(p.source), width(p.target)) for p in pairs]
        factors = [max(int(b * self.options.rate), 1) for _, b in sizes]
        self.paraphrasers = nn.ModuleList(Paraphraser(b, k) for (_, b), k in zip(sizes, factors, strict=True))
        self.translators = nn.ModuleList(Translator(a, k) for (a, _), k in zip(sizes, factors, strict=True))
        self.compare(pairs, [f"factors of {k} channels" for k in factors])

    def initial(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        maps = [t for _, t in self.feature_maps(student, teacher)]
        values = [F.mse_loss(p(t), t) for p, t in zip(self.paraphrasers, maps, strict=True)]
        return {"paraphraser": Term(sum(values[1:], values[0]))}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, values = self.options, []
        helpers = zip(self.paraphrasers, self.translators, self.feature_maps(student, teacher), strict=True)
        for paraphraser, translator, (s, t) in helpers:
            assert isinstance(paraphraser, Paraphraser)
            with torch.no_grad():
                factor = paraphraser.encoder(t)
            values.append(ft(translator(s), factor, form=o.form, distance=o.distance))
        return {self.name: Term(sum(values[1:], values[0]))}


class Paraphraser(nn.Module):
    """An auto-encoder of the teacher's maps; its code is the factor.

    Three 3x3 convolutions to the factor and three transposed ones back, each with a leaky ReLU.

    Args:
        channels: the teacher's.
        factors: the factor's.

    Source:
        RepDistiller ``Paraphraser`` (without normalisation).

    Example:
        >>> paraphraser = Paraphraser(8, 4)
        >>> maps = torch.zeros(2, 8, 5, 5)
        >>> paraphraser.encoder(maps).shape, paraphraser(maps).shape
        (torch.Size([2, 4, 5, 5]), torch.Size([2, 8, 5, 5]))
    """

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_step(nn.Conv2d(channels, channels, 3, padding=1)),
            *_step(nn.Conv2d(channels, factors, 3, padding=1)),
            *_step(nn.Conv2d(factors, factors, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            *_step(nn.ConvTranspose2d(factors, factors, 3, padding=1)),
            *_step(nn.ConvTranspose2d(factors, channels, 3, padding=1)),
            *_step(nn.ConvTranspose2d(channels, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of maps ``(N, C, H, W)``."""
        found: Tensor = self.decoder(self.encoder(x))
        return found


class Translator(nn.Module):
    """The student's factor: three 3x3 convolutions with batch normalisation and a leaky ReLU each.

    Args:
        channels: the student's.
        factors: the factor's.

    Source:
        RepDistiller ``Translator``.

    Example:
        >>> Translator(6, 4)(torch.zeros(2, 6, 5, 5)).shape
        torch.Size([2, 4, 5, 5])
    """

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_step(nn.Conv2d(channels, channels, 3, padding=1), channels),
            *_step(nn.Conv2d(channels, factors, 3, padding=1), factors),
            *_step(nn.Conv2d(factors, factors, 3, padding=1), factors),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to factors ``(N, K, H, W)``."""
        found: Tensor = self.encoder(x)
        return found


def _step(conv: nn.Module, normalised: int | None = None) -> list[nn.Module]:
    norm = nn.Identity() if normalised is None else nn.BatchNorm2d(normalised)
    return [conv, norm, nn.LeakyReLU(0.1)]
