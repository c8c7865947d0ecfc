"""Every test runs with shape annotations checked."""

from __future__ import annotations

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from jaxtyping import install_import_hook

install_import_hook("limbeck", "beartype.beartype")
