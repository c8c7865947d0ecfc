"""Networks of which each process keeps a part: weights, gradients and moments of the optimiser (PyTorch's FSDP2)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from .errors import ConfigError


def cut(module: nn.Module, network: nn.Module, device: torch.device) -> None:
    """Cut a module that learns into shards, in place: each layer of the network in it alone, and the rest together.

    Layers are what transformers calls indivisible (``_no_split_modules``). A layer is whole while it runs; what lies
    around the layers (embeddings, head, helpers of methods) from the beginning of ``module``'s forward pass to the end
    of its backward pass. Gradients are means over the processes.

    Args:
        module: what is called and differentiated.
        network: the network in it that has layers.
        device: where shards live.

    Raises:
        ConfigError: a parameter cannot be cut.
    """
    if single := [name for name, p in module.named_parameters() if p.dim() == 0]:
        raise ConfigError(f"{single[0]} is one number and cannot be cut", fix="leave train.shard out")
    fully_shard, mesh = _fully_shard(), _mesh(device)
    for layer in _layers(network):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    # the first call settles which module is the outermost one, and a part of it may be called before it is
    known: Any = module
    known.forward = lambda: None
    known()
    del known.forward
    known.reshard()


def cut_frozen(network: nn.Module, device: torch.device) -> None:
    """Cut the layers of a network that does not learn, once; embeddings and head stay whole on every process.

    Raises:
        ConfigError: it does not say what its layers are.
    """
    if is_cut(network):
        return
    if not (layers := _layers(network)):
        raise ConfigError(
            f"{type(network).__name__} does not say what its layers are, so that it cannot be cut",
            expected="a model of transformers",
            fix="set train.shard to student",
        )
    fully_shard, mesh = _fully_shard(), _mesh(device)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def is_cut(module: nn.Module) -> bool:
    """Whether a module, or a layer in it, is cut into shards.

    Example:
        >>> is_cut(nn.Linear(2, 3))
        False
    """
    return bool(_shards(module))


@contextmanager
def whole(*modules: nn.Module | None) -> Iterator[None]:
    """Modules with all their weights on every process, so that each may call them as often as it likes.

    For passes without gradients. Inside, ``state_dict`` must not be asked for.
    """
    parts = [(part, part is module) for module in modules if module is not None for part in _shards(module)]
    for part, _ in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part, root in parts:
            part.set_reshard_after_forward(not root, recurse=False)
            part.reshard()


def full(state: Any) -> Any:
    """A state with whole tensors in the first process; the others take part and keep their shards.

    All processes must ask, for the same state.

    Args:
        state: tensors, plain values, and lists and mappings of them.
    """
    if _spread(state):
        found = state.full_tensor()
        return found.cpu() if dist.get_rank() == 0 else state
    if isinstance(state, Mapping):
        return {key: full(value) for key, value in state.items()}
    return type(state)(map(full, state)) if isinstance(state, list | tuple) else state


def shared(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, equal in all processes, as the shards that a module keeps of them.

    Args:
        state: what every process read.
        own: the module's own state; names that it has not, and what is whole there, stay as they are.
    """
    return {name: _like(state[name], own.get(name)) for name in sorted(state)}  # in the same order everywhere


def shared_moments(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimiser that ``full`` gave, for one whose parameters may be cut."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        i: {
            key: _like(value, parameters[i]) if isinstance(value, Tensor) and value.dim() else value
            for key, value in found.items()
        }
        for i, found in state["state"].items()
    }
    return {**state, "state": moments}


def number(value: Tensor) -> float:
    """A scalar that may be spread over processes, which must all ask."""
    known: Any = value
    return float(known.full_tensor() if _spread(value) else known)


def _like(tensor: Tensor, own: Any) -> Tensor:
    if not _spread(own) or _spread(tensor) or tensor.shape != own.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    local = tensor.to(own.to_local().device, own.dtype)
    return distribute_tensor(local, own.device_mesh, own.placements)


def _spread(value: Any) -> bool:
    """Whether a tensor is a DTensor, whose module takes a second to import."""
    return hasattr(value, "full_tensor")


def _shards(module: nn.Module) -> list[Any]:
    fsdp = sys.modules.get("torch.distributed.fsdp")  # nothing is cut before it is imported
    return [] if fsdp is None else [p for p in module.modules() if isinstance(p, fsdp.FSDPModule)]


def _fully_shard() -> Any:
    from torch.distributed.fsdp import fully_shard

    return fully_shard


def _layers(network: nn.Module) -> list[nn.Module]:
    kinds = set(getattr(network, "_no_split_modules", None) or ())
    return [part for part in network.modules() if type(part).__name__ in kinds]


def _mesh(device: torch.device) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (dist.get_world_size(),))
