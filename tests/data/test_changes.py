"""Label noise, imbalance and few-shot selection touch the training split only and do what their formulas say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import limbeck
from limbeck.config import parse
from limbeck.data import Changes, Data, DataConfig, Imbalance, LabelNoise, from_arrays, load
from limbeck.data.imbalance import keep, sizes
from limbeck.data.noise import corrupt
from limbeck.errors import ConfigError, DataError


def rows(data: Data, part: str) -> list[bytes]:
    kept = getattr(data, part)
    return [image.numpy().tobytes() for image in kept.fetch(torch.arange(len(kept)))[0]]


def transition(noise: LabelNoise, classes: int = 4, each: int = 20_000) -> torch.Tensor:
    """Measured P(given | true)."""
    labels = torch.arange(classes).repeat_interleave(each)
    given = corrupt(labels, noise, classes, seed=3)
    return torch.bincount(labels * classes + given, minlength=classes**2).view(classes, classes) / each


def test_noise_follows_its_transition_matrix() -> None:
    r, k = 0.4, 4
    eye, ones = torch.eye(k), torch.ones(k, k)
    expected = {
        "symmetric": (1 - r) * eye + r / (k - 1) * (ones - eye),
        "symmetric-all": (1 - r) * eye + r / k * ones,
        "pair": (1 - r) * eye + r * eye.roll(1, dims=1),
    }
    for kind, matrix in expected.items():
        measured = transition(LabelNoise(kind=kind, rate=r))
        assert torch.allclose(measured, matrix, atol=0.015), kind


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_rate_one_leaves_no_label_right_and_rate_zero_all(kind: Any) -> None:
    labels = torch.randint(0, 2, (500,))
    assert not (corrupt(labels, LabelNoise(kind=kind, rate=1), 2, 0) == labels).any()
    assert torch.equal(corrupt(labels, LabelNoise(kind=kind, rate=0), 2, 0), labels)


def test_noise_is_seeded_and_grows_with_the_rate() -> None:
    labels = torch.randint(0, 10, (2000,))
    low, high = (corrupt(labels, LabelNoise(rate=r), 10, 0) for r in (0.2, 0.5))
    wrong = low != labels
    assert torch.equal(low[wrong], high[wrong])
    assert (high != labels).sum() > 1.5 * wrong.sum()
    assert torch.equal(low, corrupt(labels, LabelNoise(rate=0.2), 10, 0))
    assert not torch.equal(low, corrupt(labels, LabelNoise(rate=0.2), 10, 1))


def test_class_sizes_follow_their_formulas() -> None:
    k, available = 10, torch.full((10,), 5000)
    exponential = sizes(available, Imbalance(kind="exponential", ratio=100), None)
    assert exponential == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]  # CIFAR-10-LT, ratio 100
    assert sizes(available, Imbalance(kind="step", ratio=10), None) == [5000] * 5 + [500] * 5
    assert sizes(available, Imbalance(kind="step", ratio=10, minority=0.2), 100) == [100] * 8 + [10] * 2
    assert sizes(available, Imbalance(kind="power", exponent=1), 1000) == [1000 // (c + 1) for c in range(k)]
    assert sizes(torch.tensor([9, 90]), Imbalance(kind="exponential", ratio=3), None) == [9, 3]
    assert sizes(torch.tensor([90, 9]), Imbalance(kind="exponential", ratio=3), None) == [27, 9]
    assert sizes(torch.tensor([9, 0, 8]), Imbalance(kind="exponential", ratio=100), None) == [9, 0, 1]


def test_smaller_selections_are_part_of_larger_ones() -> None:
    labels = torch.randint(0, 3, (300,))
    few, many = (set(keep(labels, [n] * 3, 0).tolist()) for n in (5, 50))
    assert few < many
    assert few != set(keep(labels, [5] * 3, 1).tolist())


def test_only_the_training_split_changes() -> None:
    clean = load(DataConfig())
    changed = load(
        DataConfig(noise=LabelNoise(rate=0.5), imbalance=Imbalance(kind="exponential", ratio=10), seed=4)
    )
    for part in ("validation", "test"):
        assert rows(clean, part) == rows(changed, part)
        assert torch.equal(getattr(clean, part).labels, getattr(changed, part).labels)
    assert (clean.mean, clean.std) == (changed.mean, changed.std)
    truth = dict(zip(rows(clean, "train"), clean.train.labels.tolist(), strict=True))
    true = torch.tensor([truth[row] for row in rows(changed, "train")])
    given = changed.train.labels
    assert changed.changes["noise"]["realised"] == (true != given).double().mean().item()
    assert 0.4 < changed.changes["noise"]["realised"] < 0.6
    counts = torch.bincount(true, minlength=10).tolist()
    assert changed.changes["class_counts"] == counts
    assert changed.changes["imbalance"]["realised"] == counts[0] / counts[9] >= 10
    assert torch.equal(changed.train.fetch(torch.arange(len(given)))[1], given)
    assert clean.changes == {}


def test_a_sample_is_equally_wrong_in_every_selection() -> None:
    noise = LabelNoise(rate=0.5)
    every, few = load(DataConfig(noise=noise)), load(DataConfig(noise=noise, per_class=7))
    given = dict(zip(rows(every, "train"), every.train.labels.tolist(), strict=True))
    assert [given[row] for row in rows(few, "train")] == few.train.labels.tolist()
    assert few.changes["class_counts"] == [7] * 10


def test_validation_is_corrupted_on_request() -> None:
    clean = load(DataConfig())
    noisy = load(DataConfig(noise=LabelNoise(rate=0.5, validation=True)))
    assert 0.3 < (clean.validation.labels != noisy.validation.labels).double().mean() < 0.7
    assert torch.equal(clean.test.labels, noisy.test.labels)
    x, y = np.zeros((40, 2, 2), np.uint8), np.arange(40) % 2
    noise = LabelNoise(kind="pair", rate=1, validation=True)
    own = from_arrays(x, y, x, y, x, y, changes=Changes(noise=noise))
    assert torch.equal(own.validation.labels, 1 - torch.from_numpy(y))
    assert torch.equal(own.test.labels, torch.from_numpy(y))


def test_data_sets_of_ones_own_get_the_noisy_labels_too() -> None:
    from torch.utils.data import TensorDataset

    from limbeck.data import from_datasets

    data = TensorDataset(torch.rand(20, 1, 4, 4), torch.arange(20) % 2)
    made = from_datasets(data, data, 4, changes=Changes(noise=LabelNoise(kind="pair", rate=1)))
    assert torch.equal(made.train.fetch(torch.arange(16))[1], made.train.labels)
    assert made.changes["noise"]["realised"] == 1


def test_impossible_changes_are_refused() -> None:
    with pytest.raises(DataError, match=r"data.per_class asks for more .* got 1000; expected at most 1"):
        load(DataConfig(per_class=1000))
    with pytest.raises(ValidationError, match=r"either data\.train_size or data\.per_class"):
        DataConfig(per_class=2, train_size=50)
    base = {"student": "mlp"}
    with pytest.raises(ConfigError, match=r"noise\.rate"):
        parse({**base, "data": {"noise": {"rate": 1.5}}})
    with pytest.raises(ConfigError, match="kind exponential is told by its ratio"):
        parse({**base, "data": {"imbalance": {"kind": "exponential"}}})
    with pytest.raises(ConfigError, match="exponential"):
        parse({**base, "data": {"imbalance": {"kind": "linear"}}})
    with pytest.raises(ConfigError, match="ratoi"):
        parse({**base, "data": {"imbalance": {"kind": "step", "ratoi": 3}}})


def test_a_resumed_run_must_have_the_same_changes() -> None:
    from limbeck.training.parts import Parts

    x, y = np.arange(160, dtype=np.uint8).reshape(40, 2, 2), np.arange(40) // 20

    def identity(**changes: Any) -> str:
        data = from_arrays(x, y, x, y, x, y, changes=Changes(**changes))
        return Parts(parse({"student": "mlp"}), data=data).identity()["training data"]

    assert identity(per_class=3) == identity(per_class=3)
    found = {
        identity(**c)
        for c in ({}, {"per_class": 3}, {"per_class": 3, "seed": 1}, {"noise": LabelNoise(rate=0.5)})
    }
    assert len(found) == 4


def test_a_run_records_and_reports_what_its_labels_came_to(tmp_path: Path) -> None:
    from limbeck.report import read, write

    run = limbeck.train(
        "mlp",
        {
            "name": "digits",
            "noise": {"rate": 0.3},
            "imbalance": {"kind": "step", "ratio": 4},
            "per_class": 40,
        },
        output=tmp_path / "run",
        train={"epochs": 1, "precision": "fp32", "guards": "warn"},
        latency=False,
        quiet=True,
    )
    changes = run.info["changes"]
    assert changes["class_counts"] == [40] * 5 + [10] * 5
    assert 0.15 < changes["noise"]["realised"] < 0.45
    assert read(run.path).run.changes.per_class == 40
    page = write([run.path], tmp_path / "report.html").read_text()
    wrong = f"{100 * changes['noise']['realised']:.1f} % of the training labels are wrong"
    assert f"symmetric label noise 0.3 ({wrong})" in page
    assert "step class imbalance, ratio 4 (largest class 4 times smallest)" in page
