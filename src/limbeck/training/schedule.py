"""Optimisers and learning-rate schedules; a rate is a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from ..config import OptimizerConfig, ScheduleConfig
from ..errors import ModelError


def optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The configured optimiser; weight decay acts on all parameters, as in the CIFAR protocol.

    Raises:
        ModelError: no parameter requires a gradient.
    """
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        raise ModelError("no parameter of the network requires a gradient", fix="unfreeze what is to learn")
    if config.name != "sgd":
        made = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        return made(
            trained,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        trained,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def factor(config: ScheduleConfig, step: int, steps_per_epoch: int, steps: int) -> float:
    """Multiplier of the base learning rate at an optimiser step.

    ``warmup``: ``(step + 1) / w`` for the first w steps. ``step``: ``factor ** (milestones passed)``, where a
    milestone at epoch m is passed from the first step after m whole epochs. ``cosine``:
    ``(1 + cos(pi * t)) / 2`` with t in [0, 1) running from the end of warm-up to the last step. ``linear``: ``1 - t``.

    Args:
        config: the schedule.
        step: optimiser steps taken so far.
        steps_per_epoch: optimiser steps in an epoch.
        steps: optimiser steps in the run.

    Example:
        >>> step = ScheduleConfig(name="step", milestones=(1, 2), factor=0.1)
        >>> [round(factor(step, s, 2, 6), 3) for s in range(6)]
        [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """
    warmup = round(config.warmup * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    if config.name == "step":
        return float(config.factor ** sum(step >= m * steps_per_epoch for m in config.milestones))
    t = (step - warmup) / max(1, steps - warmup)
    if config.name == "linear":
        return 1 - t
    return 0.5 * (1 + math.cos(math.pi * t)) if config.name == "cosine" else 1.0
