"""What number formats this machine is fast in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def resolve(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """``auto`` becomes bf16 where the hardware multiplies it natively, else fp32.

    On a CPU that means AVX-512 BF16 or AMX; emulated bf16 is slower than float32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16" if native else "fp32"
    return "fp32"
