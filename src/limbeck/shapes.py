"""Shape annotations shared by the package; the test suite checks them while it runs."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "rows classes"]
"""One row of class scores per sample, pixel or token."""

Labels = Int[Tensor, "rows"]
"""Class ids; ``IGNORE`` marks a row without a label."""

Rows = Float[Tensor, "rows"]
"""One number per row."""

Value = Float[Tensor, ""]
"""A scalar."""

Images = Float[Tensor, "rows channels height width"]
"""A batch of images."""

Channels = Float[Tensor, "channels"]
"""One number per channel."""

Features = Float[Tensor, "..."]
"""Features of any shape."""

Maps = Float[Tensor, "rows channels height width"]
"""Feature maps of a batch; names with another size are other networks'."""

TeacherMaps = Float[Tensor, "rows channels_t height_t width_t"]
"""Feature maps of another network on the same batch."""

Vectors = Float[Tensor, "rows width"]
"""One embedding per sample."""

TeacherVectors = Float[Tensor, "rows width_t"]
"""One embedding of another network per sample."""

Regional = Float[Tensor, "regions rows classes"]
"""One row of class scores per region of each sample."""

Regions = Float[Tensor, "rows channels regions"]
"""Means of the regions of feature maps."""

IGNORE = -100
"""The label of a row that has none (PyTorch's own convention)."""
