"""CRD, DCD, RRD and ITRD in runs: what they learn, remember, draw, and that they go on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.running import assert_goes_on, config, teacher
from torch import Tensor, nn

from limbeck.errors import DataError, ModelError
from limbeck.losses import crd_batch, kd
from limbeck.methods import CRD, DCD, RRD, Method, resolve
from limbeck.methods.base import Setting
from limbeck.methods.candidates import Candidates
from limbeck.signals import Batch, Signals
from limbeck.taps import EMBEDDING, Layout
from limbeck.training import checkpoint
from limbeck.training.session import execute

RUNS = [
    {"name": "crd", "negatives": 50},
    {"name": "crd", "negatives": 500, "mode": "relax", "momentum": 0.9},
    {"name": "crd", "bank": "none"},
    {"name": "dcd"},
    {"name": "dcd", "kd_weight": 1.0, "learnable": False},
    {"name": "rrd", "length": 100},
    {"name": "itrd"},
]


def prepared(method: Method, labels: Tensor | None = None, student: int = 6, taught: int = 9) -> Method:
    torch.manual_seed(0)
    setting: Any = Setting(2, torch.arange(20) % 2 if labels is None else labels, 1, *[None] * 4)  # type: ignore
    layouts = (Layout((), (), (width,), "fc") for width in (student, taught))
    method.prepare(*layouts, setting)
    return method.train()


def signals(
    n: int = 8, student: int = 6, taught: int = 9, ids: Tensor | None = None
) -> tuple[Any, Any, Batch]:
    generator = torch.Generator().manual_seed(1)
    s, t = (torch.randn(n, width, generator=generator) for width in (student, taught))
    ids = torch.arange(n) if ids is None else ids
    logits = torch.randn(n, 2, generator=generator)
    return (
        Signals(logits.clone().requires_grad_(), {EMBEDDING: s.requires_grad_()}),
        Signals(-logits, {EMBEDDING: t}),
        Batch(torch.zeros(n, 1), ids % 2, ids),
    )


@pytest.mark.parametrize("method", RUNS, ids=lambda m: "-".join(map(str, m.values())))
def test_runs_and_goes_on_after_a_stop(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = assert_goes_on(monkeypatch, tmp_path, method, teacher=teacher())
    assert run.status == "finished"
    helpers = checkpoint.load(run.path / "checkpoints" / "last.pt")["players"]["student"]["module"]
    kept = {name.removeprefix("methods.0.") for name in helpers if name.startswith("methods.0.")}
    expected = {
        "crd": {"memory.params", "memory.memory_v1", "memory.memory_v2", "candidates.state"},
        "dcd": {"tau", "bias"},
        "rrd": {"queue", "queue_ptr"},
        "itrd": {"embed.weight"},
    }[method["name"]]
    if method.get("bank") == "none":
        expected = {"constants"}
    if method.get("learnable") is False:
        expected = {"embed_s.weight"}
    assert expected <= kept


def test_helpers_are_trained_and_memories_move(tmp_path: Path) -> None:
    method, network = CRD(negatives=50), teacher()
    entry = {"name": "crd", "options": {"negatives": 50}}
    execute(config(tmp_path, [entry], epochs=1), methods=[method], teacher=network)
    assert method.memory is not None
    lengths = torch.linalg.vector_norm(method.memory.memory_v1, dim=1)
    torch.testing.assert_close(lengths, torch.ones(160))  # every sample was seen and remembered
    constants = method.memory.params[2:4]
    assert (constants > 0).all()
    assert int(method.candidates.state[1]) == 5


def test_the_first_batch_fixes_the_constants() -> None:
    method = prepared(CRD(negatives=5, width=4))
    assert isinstance(method, CRD)
    assert method.memory is not None
    s, t, batch = signals()
    method(s, t, batch)
    first = method.memory.params.clone()
    s.features[EMBEDDING] = s.features[EMBEDDING] * 0 + 1
    method(s, t, batch)
    assert torch.equal(method.memory.params, first)
    method.eval()
    before = method.memory.memory_v1.clone()
    method(s, t, batch)
    assert torch.equal(method.memory.memory_v1, before)


def test_rows_without_label_are_left_out() -> None:
    s, t, batch = signals()
    batch.labels[2:] = -100
    method = prepared(CRD(negatives=5, width=4))
    (term,) = method(s, t, batch).values()
    gradient = torch.autograd.grad(term.value, s.features[EMBEDDING])[0]
    assert gradient[:2].any()
    assert not gradient[2:].any()
    batch.labels[:] = -100
    (term,) = method(s, t, batch).values()
    assert float(term.value.detach()) == 0
    assert not torch.autograd.grad(term.value, s.features[EMBEDDING])[0].any()


def test_crd_without_a_bank_is_its_loss() -> None:
    s, t, batch = signals()
    method = prepared(CRD(bank="none", width=4))
    assert isinstance(method, CRD)
    value = method(s, t, batch)["crd"].value
    a, b = method.embed_s(s.features[EMBEDDING]), method.embed_t(t.features[EMBEDDING])
    expected, constants = crd_batch(a, b, batch.labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(method.get_buffer("constants"), constants)
    assert not any("memory" in name for name in method.state_dict())


def test_candidates_are_others_and_distinct() -> None:
    labels = torch.arange(60) % 3
    labels[-1] = -100
    draw = Candidates(labels, 30)
    ids = torch.tensor([0, 1, 2, 0])
    found = draw(ids)
    assert torch.equal(found[:, 0], ids)
    assert (labels[found[:, 1:]] != labels[ids][:, None]).all()
    assert (found != 59).all()
    assert all(len(set(row.tolist())) == 30 for row in found[:, 1:])
    assert not torch.equal(found[0, 1:], found[3, 1:])
    assert not torch.equal(draw(ids), found)


def test_candidates_repeat_where_there_are_too_few_and_relax_finds_the_class() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    draw = Candidates(labels, 40, "relax")
    ids = torch.tensor([0, 5, 3] * 30)
    found = draw(ids)
    assert (labels[found[:, 0]] == labels[ids]).all()
    assert (labels[found[:, 1:]] != labels[ids][:, None]).all()
    assert set(found[:, 0].tolist()) == set(range(6))
    assert set(found[0, 1:].tolist()) == {3, 4, 5}


@pytest.mark.parametrize("count", [4, 40])
def test_candidates_are_uniform_over_other_classes(count: int) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    torch.manual_seed(0)
    draw = Candidates(labels, count)
    drawn = torch.cat([draw(torch.zeros(2, dtype=torch.int64))[:, 1:].flatten() for _ in range(2000)])
    times = torch.bincount(drawn, minlength=9)
    assert not times[:3].any()
    share = times[3:] / times.sum()
    torch.testing.assert_close(share, torch.full((6,), 1 / 6), rtol=0.06, atol=0)


def test_the_stream_of_candidates_goes_on() -> None:
    labels, ids = torch.arange(40) % 4, torch.arange(3)
    first, second = Candidates(labels, 10), Candidates(labels, 10)
    first(ids)
    second.load_state_dict(first.state_dict())
    torch.manual_seed(5)
    assert torch.equal(first(ids), second(ids))


def test_one_class_has_no_negatives() -> None:
    with pytest.raises(DataError, match="one class"):
        Candidates(torch.tensor([3, 3, -100]), 4)


def test_the_temperature_is_trained_and_the_bias_is_inert(tmp_path: Path) -> None:
    method = DCD()
    optimizer = {"weight_decay": 0.0}
    settings = config(tmp_path, [{"name": "dcd"}], epochs=1, optimizer=optimizer)
    execute(settings, methods=[method], teacher=teacher())
    assert float(method.tau.detach()) != 1.0
    assert abs(float(method.bias.detach())) < 1e-5


def test_past_its_bound_the_temperature_rests() -> None:
    s, t, batch = signals()
    method = prepared(DCD(tau=3.0, width=4))
    assert isinstance(method, DCD)
    method(s, t, batch)["dcd"].value.backward()
    assert method.tau.grad is not None
    assert float(method.tau.grad) == 0


def test_the_fixed_temperature_divides_unless_it_is_taken_literally() -> None:
    s, t, batch = signals()
    found = {}
    for key, options in {
        "divided": {"temperature": 0.5},
        "literal": {"temperature": 2.0, "literal": True},
        "other": {"temperature": 0.5, "literal": True},
    }.items():
        method = prepared(DCD(learnable=False, width=4, **options))
        assert "tau" not in method.state_dict()
        found[key] = float(method(s, t, batch)["dcd"].value.detach())
    assert found["divided"] == found["literal"] != found["other"]


def test_dcd_with_kd() -> None:
    s, t, batch = signals()
    method = prepared(DCD(kd_weight=1.0, kd_temperature=2.0, width=4))
    terms = method(s, t, batch)
    assert torch.equal(terms["kd"].value, kd(s.logits, t.logits, temperature=2.0))
    assert method.term_weights() == {name: term.weight for name, term in terms.items()}


def test_the_queue_turns_around() -> None:
    method = prepared(RRD(length=10, width=4))
    assert isinstance(method, RRD)
    s, t, _ = signals(8)
    method.contrast(s.features[EMBEDDING], t.features[EMBEDDING])
    keys = nn.functional.normalize(method.embed_t(t.features[EMBEDDING]), dim=1)
    torch.testing.assert_close(method.queue[:8], keys)
    method.contrast(s.features[EMBEDDING], t.features[EMBEDDING])
    torch.testing.assert_close(method.queue, torch.cat([keys[2:], keys[6:], keys[:2]]))
    assert int(method.queue_ptr) == 6
    s, t, _ = signals(25)
    method.contrast(s.features[EMBEDDING], t.features[EMBEDDING])
    keys = nn.functional.normalize(method.embed_t(t.features[EMBEDDING]), dim=1)
    assert {tuple(row.tolist()) for row in method.queue} == {tuple(row.tolist()) for row in keys[-10:]}
    assert not any(p.requires_grad for p in method.embed_t.parameters())


@pytest.mark.parametrize("name", ["crd", "dcd", "rrd", "itrd"])
def test_a_network_without_embedding_is_named(name: str, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match=f"'{name}' finds no layers to compare in the student"):
        execute(
            config(tmp_path, [{"name": f"object:{name}"}]),
            student=network,
            methods=[resolve(name)],
            teacher=teacher(),
        )
