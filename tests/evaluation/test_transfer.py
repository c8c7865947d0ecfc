from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from limbeck import Run
from limbeck.cli.inspect import probing
from limbeck.data import DataConfig, from_arrays, load
from limbeck.errors import ConfigError, ModelError
from limbeck.evaluation import linear_probe


def test_it_is_logistic_regression_on_what_the_last_layer_reads() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())
    data = load(DataConfig())
    found = linear_probe(nn.Sequential(*body, nn.Linear(12, 3)), data, images=None, strengths=[0.01, 1.0])

    def features(split: object) -> tuple[np.ndarray, np.ndarray]:
        x, y = split.fetch(torch.arange(len(split)))  # type: ignore[attr-defined, arg-type]
        with torch.no_grad():
            return body((x - data.mean[0]) / data.std[0]).double().numpy(), y.numpy()

    scores = {}
    for strength in (0.01, 1.0):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        fitted.fit(*features(data.train))
        scores[strength] = (fitted.score(*features(data.validation)), fitted.score(*features(data.test)))
    strength = max(scores, key=lambda s: scores[s][0])
    assert (found["strength"], found["train"], found["embedding"]) == (strength, 1293, 12)
    assert (found["validation"], found["accuracy"]) == pytest.approx(scores[strength], abs=0.01)


def test_a_trained_network_transfers_better_than_an_untrained_one(trained: Run) -> None:
    """To telling odd from even digits, on few images."""
    plain = load(DataConfig())
    odd = {}
    for part in ("train", "validation", "test"):
        split = getattr(plain, part)
        odd[part] = (split.images, split.labels % 2)
    data = from_arrays(*odd["train"], *odd["test"], *odd["validation"])
    learned = linear_probe(trained, data, images=200)
    student = trained.student()
    for module in student.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    untrained = linear_probe(student, data, inputs=trained.inputs(), images=200)
    assert learned["accuracy"] > untrained["accuracy"] + 0.02
    assert learned["data"] == "arrays"


def test_images_are_brought_to_the_network(trained: Run) -> None:
    """Colour images of twice the size of digits carry the same digits."""
    plain = load(DataConfig())
    parts = []
    for split in (plain.train, plain.test, plain.validation):
        images = split.images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # type: ignore[attr-defined]
        parts += [images.expand(-1, 3, -1, -1), split.labels]
    found = linear_probe(trained, from_arrays(*parts), images=300)
    assert found["accuracy"] == pytest.approx(linear_probe(trained, plain, images=300)["accuracy"], abs=0.03)


def test_the_network_is_left_alone_and_the_draw_is_seeded(trained: Run) -> None:
    student, data = trained.student().train(), load(DataConfig())
    before = {name: value.clone() for name, value in student.state_dict().items()}
    first = linear_probe(student, data, images=100)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert first == linear_probe(student, data, images=100)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ModelError, match="ends in no linear layer on vectors"):
        linear_probe(net, load(DataConfig()), images=50)


def test_the_command_prints_and_writes(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    probing(trained.path, "best", "{name: digits, per_class: 20}", [])
    printed = capsys.readouterr().out
    found = json.loads((trained.path / "probe-digits.json").read_text())
    assert (found["checkpoint"], found["train"]) == ("best", 200)
    assert f"{100 * found['accuracy']:.2f} % on test" in printed
    with pytest.raises(ConfigError, match="--probe is not valid"):
        probing(trained.path, "last", "{name: digits, sise: 3}", [])
    with pytest.raises(ConfigError, match="--probe is not valid YAML"):
        probing(trained.path, "last", "{name", [])
