"""Methods on logits: options reach the loss, they train through the public interface, and they resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import losses
from limbeck.config import parse
from limbeck.errors import ConfigError
from limbeck.methods import KD, resolve
from limbeck.signals import Batch, Signals
from limbeck.tasks import Classification
from limbeck.teachers import LiveTeacher
from limbeck.training.learner import Learner, Use
from limbeck.training.session import execute
from limbeck.training.trainer import RunInterrupted, Trainer

OPTIONS: dict[str, dict[str, Any]] = {
    "nkd": {"gamma": 0.5, "temperature": 2.0},
    "wsld": {"temperature": 2.0},
    "ttm": {"exponent": 0.4},
    "wttm": {"exponent": 0.4},
    "rld": {"alpha": 2.0, "beta": 3.0, "temperature": 2.0, "alpha_temperature": 3.0},
    "sample_ckd": {"temperature": 0.2, "chunk_size": 2},
    "tf_kd": {"temperature": 2.0, "confidence": 0.8},
}
"""Options of each, none at its default."""


@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_loss(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=generator) for _ in range(2))
    batch = Batch(torch.zeros(6, 1), torch.tensor([0, 1, 2, 3, 0, -100]), torch.arange(6), epoch=100)
    method = resolve(name, OPTIONS[name])
    takes_labels = name in ("nkd", "wsld", "rld", "tf_kd")
    arguments = [student, *([teacher] if method.needs else []), *([batch.labels] if takes_labels else [])]
    loss = getattr(losses, name)
    (term,) = method(Signals(student), Signals(teacher), batch).values()
    assert term.weight == 1
    assert torch.equal(term.value, loss(*arguments, **OPTIONS[name]))
    for option in OPTIONS[name]:
        rest = {key: value for key, value in OPTIONS[name].items() if key != option}
        assert option == "chunk_size" or not torch.equal(term.value, loss(*arguments, **rest))


def test_a_method_may_see_standardised_logits() -> None:
    """Both networks', those of a second batch too; labels are learnt from the raw ones."""
    generator = torch.Generator().manual_seed(0)
    s, t, s2, t2 = (5 * torch.randn(6, 4, generator=generator) for _ in range(4))
    seen: list[Signals] = []

    class Looks(KD):
        def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Any:
            seen.extend([student, self.taught(teacher)])
            return super().forward(student, teacher, batch)

    uses = [Use(Looks(temperature=2.0), 9.0, {}, True), Use(KD(temperature=2.0), 0.5)]
    learner = Learner(torch.nn.Identity(), Classification(4), uses, 1.0)
    batch = Batch(torch.zeros(6, 1), torch.arange(6) % 4, torch.arange(6))
    terms = learner.terms(Signals(s), Signals(t), batch, {0: (Signals(s2), Signals(t2))})
    standard = [losses.standardise(x) for x in (s, t, s2, t2)]
    found = [x for x in seen for x in (x.logits, x.extra["second"].logits)]
    assert all(torch.equal(a, b) for a, b in zip(found, [standard[i] for i in (0, 2, 1, 3)], strict=True))
    assert seen[0].extra["raw"] is s
    assert seen[0].extra["second"].extra["raw"] is s2
    assert torch.equal(terms["cross_entropy"].value, torch.nn.functional.cross_entropy(s, batch.labels))
    assert torch.equal(terms["kd_2"].value, losses.kd(s, t, temperature=2.0))


def test_ctkd_turns_its_gradient_round_bit_by_bit() -> None:
    """The released lambda by epoch, the first being 1."""
    method = resolve("ctkd")
    released = {1: -0.02447174185242318, 2: -0.09549150281252627, 5: -0.5, 10: -1.0, 11: -1.0, 240: -1.0}
    for epoch, value in released.items():
        method.epoch = epoch - 0.5
        assert method.reverse() == pytest.approx(value)
    assert resolve("ctkd", {"ramp": 0, "strength": 0.5}).reverse() == -0.5


def test_ctkd_makes_it_harder() -> None:
    """A step against the gradient of the temperature raises the loss."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(64, 10, generator=generator) for _ in range(2))
    batch = Batch(torch.zeros(64, 1), torch.zeros(64, dtype=torch.int64), torch.arange(64))
    method = resolve("ctkd", {"ramp": 0})
    before = method(Signals(student), Signals(teacher), batch)["ctkd"].value
    before.backward()
    with torch.no_grad():
        method.logit -= 0.1 * method.logit.grad / method.logit.grad.abs()
    assert method(Signals(student), Signals(teacher), batch)["ctkd"].value > before


@pytest.mark.parametrize("name", ["at", "tf_kd"])
def test_what_has_no_logits_to_standardise_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} compares no logits"):
        Learner(torch.nn.Identity(), Classification(4), [Use(resolve(name), 1.0, {}, True)], 1.0)


def config(folder: Path, method: dict[str, Any] | None, epochs: int = 4) -> Any:
    return parse(
        {
            "data": {"name": "digits", "train_size": 160},
            "student": {"name": "cnn", "options": {"widths": [4, 8]}},
            "output": str(folder),
            "methods": [method] if method else [],
            "train": {"epochs": epochs, "batch_size": 32, "precision": "fp32", "log_every": 1, "threads": 1},
            "latency": False,
        }
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LiveTeacher:
    run = execute(config(tmp_path_factory.mktemp("teacher") / "run", None, epochs=8))
    return LiveTeacher(run.student(), Classification(10))


TRAINED: list[dict[str, Any]] = [
    *({"name": name} for name in OPTIONS if name != "rld"),
    {"name": "rld", "warmup": 0},
    {"name": "ctkd", "ramp": 1},
    {"name": "mlkd"},
    {"name": "mlkd", "form": "intended", "standardise": True},
    {"name": "sdd_kd", "scales": [1, 2, 4]},
    {"name": "sdd_dkd", "warmup": 0, "standardise": True},
    {"name": "sdd_nkd", "warmup": 0, "scales": [1]},
    {"name": "kd", "temperature": 2.0, "weight": 9.0, "standardise": True},
]


@pytest.mark.parametrize("method", TRAINED, ids=lambda method: "-".join(map(str, method.values())))
def test_it_trains_and_resumes_to_the_same_numbers(
    method: dict[str, Any], teacher: LiveTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = {"teacher": teacher} if resolve(method["name"]).needs else {}
    whole = execute(config(tmp_path / "whole", method), **teachers)
    rows = whole.metrics("train")
    assert set(rows[0]["terms"]) > {"cross_entropy"}
    values = [row["loss"] for row in rows]
    assert sum(values[-5:]) < sum(values[:5])

    def stopped(self: Trainer) -> None:
        if self.step == 7:
            self._save()
            raise RunInterrupted("stopped", fix="go on", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stopped)
        with pytest.raises(RunInterrupted):
            execute(config(tmp_path / "cut", method), **teachers)
    again = execute(config(tmp_path / "cut", method), **teachers, resume=True)
    assert again.metrics("train")[-1]["loss"] == rows[-1]["loss"]
    weights = again.student().state_dict()
    assert all(torch.equal(x, weights[name]) for name, x in whole.student().state_dict().items())
