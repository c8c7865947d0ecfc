"""Weakly supervised segmentation: random fields, pseudo labels and their losses."""

from .crf import affinity, mean_field, symmetric
from .labels import (
    dense_energy,
    plain_cross_entropy,
    reliable_labels,
    scaled_cams,
    split_cross_entropy,
    with_background,
)

__all__ = [
    "affinity",
    "dense_energy",
    "mean_field",
    "plain_cross_entropy",
    "reliable_labels",
    "scaled_cams",
    "split_cross_entropy",
    "symmetric",
    "with_background",
]
