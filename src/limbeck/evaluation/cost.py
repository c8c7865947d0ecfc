"""What a network costs to keep and to run: parameters, FLOPs, latency."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError

BUDGET = 0.3
"""Seconds for the timed calls of one batch size; the call that passes it is the last one."""


def cost(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    latency: bool = True,
    batches: tuple[int, ...] = (1, 256),
    repeats: int = 30,
    budget: float = BUDGET,
) -> dict[str, Any]:
    """Parameters, FLOPs and latency of a network as it stands: its device, dtype and memory format.

    FLOPs are those of ``torch.utils.flop_counter`` for one image: 2 per multiply-add, matrix products and
    convolutions only (no normalisation, activation or pooling). Latency is measured in eval mode under
    ``inference_mode`` on random inputs, after a warm-up: the median of at most ``repeats`` calls, ended
    early when the ``budget`` is spent (always one call). The training mode of every submodule is restored
    and batch statistics do not move.

    Args:
        model: the network; called with one float tensor ``(B, *input_shape)``.
        input_shape: shape of one input without the batch, such as ``(channels, height, width)``.
        latency: measure it; False gives counts only.
        batches: batch sizes to time.
        repeats: most timed calls per batch size.
        budget: seconds for the timed calls of one batch size.

    Returns:
        ``parameters`` (count), ``flops`` (per input), ``threads`` (CPU threads used by torch), ``device``,
        and ``latency_ms_B``: milliseconds per batch of B inputs, for each B of ``batches``.

    Raises:
        ModelError: the network cannot be called with an input of this shape.

    Example:
        >>> figures = cost(nn.Linear(8, 4), (8,), latency=False)
        >>> figures["parameters"], figures["flops"]
        (36, 64)
    """
    result: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            result["flops"] = _flops(model, _inputs(model, input_shape, 1))
            result["threads"] = torch.get_num_threads()
            result["device"] = str(_reference(model).device)
            for size in batches if latency else ():
                seconds = _median(model, _inputs(model, input_shape, size), repeats, budget)
                result[f"latency_ms_{size}"] = 1000 * seconds
    finally:
        for module, mode in modes.items():
            module.training = mode
    return result


def _flops(model: nn.Module, inputs: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter:
            model(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be called with an input of shape {tuple(inputs.shape)}",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="give the shape of one input without the batch, as the network was built for",
        ) from error
    return int(counter.get_total_flops())


def _median(model: nn.Module, inputs: Tensor, repeats: int, budget: float) -> float:
    begin = time.perf_counter()
    for _ in range(2):
        model(inputs)
        _wait(inputs)
        if time.perf_counter() - begin > budget / 2:
            break
    times: list[float] = []
    begin = time.perf_counter()
    while not times or (len(times) < repeats and time.perf_counter() - begin < budget):
        start = time.perf_counter()
        model(inputs)
        _wait(inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait(inputs: Tensor) -> None:
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)


def _inputs(model: nn.Module, shape: tuple[int, ...], size: int) -> Tensor:
    reference = _reference(model)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, *shape, generator=generator).to(reference.device, reference.dtype)
    if x.dim() == 4 and _channels_last(model):
        x = x.contiguous(memory_format=torch.channels_last)
    return x


def _reference(model: nn.Module) -> Tensor:
    """A floating parameter (or buffer) that tells the network's device and dtype."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor
    return torch.zeros(())


def _channels_last(model: nn.Module) -> bool:
    """Whether some weight is stored channels-last and could not be read as contiguous too."""
    return any(
        p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
        for p in model.parameters()
    )
