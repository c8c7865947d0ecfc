"""The same study on a real local Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.running import limbeck
from tests.study.test_runner import numbers, write

pytestmark = pytest.mark.slow

pytest.importorskip("ray")


def test_a_study_on_ray_ends_in_the_same_numbers(tmp_path: Path) -> None:
    study = write(tmp_path / "tiny.yaml")
    on_ray = limbeck("study", study, "-o", tmp_path / "ray", "--ray", "local")
    assert on_ray.returncode == 0, on_ray.stderr
    assert "[5/5]" in on_ray.stderr
    here = limbeck("study", study, "-o", tmp_path / "here")
    assert here.returncode == 0, here.stderr
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "here")


def test_no_cluster_is_one_message(tmp_path: Path) -> None:
    done = limbeck("study", write(tmp_path / "tiny.yaml"), "-o", tmp_path / "out", "--ray", "127.0.0.1:1")
    assert done.returncode == 2
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
