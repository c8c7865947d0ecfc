"""Scale-decoupled distillation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from ..errors import ConfigError, ModelError
from ..losses import regional_logits, sdd, standardise
from ..losses.sdd import Base
from ..signals import Batch, Signals
from ..taps import EMBEDDING, Layout, Taps
from .base import Method, Setting, Status, Term, Terms
from .labels import over_labels, warmed


class SDD(Method):
    """A loss on logits, applied to the regions of each network's last map; the classifier reads each region.

    Both networks must average a map and read it with one linear layer. Which map that is, is found by trying.
    """

    paper = "Wei et al., CVPR 2024, arXiv:2403.13512"
    status: ClassVar[Status] = "verified"
    needs = frozenset({"logits", "features"})
    head = True
    base: ClassVar[Base]

    class Options(Method.Options):
        """Options of ``limbeck.losses.sdd``, and the warm-up."""

        scales: tuple[int, ...] = Field((1, 2), description="regions on each side: [1], [1, 2] or [1, 2, 4]")
        temperature: float = Field(4.0, gt=0, description="divides the logits")
        complementary: float = Field(
            2.0, ge=0, description="weight of regions where the teacher is not as right as globally"
        )
        warmup: int = Field(0, ge=0, description="epochs over which the weight grows to 1; 0: none")

        @field_validator("scales")
        @classmethod
        def _published(cls, value: tuple[int, ...]) -> tuple[int, ...]:
            if value not in ((1,), (1, 2), (1, 2, 4)):
                raise ValueError("scales should be [1], [1, 2] or [1, 2, 4]")
            return value

    options: Options

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        if teacher is None or setting.teacher is None:
            raise ConfigError(
                f"method {self.name!r} needs a teacher network", fix="set teacher, or choose another method"
            )
        ours = _averaged("student", student, setting.student, setting)
        theirs = _averaged("teacher", teacher, setting.teacher, setting)
        self.student_taps, self.teacher_taps = (ours,), (theirs,)
        self.choices = (f"{self.name}: regions of student {ours}, teacher {theirs}",)

    def loss_options(self) -> dict[str, Any]:
        """Options that reach the loss."""
        return self.options.model_dump(exclude={"scales", "warmup"})

    def regions(self, signals: Signals, layer: str) -> Tensor:
        """A network's logits of every region ``(R, N, C)``."""
        weight, bias = signals.extra["head"]
        logits = regional_logits(signals.features[layer], weight, bias, self.options.scales)
        if "raw" not in signals.extra:
            return logits
        return standardise(logits.flatten(0, 1)).view_as(logits)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        s = self.regions(student, self.student_taps[0])
        t = self.regions(self.taught(teacher), self.teacher_taps[0])
        value = over_labels(
            batch,
            lambda labels, reduction: sdd(
                s, t, labels, base=self.base, **self.loss_options(), reduction=reduction
            ),
        )
        return {self.name: Term(value, warmed(batch, self.options.warmup))}


class SDDKD(SDD):
    """``0.1 CE + 0.9 SD-KD``.

    Example:
        >>> SDDKD(scales=[1, 2, 4]).options.scales
        (1, 2, 4)
    """

    name = "sdd_kd"
    base = "kd"
    label_weight = 0.1
    weight = 0.9


class SDDDKD(SDD):
    """``CE + min((epoch + 1) / warmup, 1) SD-DKD``; shorten the warm-up in short runs.

    Example:
        >>> SDDDKD(beta=2.0).options.beta
        2.0
    """

    name = "sdd_dkd"
    base = "dkd"

    class Options(SDD.Options):
        """Options of ``limbeck.losses.sdd``, and the warm-up."""

        alpha: float = Field(1.0, ge=0, description="weight of target against the rest")
        beta: float = Field(8.0, ge=0, description="weight of the rest among themselves")
        warmup: int = Field(20, ge=0, description="epochs over which the weight grows to 1; 0: none")


class SDDNKD(SDD):
    """``CE + min((epoch + 1) / warmup, 1) SD-NKD``, with the target taken out of the rest.

    The released SD-NKD leaves it there; the authors' T = 4 and gamma = 8 are kept.

    Example:
        >>> SDDNKD().options.beta
        8.0
    """

    name = "sdd_nkd"
    base = "nkd"
    status = "transcribed"

    class Options(SDD.Options):
        """Options of ``limbeck.losses.sdd``, and the warm-up."""

        beta: float = Field(8.0, ge=0, description="weight of the rest among themselves (gamma of nkd)")
        warmup: int = Field(20, ge=0, description="epochs over which the weight grows to 1; 0: none")


@torch.no_grad()
def _averaged(who: str, network: Layout, model: nn.Module, setting: Setting) -> str:
    """The layer whose mean over places is what the classifier reads.

    Raises:
        ModelError: there is none.
    """
    names = list(
        dict.fromkeys(
            layer.name
            for layer in reversed(network.layers)
            if len(layer.shape) == 3 and max(layer.shape[1:]) > 1 and layer.shape[:1] == network.embedding
        )
    )
    if names:
        noise = torch.randn(2, setting.inputs.channels, *setting.inputs.size, generator=torch.Generator())
        modes = {module: module.training for module in model.modules()}
        with Taps([*names, EMBEDDING], network.classifier).record(model) as found:
            model.eval()(noise.to(next(model.parameters()).device))
        for module, mode in modes.items():
            module.training = mode
        read = found[EMBEDDING].float()
        for name in names:
            if torch.allclose(found[name].float().mean((2, 3)), read, rtol=1e-3, atol=1e-5):
                return name
    raise ModelError(
        f"the {who}'s classifier reads no mean of a map, so it cannot be asked about regions",
        got=f"{type(model).__name__}, whose last linear layer reads {network.embedding or 'nothing'}",
        expected="a network that ends in an average over places and one linear layer",
        fix="choose a method on whole logits, such as kd or dkd",
    )
