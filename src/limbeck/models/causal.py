"""Causal language models of transformers by name, and their heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import ModelError
from ..losses import Head
from ..shapes import IGNORE
from ..signals import Batch
from .lora import effective

if TYPE_CHECKING:
    from .libraries import Data


def from_causal(name: str, data: Data, options: dict[str, Any]) -> nn.Module:
    """A causal language model: a kind (``gpt2``, ``llama``, ``qwen2``), a folder, or a name on the hub.

    ``options`` are keys of its configuration, and ``pretrained``. Without it, weights are random and the head has
    as many rows as the vocabulary; with it, weights are loaded from safetensors. Code of a hub is never run.

    Raises:
        DependencyError: transformers is not installed.
        ModelError: unknown kind, wrong options, or weights or configuration that cannot be had.
    """
    from .libraries import attempt, configuration, import_library

    label, options = f"causal:{name}", dict(options)
    auto: Any = import_library("transformers", extra="llm").AutoModelForCausalLM
    model: Any
    if options.pop("pretrained", False):
        loading = {"use_safetensors": True, "trust_remote_code": False, **options}
        model = attempt(label, lambda: auto.from_pretrained(name, **loading))
    else:
        modeling = import_library("transformers.models.auto.modeling_auto", extra="llm")
        kinds = list(modeling.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        configure, _ = configuration(label, name, kinds, "causal language model", options)
        plain = {
            "vocab_size": data.classes,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
        }
        model = attempt(label, lambda: auto.from_config(configure(**{**plain, **options})))
    rows = len(head_of(model).weight)
    if rows < data.classes:
        raise ModelError(
            f"{label} knows fewer tokens than the tokenizer",
            got=rows,
            expected=f"at least {data.classes}",
            fix="give the tokenizer that the model was trained with",
        )
    network: nn.Module = model
    return network


def head_of(model: nn.Module, vocabulary: int | None = None) -> Head:
    """The head of a causal language model of transformers, in the precision of autocast where it is on.

    Soft caps (Gemma 2) and factors on the logits (Cohere, Granite) are known from the configuration.

    Args:
        model: the model, or an adapter around one.
        vocabulary: rows to keep; those beyond are padding.

    Raises:
        ModelError: the model has no linear head.
    """
    layer = getattr(model, "get_output_embeddings", lambda: None)()
    if layer is None or not isinstance(getattr(layer, "weight", None), torch.Tensor):
        raise ModelError(
            f"{type(model).__name__} has no linear head",
            expected="a causal language model of transformers",
        )
    weight, bias = effective(layer)[:vocabulary], getattr(layer, "bias", None)
    if torch.is_autocast_enabled(weight.device.type):
        weight = weight.to(torch.get_autocast_dtype(weight.device.type))
    config: Any = model.config
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1.0)
    return Head(
        weight,
        None if bias is None else bias[:vocabulary],
        float(scale),
        getattr(config, "final_logit_softcapping", None),
    )


def embedded(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of the tokens at supervised positions and of their labels, without gradients, ``(N, d)`` each."""
    known = batch.labels != IGNORE
    network: Any = model
    weight: torch.Tensor = network.get_input_embeddings().weight.detach()
    return weight[batch.inputs[known]], weight[batch.labels[known]]
