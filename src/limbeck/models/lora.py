"""LoRA: low-rank matrices beside frozen layers, by peft."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..files import write_atomic
from ..sharding import shared

if TYPE_CHECKING:
    from ..config import LoraConfig

ADAPTER = "default"
"""Name of the one adapter inside a model."""


def attach(model: nn.Module, config: LoraConfig) -> nn.Module:
    """Freeze a language model and put trainable low-rank matrices beside its layers, in place.

    A layer becomes ``x -> W x + alpha / rank * B A dropout(x)``, with B = 0 at the start. Matrices are kept in float32
    even where the model is not.

    Args:
        model: a causal language model of transformers.
        config: rank, factor, dropout, and which layers.

    Raises:
        DependencyError: peft is not installed.
        ModelError: no such layers, a network of another kind, or a head that cannot have matrices of its own.

    Source:
        Hu et al., LoRA, ICLR 2022, arXiv:2106.09685; the layers are peft's.
    """
    from .libraries import import_library

    peft: Any = import_library("peft", extra="llm")
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        raise ModelError(
            f"LoRA is for language models, and {type(model).__name__} is none", fix="leave student.lora out"
        )
    before = {name: module for name, module in model.named_modules() if module is head}
    targets: Any = "all-linear" if config.targets is None else list(config.targets)
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it adapts to transposed layers
            peft.inject_adapter_in_model(settings, model, adapter_name=ADAPTER)
    except (ValueError, TypeError) as error:
        layers = sorted(
            {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)}
        )
        raise ModelError(
            f"student.lora.targets does not fit {type(model).__name__}",
            got=str(error).splitlines()[0],
            expected=f"names of layers, such as {', '.join(layers)}, or null for all but the head",
        ) from None
    touched = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    _possible(model, head, bool(touched & before.keys()), touched, config)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype.itemsize < 4:
            parameter.data = parameter.data.float()
        assert parameter.requires_grad == ("lora_" in name)
    return model


def _possible(
    model: nn.Module, head: nn.Module, on_head: bool, touched: set[str], config: LoraConfig
) -> None:
    """Refuse what would make head and embeddings differ, or the head's matrices differ from call to call."""
    inputs: Any = getattr(model, "get_input_embeddings", lambda: None)()
    base = getattr(inputs, "base_layer", inputs)
    tied = base is not None and getattr(base, "weight", None) is getattr(head, "weight", 0)
    if tied and (on_head or len(getattr(inputs, "lora_embedding_A", ()))):
        raise ModelError(
            "LoRA cannot be on a head or embedding that are one tensor",
            got=f"{type(model).__name__} with tied embeddings",
            fix="take them out of student.lora.targets, or set the option tie_word_embeddings to false",
        )
    if on_head and config.dropout:
        raise ModelError(
            "losses read the head as one matrix, which dropout would change from token to token",
            got=f"student.lora.dropout {config.dropout} with the head among the targets",
            fix="set student.lora.dropout to 0, or take the head out of student.lora.targets",
        )


def adapted(module: nn.Module) -> bool:
    """Whether a network holds matrices of peft.

    Example:
        >>> adapted(nn.Linear(2, 3))
        False
    """
    return any(getattr(part, "peft_config", None) is not None for part in module.modules())


def effective(layer: Any) -> Tensor:
    """The matrix of a linear layer, with its low-rank part where it has one."""
    weight: Tensor = layer.weight
    if not hasattr(layer, "get_delta_weight") or layer.disable_adapters or layer.merged:
        return weight
    for name in layer.active_adapters:
        if name in layer.lora_A:
            weight = weight + layer.get_delta_weight(name).to(weight.dtype)
    return weight


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without the frozen parameters of adapted networks in it: what training changes."""
    state = module.state_dict()
    frozen = _frozen(module)
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def put_back(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what ``trained`` gave.

    Raises:
        RuntimeError: names or shapes do not fit.
    """
    frozen = _frozen(module)
    missing, unexpected = module.load_state_dict(shared(state, module.state_dict()), strict=False)
    if (wrong := set(missing) - frozen) or unexpected:
        raise RuntimeError(f"missing {sorted(wrong)[:3]}, left over {unexpected[:3]}")


def best_file(model: nn.Module) -> str:
    """Where a run keeps the best epoch while it lasts; a finished run has plain weights in ``best.safetensors``.

    Example:
        >>> best_file(nn.Linear(2, 3))
        'best.safetensors'
    """
    return "best_adapter.safetensors" if adapted(model) else "best.safetensors"


def _frozen(module: nn.Module) -> set[str]:
    return {
        f"{prefix}{'.' * bool(prefix)}{name}"
        for prefix, part in module.named_modules()
        if getattr(part, "peft_config", None) is not None
        for name, parameter in part.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }


def base_fingerprint(model: nn.Module) -> str:
    """SHA-256 over the frozen part of an adapted network."""
    from ..teachers.live import fingerprint

    frozen = _frozen(model)
    return fingerprint({name: tensor for name, tensor in model.state_dict().items() if name in frozen})


@torch.no_grad()
def merged(model: nn.Module) -> dict[str, Tensor]:
    """Weights of the plain network that says the same: low-rank parts added, under the plain names.

    The model itself stays as it is; a copy of it is in memory meanwhile.
    """
    if not adapted(model):
        return model.state_dict()
    twin: Any = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    state = twin.state_dict()
    return {name.replace(".base_layer.", "."): t for name, t in state.items() if ".lora_" not in name}


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write the matrices as peft does: ``PeftModel.from_pretrained(base, folder)`` reads them."""
    from peft import get_peft_model_state_dict

    from ..training.checkpoint import save_weights

    known: Any = model
    config = known.peft_config[ADAPTER]
    state = get_peft_model_state_dict(known, adapter_name=ADAPTER, save_embedding_layers=False)
    save_weights(
        folder / "adapter_model.safetensors", {f"base_model.model.{name}": t for name, t in state.items()}
    )
    values = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
        if key != "runtime_config"
    }
    values["inference_mode"] = True
    text = json.dumps(values, indent=2, default=str)
    write_atomic(folder / "adapter_config.json", lambda file: file.write(text.encode()))
