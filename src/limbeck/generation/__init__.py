"""Texts sampled from causal language models: from one, or from a student that a teacher corrects.

Nothing here knows a trainer or a loss.
"""

from __future__ import annotations

from .acceptance import accept, accepted_prefix
from .decoder import Decoder
from .plain import generate
from .sampling import Sampler, row_numbers, sampling
from .speculative import Interleaved, interleave
from .statistics import Statistics
from .texts import Generated, Texts

__all__ = [
    "Decoder",
    "Generated",
    "Interleaved",
    "Sampler",
    "Statistics",
    "Texts",
    "accept",
    "accepted_prefix",
    "generate",
    "interleave",
    "row_numbers",
    "sampling",
]
