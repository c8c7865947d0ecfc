"""ASDT: masks from image-level labels by alternating two teachers of one network's own."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, ModelError
from ..models.asdt import Dual
from ..pulse import PulseWidthSchedule
from ..segmentation import (
    affinity,
    dense_energy,
    mean_field,
    plain_cross_entropy,
    reliable_labels,
    scaled_cams,
    split_cross_entropy,
    symmetric,
    with_background,
)
from ..signals import Batch, Signals
from ..taps import Layout
from ..tasks.weak import WeakBatch
from .base import Method, MethodOptions, Setting, Term, Terms


class RandomField(MethodOptions):
    """A dense random field: two kernels over pixels.

    Attributes:
        iterations: of mean field.
        sigma_xy: pixels of the image, of the kernel that knows colour.
        sigma_rgb: of 255.
        weight: of that kernel.
        smooth: pixels of the image, of the kernel of places alone.
        smooth_weight: of that kernel.
    """

    iterations: int = Field(10, ge=0)
    sigma_xy: float = Field(80.0, gt=0)
    sigma_rgb: float = Field(13.0, gt=0)
    weight: float = Field(10.0, ge=0)
    smooth: float = Field(3.0, gt=0)
    smooth_weight: float = Field(3.0, ge=0)


class ASDT(Method):
    """``L_cls + 1/2 [CE*(head, Y1) + DE(head)] + 1/2 [L_student + DE(student)]``, **reconstructed**.

    Y1 are the reliable pixels of the class activation maps after a dense random field (the first teacher); Y2 is
    what a random field makes of the first mask head (the second teacher). The student head learns from Y1 in the
    OFF slots of a pulse-width-modulated switch over optimiser steps and from Y2 in its ON slots:

        OFF: L_student = CE*(student, Y1)        ON: L_student = w CE(student, Y2)

    The released code computes Y2 in the ON slots and never uses it (both heads learn from Y1 in every step, which
    is ``switch: null`` here). The ON objective is put together from a line that is commented out and a variable
    ``w_pgt = 0.1`` beside it: **reconstructed**, and its readings are options. Numbers made with it are not numbers
    of the paper.

    Deviations: Y2 has only classes of the image's own labels (``restrict``); both fields look at the very view that
    the network saw; sides of CE* without pixels count 0; the fields are exact over all pairs of pixels of a small
    map instead of a permutohedral filter.

    Example:
        >>> ASDT(switch={"period": 60, "start": 450}).options.switch.slots
        6
    """

    name = "asdt"
    paper = "Zhang et al., IEEE TIP 2025, arXiv:2112.09459"
    status = "reconstructed"
    needs = frozenset[str]()
    may_rest = frozenset({"head", "energy", "student_by_cam", "student_by_head"})
    uneven = True

    class Options(Method.Options):
        """Readings of the published pieces; the defaults are the released code's values for 321-pixel photographs."""

        classify: int = Field(0, ge=0, description="steps of classification alone, first")
        switch: PulseWidthSchedule | None = Field(
            PulseWidthSchedule(period=150, slots=6, start=1000), description="null: the first teacher alone"
        )
        mix: bool = Field(False, description="after the start half of each teacher in every step, no switch")
        on: Literal["replace", "add"] = Field(
            "replace", description="ON slots: Y2 instead of Y1, or beside it"
        )
        w_t2: float = Field(
            1.0, ge=0, description="weight of Y2's cross-entropy; a variable of the code says 0.1"
        )
        split_t2: bool = Field(False, description="CE* instead of plain CE for Y2")
        restrict: bool = Field(True, description="Y2 has only classes of the image's labels")
        exponents: tuple[float, float] = Field(
            (4.0, 32.0), description="of the background score, low and high"
        )
        confidence: float = Field(0.8, gt=0, lt=1, description="of a pixel of Y1")
        percentile: float = Field(0.6, ge=0, lt=1, description="of a class's activations, for a pixel of Y1")
        cam_field: RandomField = Field(RandomField(), description="the random field of Y1")
        head_field: RandomField = Field(
            RandomField(sigma_xy=83.0, sigma_rgb=5.0, weight=4.0), description="the random field of Y2"
        )
        energy: float = Field(1e-7, ge=0, description="weight of the dense energy's sum over places")
        energy_xy: float = Field(100.0, gt=0, description="pixels of the image")
        energy_rgb: float = Field(15.0, gt=0, description="of 255")
        stride: int = Field(2, ge=1, description="labels and fields are this much smaller than the image")
        scales: tuple[float, ...] = Field(
            (1.0,), min_length=1, description="of the image, for activation maps"
        )
        heads: float = Field(0.5, ge=0, description="weight of each head's loss")

    options: Options
    mean: Tensor
    std: Tensor

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        """Remember the normalisation, to see colours.

        Raises:
            ConfigError: the data has masks, or is no segmentation at all.
        """
        if setting.labels.dim() == 3 or setting.labels.shape[-1] == 0:
            raise ConfigError(
                "asdt learns from image-level labels, and this training split offers masks",
                fix="set data.weak=true: then they are not even read",
            )
        if setting.labels.dim() != 2:
            raise ConfigError(
                "asdt makes masks, and this data is for classification",
                fix="take scenes or a folder with masks",
            )
        self.register_buffer("mean", torch.tensor(setting.inputs.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(setting.inputs.std).view(1, -1, 1, 1), persistent=False)
        switch = self.options.switch
        if switch is None:
            self.choices = ("asdt: the first teacher alone",)
        else:
            how = "half of each teacher" if self.options.mix else f"1 of {switch.slots} slots"
            self.choices = (f"asdt (reconstructed): {how}, of {switch.period} steps, after {switch.start}",)

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        """Activation maps of the image at other scales, without gradient and without dropout."""
        others = [scale for scale in self.options.scales if scale != 1]
        if not others or self.step < self.options.classify:
            return
        dual: Dual = signals.extra["dual"]
        size = dual.cams.shape[-2:]
        found = [dual.cams] if 1 in self.options.scales else []
        mode = student.training
        student.eval()
        with torch.no_grad():
            for scale in others:
                image = F.interpolate(batch.inputs, scale_factor=scale, mode="bilinear", align_corners=False)
                cams = student(image).cams.float()
                found.append(F.interpolate(cams, size, mode="bilinear", align_corners=False))
        student.train(mode)
        signals.extra["dual"] = dual._replace(cams=torch.stack(found).mean(0))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, dual = self.options, student.extra.get("dual")
        if dual is None or not isinstance(batch, WeakBatch) or batch.present is None:
            raise ModelError(
                "asdt needs the network asdt on image-level labels",
                fix="set student.name=asdt and data.weak=true",
            )
        if self.step < o.classify:
            return {}
        images, present = self.seen(batch.inputs), batch.present
        by_cam = self.cam_labels(images, dual.cams, present)
        heads = [_sized(maps, images) for maps in (dual.teacher, dual.student)]
        terms = {"head": Term(split_cross_entropy(heads[0], by_cam), o.heads)}
        second = self.second_teacher()
        if not (second and o.on == "replace" and not o.mix):
            share = 0.5 if second and o.mix else 1.0
            terms["student_by_cam"] = Term(split_cross_entropy(heads[1], by_cam), o.heads * share)
        if second:
            by_head = self.head_labels(images, heads[0], present)
            loss = (split_cross_entropy if o.split_t2 else plain_cross_entropy)(heads[1], by_head)
            terms["student_by_head"] = Term(loss, o.heads * o.w_t2 * (0.5 if o.mix else 1.0))
        if o.energy:
            kernel = affinity(images, o.energy_xy / o.stride, o.energy_rgb)
            energies = [dense_energy(head.softmax(1), kernel, by_cam) for head in heads]
            terms["energy"] = Term(energies[0] + energies[1], o.heads * o.energy)
        return terms

    def second_teacher(self) -> bool:
        """Whether the second teacher has a word in this step."""
        o, step = self.options, self.step + 1
        if o.switch is None:
            return False
        return step > o.switch.start if o.mix else o.switch.turn(step) == 1

    def seen(self, inputs: Tensor) -> Tensor:
        """The images as the fields see them: colours of 255, ``stride`` times smaller."""
        colours = inputs.float() * self.std + self.mean
        return F.avg_pool2d(colours * 255, self.options.stride, ceil_mode=True)

    @torch.no_grad()
    def cam_labels(self, images: Tensor, cams: Tensor, present: Tensor) -> Tensor:
        """Y1 ``(B, h, w)``: reliable pixels of activation maps ``(B, K - 1, h', w')``; ``present`` is ``(B, K)``."""
        o = self.options
        maps = scaled_cams(_sized(cams, images), present[:, 1:])
        kernels = _kernels(images, o.cam_field, o.stride)
        low, high = (
            mean_field(with_background(maps, exponent), kernels, o.cam_field.iterations, present)
            for exponent in o.exponents
        )
        return reliable_labels(
            maps, low, high, exponent=o.exponents[1], confidence=o.confidence, percentile=o.percentile
        )

    @torch.no_grad()
    def head_labels(self, images: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        """Y2 ``(B, h, w)``: what the field makes of the first head's maps ``(B, K, h, w)``."""
        o = self.options
        kernels = _kernels(images, o.head_field, o.stride)
        allowed = present if o.restrict else None
        return mean_field(logits.softmax(1), kernels, o.head_field.iterations, allowed).argmax(1)

    def refined(self, images: Tensor, scores: Tensor) -> Tensor:
        """The fused prediction after a field at the image's own size, for inference ``(B, K, H, W)``.

        Args:
            images: normalised ``(B, C, H, W)``.
            scores: probabilities ``(B, K, H, W)``.
        """
        colours = (images.float() * self.std + self.mean) * 255
        kernels = _kernels(colours, self.options.head_field, 1)
        return mean_field(scores, kernels, self.options.head_field.iterations)


def _sized(maps: Tensor, images: Tensor) -> Tensor:
    maps = maps.float()
    if maps.shape[2:] == images.shape[2:]:
        return maps
    return F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)


def _kernels(images: Tensor, field: RandomField, stride: int) -> list[tuple[Tensor, float]]:
    """The kernels of a field over maps ``stride`` times smaller than the image."""
    found = [(symmetric(affinity(images, field.sigma_xy / stride, field.sigma_rgb)), field.weight)]
    if field.smooth_weight:
        near = symmetric(affinity(images[:1], field.smooth / stride, None))
        found.append((near, field.smooth_weight))
    return found
