"""Texts sampled from causal language models.

Nothing here knows a trainer or a loss.
"""

from __future__ import annotations

from .decoder import Decoder
from .plain import generate
from .sampling import Sampler, row_numbers, sampling
from .texts import Generated, Texts

__all__ = [
    "Decoder",
    "Generated",
    "Sampler",
    "Texts",
    "generate",
    "row_numbers",
    "sampling",
]
