"""Networks on several modalities, any of which may be missing."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ..errors import ModelError, suggest
from ..modalities import Modalities
from ..taps import Anatomy
from .encoders import encoder
from .tnet import TransformationNet


class TNetOptions(BaseModel):
    """Options of ``TransformationNet``, and what gradients pass it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: tuple[int, ...] = (256, 128, 256)
    activation: Literal["relu", "none"] = "relu"
    out_act: Literal["none", "sigmoid"] = "none"
    detach: bool = Field(True, description="keep the gradient of what comes after away from the T-Net")
    detach_input: bool = Field(True, description="keep the T-Net's own gradient away from the encoders")


class FusionOptions(BaseModel):
    """Options of ``FusionNet``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sees: tuple[str, ...] = Field((), description="modalities that are encoded; none named: all")
    imagines: tuple[str, ...] = Field(
        (), description="modalities whose feature a T-Net supplies where missing"
    )
    zeros: tuple[str, ...] = Field((), description="modalities of the fusion whose feature is always 0")
    fusion: Literal["gated", "attention"] = "gated"
    width: int = Field(64, ge=1, description="of each modality's feature and of the fused one")
    hidden: tuple[int, ...] = Field((128,), description="hidden layers of the encoders")
    dropout: float = Field(0.2, ge=0, lt=1)
    heads: int = Field(2, ge=1, description="of the attention")
    encoders: dict[str, Any] = Field({}, description="modality -> network of the table, or identity")
    tnet: TNetOptions = TNetOptions()
    streams: bool = Field(
        False, description="an adapter and a head for each modality, for MT-PKDOT's teachers"
    )

    @model_validator(mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        if isinstance(value, dict):
            names = ("sees", "imagines", "zeros")
            return {k: (v,) if k in names and isinstance(v, str) else v for k, v in value.items()}
        return value


class FusionNet(nn.Module):
    """Encoders of the modalities, a gate over the sample's own features, and a linear layer.

    Samples never see each other: no attention or statistics across the batch, so the answer about a sample does not
    depend on its batch mates. A missing modality is left out of the gate, unless a T-Net supplies its feature. Streams
    read the modalities' features and send no gradient back to the encoders, which are frozen in the published code.

    Args:
        classes: outputs.
        modalities: the layout of the inputs.
        options: ``FusionOptions``.

    Attributes:
        sees: names of the modalities that are encoded.

    Raises:
        ModelError: a modality that the data does not have.

    Example:
        >>> layout = Modalities((("face", (3,)), ("heart", (2,))))
        >>> net = FusionNet(classes=2, modalities=layout, options=FusionOptions(sees=("face",), imagines=("heart",)))
        >>> net(torch.zeros(4, layout.width)).shape
        torch.Size([4, 2])
    """

    def __init__(self, *, classes: int, modalities: Modalities, options: FusionOptions) -> None:
        super().__init__()
        o, self.modalities = options, modalities
        shapes = dict(modalities.shapes)
        self.sees = o.sees or tuple(n for n in modalities.names if n not in (*o.imagines, *o.zeros))
        for name in (*self.sees, *o.imagines, *o.zeros, *o.encoders):
            if name not in shapes:
                raise ModelError(f"the data has no modality {name!r}", expected=suggest(name, list(shapes)))
        if both := set(o.zeros) & {*self.sees, *o.imagines}:
            raise ModelError(f"{', '.join(sorted(both))} cannot be 0 and be seen or imagined too")
        if not self.sees:
            raise ModelError("the network sees no modality", fix="name at least one in the option sees")
        self.imagines, self.detach, self.detach_input = o.imagines, o.tnet.detach, o.tnet.detach_input
        self.parts = tuple(dict.fromkeys((*self.sees, *o.imagines, *o.zeros)))
        self.encoders = nn.ModuleDict(
            {
                name: encoder(shapes[name], o.width, o.hidden, o.dropout, o.encoders.get(name))
                for name in self.sees
            }
        )
        known, tnet = o.width * len(self.sees), o.tnet
        self.tnets = nn.ModuleDict(
            {
                name: TransformationNet(known, o.width, tnet.hidden, tnet.activation, tnet.out_act)
                for name in o.imagines
            }
        )
        self.mix = Attention(o.width, o.heads, o.dropout) if o.fusion == "attention" else None
        self.gate = Gate(o.width, len(self.parts))
        self.adapters, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for name in self.sees if o.streams else ():
            bottleneck = max(o.width // 2, 1)
            self.adapters[name] = nn.Sequential(
                nn.Linear(o.width, bottleneck), nn.Linear(bottleneck, o.width)
            )
            self.heads[name] = nn.Linear(o.width, classes)
        self.fc = nn.Linear(o.width, classes)
        self.anatomy = Anatomy(None, (), ())

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(N, classes)`` of rows ``(N, modalities.width)``."""
        given = self.modalities.split(x)
        here = dict(zip(self.modalities.names, self.modalities.present(x).unbind(1), strict=True))
        seen = {name: self.encoders[name](given[name]) * here[name][:, None] for name in self.sees}
        for name, head in self.heads.items():
            head(self.adapters[name](seen[name].detach()))
        features = dict(seen)
        counted = {name: here[name] for name in self.sees}
        for name, tnet in self.tnets.items():
            context = torch.cat(list(seen.values()), 1)
            made = tnet(context.detach() if self.detach_input else context)
            made = made.detach() if self.detach else made
            features[name] = torch.where(here[name][:, None], seen[name], made) if name in seen else made
            counted[name] = torch.ones_like(here[name])
        blank = torch.zeros_like(next(iter(seen.values())))
        tokens = torch.stack([features.get(name, blank) for name in self.parts], 1)
        mask = torch.stack([counted.get(name, torch.ones_like(here[name])) for name in self.parts], 1)
        if self.mix is not None:
            tokens = self.mix(tokens, mask)
        logits: Tensor = self.fc(self.gate(tokens, mask))
        return logits

    def whole(self, x: Tensor) -> Tensor:
        """Which rows have every modality that the network sees ``(N,)``."""
        present = self.modalities.present(x)
        return present[:, [self.modalities.names.index(name) for name in self.sees]].all(1)


