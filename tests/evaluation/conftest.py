from __future__ import annotations

from pathlib import Path

import pytest

import limbeck
from limbeck import Run


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small network that has really learned digits."""
    folder: Path = tmp_path_factory.mktemp("evaluation")
    run = limbeck.train(
        "cnn",
        "digits",
        output=folder / "run",
        train={"epochs": 8, "precision": "fp32"},
        latency=False,
        quiet=True,
    )
    assert run.results["last"]["test"]["accuracy"] > 0.9
    return run
