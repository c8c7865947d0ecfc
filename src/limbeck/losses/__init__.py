"""Losses: tensors in, tensor out. The index of all of them."""

from __future__ import annotations

from .at import at
from .bickd import bickd, bickd_class, bickd_sample
from .cskd import cosine_similarity_kd, cswt, cswt_temperatures
from .dist import dist
from .dkd import dkd
from .fitnets import fitnets
from .kd import kd
from .label_smoothing import label_smoothing

__all__ = [
    "at",
    "bickd",
    "bickd_class",
    "bickd_sample",
    "cosine_similarity_kd",
    "cswt",
    "cswt_temperatures",
    "dist",
    "dkd",
    "fitnets",
    "kd",
    "label_smoothing",
]
