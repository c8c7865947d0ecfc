"""Networks of a run: by name, or from the user's own code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import OBJECT, ModelConfig
from ..data import Data
from ..errors import ModelError
from ..models import build, of_library
from ..models.fusion import build_fusion
from ..models.lora import attach
from ..teachers import Inputs
from .checkpoint import fill, load_weights


def feeds(data: Data) -> Inputs:
    """What a network trained on this data is fed."""
    return Inputs(data.channels, data.size, data.mean, data.std, getattr(data, "modalities", None))


def make(
    config: ModelConfig,
    *,
    classes: int,
    inputs: Inputs,
    seed: int | None = None,
    allow_code: Collection[str] = (),
) -> nn.Module:
    """Build a network, freshly initialised from a named stream of the seed, or filled with its weights.

    Args:
        config: name, options and weights. A name ``module:callable`` is the user's own code.
        classes: outputs.
        inputs: channels and size of what it is fed.
        seed: of the initialisation; None leaves the global generator alone.
        allow_code: the names ``module:callable`` that the user agreed to run.

    Raises:
        ModelError: unknown name or option, code that was not allowed or fails, weights that do not fit.
    """
    if seed is not None:
        torch.manual_seed(seed)
    shape: dict[str, Any] = {"classes": classes, "channels": inputs.channels, "size": inputs.size}
    if inputs.modalities is not None:
        shape = {"classes": classes, "modalities": inputs.modalities}
    if config.name.startswith(OBJECT):
        raise ModelError(
            f"the network {config.name.removeprefix(OBJECT)} was handed over in Python",
            fix="hand it over again: limbeck.Run(path).student(model=...) or limbeck.resume(path, student=...)",
        )
    if ":" in config.name and not of_library(config.name):
        model = _own_code(config, allow_code, shape)
    else:
        if taken := sorted({*shape, "name"} & set(config.options)):
            raise ModelError(
                f"{', '.join(taken)} of the network {config.name} is not an option",
                expected="the data to decide it",
                fix=f"remove {', '.join(taken)} from the options",
            )
        if config.name == "fusion" and inputs.modalities is None:
            raise ModelError(
                "the network fusion reads several modalities, and this data has none",
                fix="set data.name=multimodal, or take another network",
            )
        maker = build if inputs.modalities is None else build_fusion
        model = maker(config.name, **shape, **config.options)
    if config.weights is not None:
        fill(model, load_weights(Path(config.weights)), config.weights)
    return model if config.lora is None else attach(model, config.lora)


def _own_code(config: ModelConfig, allow_code: Collection[str], shape: dict[str, Any]) -> nn.Module:
    if config.name not in allow_code:
        raise ModelError(
            f"{config.name} is code, and a configuration may not run code by itself",
            fix=f"if you trust it, add --allow-code {config.name}",
        )
    module_name, _, attribute = config.name.partition(":")
    if not module_name or not attribute:
        raise ModelError(f"{config.name} names no code", expected="module:callable")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"cannot import {config.name}: {error}", fix="check module and callable") from None
    except Exception as error:
        raise ModelError(f"{config.name} fails on import: {_told(error)}", fix="mend that code") from error
    try:
        model = factory(**shape, **config.options)
    except TypeError as error:
        raise ModelError(
            f"{config.name} could not be called: {error}",
            expected=f"a callable that takes {', '.join([*shape, *config.options])} and returns a network",
        ) from error
    except Exception as error:
        raise ModelError(f"{config.name} fails: {_told(error)}", fix="mend that code") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{config.name} returned no network", got=type(model).__name__, expected="an nn.Module"
        )
    return model


def _told(error: Exception) -> str:
    """What an error in a user's code says, and where it is."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"


def named(model: nn.Module) -> ModelConfig:
    """The configuration entry of a network that was handed over in Python."""
    return ModelConfig(name=OBJECT + type(model).__name__)
