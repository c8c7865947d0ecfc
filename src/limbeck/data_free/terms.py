"""The named terms of both phases, each behind its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from ..losses import data_free as loss
from ..losses import kd
from ..methods.base import Method, Term, Terms
from ..signals import Batch, Signals
from ..taps import EMBEDDING
from .config import DataFreeConfig
from .players import Synthesiser
from .statistics import Normalised


@dataclass(frozen=True)
class Seen:
    """One batch of images and what both networks said about it.

    Attributes:
        images: ``(B, C, H, W)``, with gradients to the generator.
        labels: requested classes ``(B,)``.
        teacher: its signals, with gradients to the images.
        student: its signals, or None where no term asks it.
        normalised: what the teacher's batch normalisations read.
        player: the generator with its helpers.
        contrast: CMI's contrast of these images with remembered ones.
    """

    images: Tensor
    labels: Tensor
    teacher: Signals
    student: Signals | None
    normalised: Normalised
    player: Synthesiser
    contrast: Callable[[], Tensor] = field(repr=False)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Logits of student and teacher."""
        assert self.student is not None
        return self.student.logits, self.teacher.logits


def generator_terms(seen: Seen, config: DataFreeConfig) -> Terms:
    """What the generator is to lower; adversarial terms carry their sign."""
    c = config
    found: dict[str, Callable[[], Tensor]] = {
        "bn": seen.normalised.loss,
        "ce": lambda: loss.class_loss(seen.teacher.logits, seen.labels, double_softmax=c.double_softmax),
        "one_hot": lambda: loss.class_loss(seen.teacher.logits, seen.teacher.logits.detach().argmax(1)),
        "activation": lambda: loss.activation(seen.teacher.features[EMBEDDING].flatten(1)),
        "balance": lambda: loss.balance(seen.teacher.logits, base=c.balance_base),
        "kl": lambda: -loss.divergence(*seen.pair, decision=c.decision),
        "mse": lambda: -loss.squared(*seen.pair, form="log" if c.log_squares else "plain"),
        "l1": lambda: -loss.absolute(*seen.pair),
        "js": lambda: loss.competition(*seen.pair, temperature=c.js_temperature),
        "scl": lambda: _views(seen, c),
        "contrast": seen.contrast,
        "tv": lambda: loss.total_variation(seen.images),
        "l2": lambda: loss.image_norm(seen.images),
    }
    return {name: Term(found[name](), weight) for name, weight in c.of_generator.items()}


def _views(seen: Seen, config: DataFreeConfig) -> Tensor:
    assert seen.student is not None
    assert seen.player.adapter is not None
    mine = seen.player.adapter(seen.student.features[EMBEDDING].flatten(1).float())
    theirs = F.normalize(seen.teacher.features[EMBEDDING].flatten(1).float(), dim=1)
    return loss.two_view_contrast(mine, theirs, seen.labels, temperature=config.scl_temperature)


class SyntheticTerms(Method):
    """What the student learns from synthetic images, as a method: ``kl``, ``mse``, ``l1``, ``ce``, weighted.

    Args:
        config: the run's section.
    """

    name = "data_free"
    paper = "the preset's"
    status = "transcribed"
    label_weight = 0.0

    def __init__(self, config: DataFreeConfig) -> None:
        super().__init__()
        self.config = config

    def term_weights(self) -> dict[str, float]:
        return dict(self.config.of_student)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        s, t, c = student.logits, self.taught(teacher).logits, self.config
        squares: Literal["plain", "log_norm"] = "log_norm" if c.log_squares else "plain"
        found = {
            "kl": lambda: kd(s, t, temperature=c.student_temperature),
            "mse": lambda: loss.squared(s, t, form=squares),
            "l1": lambda: loss.absolute(s, t),
            "ce": lambda: loss.class_loss(s, batch.labels, double_softmax=c.double_softmax),
        }
        return {name: Term(found[name](), weight) for name, weight in c.of_student.items()}
