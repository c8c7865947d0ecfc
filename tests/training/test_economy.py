"""Packed rows and recomputed layers: the same numbers for less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_causal import model
from tests.training.test_language import LARGE, assert_same, config

from limbeck import Run
from limbeck.config import parse
from limbeck.data.packing import packed
from limbeck.data.text import TokenSplit, TokenViews
from limbeck.errors import ConfigError, ModelError
from limbeck.signals import Batch
from limbeck.tasks import LanguageModelling
from limbeck.training.economy import recompute, require_packing
from limbeck.training.session import execute

TASK = LanguageModelling(classes=23)


def split() -> TokenSplit:
    draw = torch.Generator().manual_seed(1)
    samples = [torch.randint(0, 23, (n,), generator=draw) for n in (5, 9, 3, 7, 4)]
    labels = [ids.clone() for ids in samples]
    for given in labels:
        given[:2] = -100
    return TokenSplit(list(zip(samples, labels, strict=True)), "train")


def gradients(network: Any, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    network.zero_grad()
    loss = TASK.loss(TASK.call(network, batch), TASK.rows(batch))
    loss.backward()
    return float(loss.detach()), {
        n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "mistral", "gemma2"])
def test_packed_is_unpacked(kind: str) -> None:
    network = model(kind, **({"sliding_window": 3} if kind in ("mistral", "gemma2") else {}))
    require_packing(network, TASK)
    ids = torch.arange(5)
    plain, rows = TokenViews(split()).batch(ids, 0), TokenViews(split(), room=12).batch(ids, 0)
    assert (len(plain), len(rows)) == (5, 2)
    assert plain.samples == rows.samples == 5
    assert rows.inputs.numel() < plain.inputs.numel()
    mine, theirs = gradients(network, rows), gradients(network, plain)
    assert mine[0] == pytest.approx(theirs[0], rel=1e-5)
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(mine[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_model_that_mixes_samples() -> None:
    with pytest.raises(ModelError, match=r"data\.packing=false"):
        require_packing(model("opt"), TASK)


def test_positions() -> None:
    x = [torch.tensor(v) for v in ([1, 2, 3], [4], [5, 6])]
    batch = packed(x, x, torch.tensor([7, 8, 9]), 3, room=4)
    assert batch.inputs.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert batch.labels.tolist() == [[1, 2, 3, 4], [5, 6, -100, -100]]
    assert batch.ids.tolist() == [7, 9]
    assert batch.samples == 3
    assert batch.rows(torch.tensor([1])).samples == 1


@pytest.mark.parametrize("method", ["token_kd", "dskd"])
def test_runs(method: str, text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    optimizer = {"name": "sgd", "learning_rate": 0.05}
    settings: dict[str, Any] = {"teacher": {"run": str(teacher.path)}, "methods": [method], "student": LARGE}

    def trained(name: str, data: dict[str, Any], **more: Any) -> Run:
        train = {"epochs": 1, "optimizer": optimizer, **more}
        return execute(config({**text, **data}, tmp_path / name, train=train, **settings))

    plain = trained("plain", {})
    assert_same(trained("packed", {"packing": True}), plain, rtol=1e-3, atol=1e-5)
    pieces = trained("pieces", {"packing": True}, accumulate=2) if method == "token_kd" else plain
    assert_same(pieces, plain, rtol=1e-3, atol=1e-5)
    assert_same(trained("again", {}, gradient_checkpointing=True), plain, rtol=1e-4, atol=1e-6)
    assert Run(tmp_path / "packed").info["teacher"]["calls"] == plain.info["teacher"]["calls"]


def test_recomputed_layers_are_not_kept() -> None:
    kept = []
    for again in (False, True):
        network = model("llama").train()
        if again:
            recompute(network)
        seen = 0

        def count(x: torch.Tensor) -> torch.Tensor:
            nonlocal seen
            seen += x.numel()
            return x

        ids = torch.randint(0, 23, (2, 16))
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            TASK.call(network, Batch(ids, ids, torch.arange(2)))
        kept.append(seen)
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"packing": True}}, r"data\.packing is for runs on text"),
        ({"train": {"gradient_checkpointing": True}}, r"train\.gradient_checkpointing is for runs on text"),
    ],
)
def test_images(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        execute(parse({"student": "cnn", "output": str(tmp_path), **change}))


def test_not_together(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "teacher": {"run": str(teacher.path)},
        "methods": ["token_kd"],
        "sampling": {},
    }
    with pytest.raises(ConfigError, match="not packed"):
        execute(config({**text, "packing": True}, tmp_path, **settings))
