"""Every test runs with shape annotations checked."""

from __future__ import annotations

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub; it is read when the libraries are imported

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("limbeck", "beartype.beartype")

# A busy machine is no failure.
settings.register_profile("limbeck", deadline=None)
settings.load_profile("limbeck")