class Gate(nn.Module):
    """A convex combination of a sample's features, its weights from all of them.

    For two modalities this is the published gate, the sigmoid of one number.

    Example:
        >>> Gate(2, 2)(torch.ones(1, 2, 2), torch.tensor([[True, False]])).detach()
        tensor([[1., 1.]])
    """

    def __init__(self, width: int, modalities: int) -> None:
        super().__init__()
        self.score = nn.Linear(width * modalities, modalities) if modalities > 1 else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Features ``(N, M, D)``, and which count ``(N, M)`` -> ``(N, D)``; 0 where none counts."""
        tokens = tokens * mask[..., None]
        if self.score is None:
            return tokens[:, 0]
        scores = self.score(tokens.flatten(1)).masked_fill(~(mask | ~mask.any(1, keepdim=True)), -torch.inf)
        fused: Tensor = (scores.softmax(1)[..., None] * tokens).sum(1)
        return fused


class Attention(nn.Module):
    """One post-norm encoder block over a sample's modalities.

    The published block attends across the samples of a batch, by leaving out ``batch_first``; this one does not.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ModelError("the width is no multiple of the attention's heads", got=f"{width} and {heads}")
        self.attend = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``(N, M, D)`` and which count ``(N, M)`` -> ``(N, M, D)``."""
        hidden = ~(mask | ~mask.any(1, keepdim=True))
        found, _ = self.attend(tokens, tokens, tokens, key_padding_mask=hidden, need_weights=False)
        tokens = self.norm(tokens + found)
        out: Tensor = self.last(tokens + self.think(tokens))
        return out


def build_fusion(name: str, *, classes: int, modalities: Modalities, **options: Any) -> nn.Module:
    """A network for several modalities by name.

    Raises:
        ModelError: another name than ``fusion``, or a modality that the data does not have.
        ConfigError: an unknown option or a wrong value.
    """
    from ..config import check

    if name != "fusion":
        raise ModelError(
            f"the network {name!r} reads one image, not modalities",
            expected="fusion, whose option encoders takes networks for single modalities",
            fix="set student.name=fusion",
        )
    found = check(FusionOptions, options, "the network fusion")
    return FusionNet(classes=classes, modalities=modalities, options=found)
