"""Mutual learning, branches of one network, generations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.running import limbeck as command
from tests.running import write_config
from torch import nn
from torch.nn import functional as F

import limbeck
from limbeck.config import parse
from limbeck.errors import ConfigError, ModelError
from limbeck.generations import ensemble_accuracy
from limbeck.losses import one, one_ensemble
from limbeck.methods import ONE
from limbeck.methods.one import Branch
from limbeck.models import build
from limbeck.runs import Run
from limbeck.taps import layout
from limbeck.training.parts import Parts
from limbeck.training.session import execute


def config(folder: Path, **more: Any) -> Any:
    values: dict[str, Any] = {
        "data": {"name": "digits", "train_size": 320},
        "student": {"name": "cnn", "options": {"widths": [4, 8], "norm": "none"}},
        "output": str(folder),
        "train": {"epochs": 2, "batch_size": 32, "precision": "fp32", "log_every": 1, "threads": 1},
        "latency": False,
    }
    return parse({**values, **more})


def test_mutual_learning_is_several_networks_with_an_optimiser_each(tmp_path: Path) -> None:
    """Written out with three optimisers, after one epoch, weight by weight."""
    settings = config(tmp_path / "ours", methods=[{"name": "dml", "students": 3}])
    parts = Parts(settings)
    cohort: list[nn.Module] = [parts.learner.student, *parts.learner.methods[0].networks().values()]
    weights = [p.detach().clone() for p in cohort[1].parameters()]
    assert not torch.equal(weights[0], next(cohort[0].parameters()))
    optimisers = [
        torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4) for net in cohort
    ]
    steps = 2 * len(parts.loader)
    batches = [batch for epoch in range(2) for batch in parts.loader.epoch(epoch)]
    for net in cohort:
        net.train()
    for step, batch in enumerate(batches):
        logits = [net(batch.inputs) for net in cohort]
        for i, optimiser in enumerate(optimisers):
            loss = F.cross_entropy(logits[i], batch.labels)
            for j, peer in enumerate(logits):
                if i != j:
                    p = peer.detach().log_softmax(1)
                    loss = (
                        loss
                        + F.kl_div(logits[i].log_softmax(1), p, reduction="batchmean", log_target=True) / 2
                    )
            for group in optimiser.param_groups:
                group["lr"] = 0.05 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)).item())
            optimiser.zero_grad()
            loss.backward(retain_graph=True)
        for optimiser in optimisers:
            optimiser.step()
    run = execute(settings)
    for name, tensor in run.student().state_dict().items():
        torch.testing.assert_close(tensor, cohort[0].state_dict()[name], rtol=1e-4, atol=1e-5)
    assert set(run.results["networks"]) == {"peer-1", "peer-2"}
    assert (tmp_path / "ours" / "peer-2.safetensors").is_file()


def test_peers_of_other_kinds(tmp_path: Path) -> None:
    entry = {"name": "dml", "students": 3, "networks": ["mlp", "resnet8"]}
    run = execute(config(tmp_path, methods=[entry]))
    assert set(run.metrics("train")[0]["terms"]) == {
        "cross_entropy",
        "dml",
        "dml.labels_1",
        "dml.labels_2",
    }
    with pytest.raises(ConfigError, match="3 students have 2 peers"):
        execute(config(tmp_path / "b", methods=[{"name": "dml", "students": 3, "networks": ["mlp"]}]))


def test_one_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    branches = [torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(3)]
    scores = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    gate = F.softmax(F.relu(scores), 1)
    ensemble = sum(gate[:, i : i + 1] * z for i, z in enumerate(branches))
    torch.testing.assert_close(one_ensemble(branches, scores), ensemble)
    kl = sum(
        9 * F.kl_div((z / 3).log_softmax(1), (ensemble / 3).softmax(1), reduction="batchmean")
        for z in branches
    )
    torch.testing.assert_close(one(branches, ensemble, epsilon=0.0), kl)
    assert one([z * 300 for z in branches], ensemble * 300).isfinite()


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "ShuffleV2", "cnn"])
def test_a_branch_is_the_rest_of_its_network(name: str) -> None:
    """Fed with the whole network's own feature, it gives the whole network's own logits."""
    network = build(name, classes=10, channels=3, size=(32, 32)).eval()
    inputs = torch.randn(2, 3, 32, 32)
    seen = layout(network, inputs)
    layer = seen.stages[-2]
    found: list[torch.Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda *given: found.append(given[2]))
    with torch.no_grad():
        expected = network(inputs)
    handle.remove()
    before = sum(p.numel() for p in network.parameters())
    branch = Branch(network, seen, layer, inputs, 10)
    torch.testing.assert_close(branch(inputs, found[0]), expected)
    assert 0 < sum(p.numel() for p in branch.parameters()) < before


def test_a_network_that_cannot_be_branched() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc((self.a(x) + self.b(x)).mean((2, 3)))

    inputs = torch.zeros(2, 1, 8, 8)
    with pytest.raises(ModelError, match="cannot be branched after 'a'"):
        Branch(Sum(), layout(Sum(), inputs), "a", torch.zeros(2, 2, 8, 8), 10)


def test_one_trains_the_gate_and_exports_one_branch(tmp_path: Path) -> None:
    run = execute(config(tmp_path, student={"name": "resnet8"}, methods=["one"]))
    first, last = (run.metrics("train")[i] for i in (0, -1))
    assert set(first["terms"]) == {"cross_entropy", "one", "one.branches", "one.ensemble"}
    assert first["terms"]["one"]["weight"] == pytest.approx(0.006738, abs=1e-5)
    assert last["terms"]["one"]["weight"] == 1.0
    assert last["terms"]["one.ensemble"]["raw"] < first["terms"]["one.ensemble"]["raw"]
    assert run.info["student"]["parameters"] == sum(
        p.numel() for p in build("resnet8", classes=10, channels=1, size=(8, 8)).parameters()
    )
    guards = Parts(config(tmp_path / "b", student={"name": "resnet8"}, methods=["one"])).inspect()
    assert "one: 3 branches after layer2" in [guard.detail for guard in guards]


def test_one_needs_stages(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="at least two stages"):
        execute(config(tmp_path, student={"name": "mlp"}, methods=["one"]))
    assert ONE().term_weights() == {"one": 1.0, "branches": 1.0, "ensemble": 1.0}


def test_generations_learn_from_the_one_before(tmp_path: Path) -> None:
    train = {"epochs": 4, "batch_size": 32, "precision": "fp32", "threads": 1}
    settings = config(tmp_path, student={"name": "resnet8"}, train=train)
    runs = limbeck.born_again(settings, 2)
    assert [run.info["label"] for run in runs] == ["scratch", "kd", "kd"]
    assert [run.config.teacher and Path(run.config.teacher.run or "").name for run in runs] == [
        None,
        "generation-0",
        "generation-1",
    ]
    assert [run.info["seed"] for run in runs] == [0, 1, 2]
    ended = [run.info["ended"] for run in runs]
    assert [run.info["ended"] for run in limbeck.born_again(settings, 2)] == ended
    assert ensemble_accuracy(runs[:1]) == pytest.approx(runs[0].accuracy)
    assert 0 < ensemble_accuracy(runs) <= 1


@pytest.mark.parametrize(
    ("more", "generations", "message"),
    [
        ({"teacher": {"run": "x"}}, 2, "their own teachers"),
        ({}, 0, "no generation"),
        ({"output": None}, 2, "need a folder"),
    ],
)
def test_wrong_generations(tmp_path: Path, more: dict[str, Any], generations: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        limbeck.born_again(config(tmp_path, **more), generations)


def test_the_command(tmp_path: Path) -> None:
    student = {"name": "resnet8", "options": {}}
    path = write_config(tmp_path / "config.yaml", student=student, train={"epochs": 4}, latency=False)
    done = command("born-again", path, "--generations", 1, "-o", tmp_path / "series")
    assert done.returncode == 0, done.stderr
    assert "generation-1" in done.stdout
    assert "all together: accuracy" in done.stdout
    assert Run(tmp_path / "series" / "generation-1").status == "finished"
