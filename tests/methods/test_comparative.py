"""Comparative KD as a method: its terms, its tuples, whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import limbeck
from limbeck.errors import ConfigError
from limbeck.losses import comparative_kd, kd
from limbeck.methods import ComparativeKD
from limbeck.signals import Batch, Signals
from limbeck.training.trainer import RunInterrupted, Trainer

FEW = {"name": "digits", "train_size": 150}
SHORT: dict[str, Any] = {
    "epochs": 2, "batch_size": 32, "precision": "fp32", "threads": 1, "log_every": 1, "checkpoint_every": 3
}  # fmt: skip


def draw(n: int = 8, c: int = 5) -> tuple[Signals, Signals, Batch]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(n, c, generator=generator) for _ in range(2))
    batch = Batch(torch.zeros(n, 1), torch.arange(n) % c, torch.arange(n), epoch=3)
    return Signals(student.requires_grad_()), Signals(teacher), batch


def values(method: ComparativeKD, *arguments: Any) -> dict[str, torch.Tensor]:
    return {name: term.value for name, term in method(*arguments).items()}


@pytest.mark.parametrize("options", [{}, {"form": "kl", "group_size": 3}, {"draws": "all"}, {"draws": 2}])
def test_terms_are_the_loss_against_the_teacher_and_against_labels(options: dict[str, Any]) -> None:
    student, teacher, batch = draw()
    found = values(ComparativeKD(kd_weight=0.5, kd_temperature=2.0, **options), student, teacher, batch)
    labels = F.one_hot(batch.labels, 5).float()
    assert torch.equal(found["relation"], comparative_kd(student.logits, teacher.logits, **options))
    assert torch.equal(found["labels"], comparative_kd(student.logits, labels, **options))
    assert torch.equal(found["kd"], kd(student.logits, teacher.logits, temperature=2.0))


def test_a_tuple_with_an_unlabelled_row_has_no_label_term() -> None:
    student, teacher, batch = draw(9)
    batch.labels[4] = -100
    labels = F.one_hot(batch.labels.clamp(min=0), 5).float()
    whole = [0, 1, 2, 6, 7, 8]
    found = values(ComparativeKD(group_size=3), student, teacher, batch)["labels"]
    assert torch.equal(found, comparative_kd(student.logits[whole], labels[whole], group_size=3))
    given = [i for i in range(9) if i != 4]
    found = values(ComparativeKD(draws="all"), student, teacher, batch)["labels"]
    assert torch.equal(found, comparative_kd(student.logits[given], labels[given], draws="all"))
    batch.labels[:] = -100
    assert float(values(ComparativeKD(), student, teacher, batch)["labels"].detach()) == 0


def test_mixed_labels_are_vectors_in_their_shares() -> None:
    student, teacher, batch = draw()
    batch.mixed_labels, batch.mixing = batch.labels.roll(1), torch.linspace(0, 1, 8)
    first, second = (F.one_hot(y, 5) * 1.0 for y in (batch.labels, batch.mixed_labels))
    share = batch.mixing[:, None]
    expected = comparative_kd(student.logits, share * first + (1 - share) * second)
    torch.testing.assert_close(values(ComparativeKD(), student, teacher, batch)["labels"], expected)


def test_mixing_for_the_ablation() -> None:
    student, teacher, batch = draw()
    mean = values(ComparativeKD(mix="mean"), student, teacher, batch)["relation"]
    assert torch.equal(mean, comparative_kd(student.logits, teacher.logits, share=0.5))
    seen = set()
    for epoch in range(20):
        batch.epoch = epoch
        first, again = (values(ComparativeKD(mix="mixup"), student, teacher, batch) for _ in range(2))
        assert torch.equal(first["relation"], again["relation"])
        seen.add(float(first["relation"].detach()))
    assert len(seen) == 20


def test_weights_reach_the_terms_and_idle_terms_are_left_out() -> None:
    terms = ComparativeKD(relation_weight=2.0, labels_weight=0.0)(*draw())
    assert {name: term.weight for name, term in terms.items()} == {"relation": 2.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws is a number of at least 1, or 'all'"),
        ({"draws": "all", "form": "kl"}, "closed form only for form=mse and mix=difference"),
        ({"sampler": "tuples", "draws": 2}, "sampler=tuples brings its own tuples"),
        ({"group_size": 1}, "group_size"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ComparativeKD(**options)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> limbeck.Run:
    folder = tmp_path_factory.mktemp("teacher")
    train = {**SHORT, "epochs": 6}
    return limbeck.train("cnn", FEW, output=folder, train=train, quiet=True, latency=False)


def distill(teacher: limbeck.Run, path: Path, train: dict[str, Any] = SHORT, **options: Any) -> limbeck.Run:
    given = {"method": "comparative_kd", "output": path, "quiet": True, "latency": False, **options}
    return limbeck.distill("cnn", teacher, FEW, train=train, **given)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draws": "all"},
        {"sampler": "tuples", "group_size": 4, "tuples": 30},
        {"form": "kl", "group_size": 3, "mix": "mixup", "kd_weight": 0.5},
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    options: dict[str, Any], teacher: limbeck.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill(teacher, tmp_path / "whole", **options)
    save = Trainer._save

    def stop(self: Trainer) -> None:
        save(self)
        if self.step >= 3:
            raise RunInterrupted("enough", fix="resume", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", stop)
        with pytest.raises(RunInterrupted):
            distill(teacher, tmp_path / "cut", **options)
    resumed = limbeck.resume(tmp_path / "cut", quiet=True)
    name = "student.safetensors"
    assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_student_learns_differences_and_with_an_anchor_also_where_they_start(
    teacher: limbeck.Run, tmp_path: Path
) -> None:
    long = {**SHORT, "epochs": 20}
    alone = distill(teacher, tmp_path / "alone", long, draws="all")
    first, *_, last = (row["terms"]["comparative_kd.relation"]["raw"] for row in alone.metrics("train"))
    assert last < first / 2
    anchored = distill(teacher, tmp_path / "anchored", long, draws="all", label_weight=1.0)
    assert anchored.results["last"]["test"]["accuracy"] > 0.7


def test_batches_of_tuples_fit_the_settings_or_are_refused(teacher: limbeck.Run, tmp_path: Path) -> None:
    cut = {**SHORT, "batch_size": 36, "accumulate": 4}
    run = distill(teacher, tmp_path / "run", cut, sampler="tuples", group_size=3)
    assert run.info["steps"] == 2 * -(-150 // 36)
    with pytest.raises(ConfigError, match=r"cannot be cut into 4 pieces; got train\.batch_size 36"):
        distill(teacher, tmp_path / "odd", cut, sampler="tuples", group_size=2)
    methods = [ComparativeKD(sampler="tuples", group_size=k) for k in (2, 4)]
    with pytest.raises(ConfigError, match="two methods want batches of different tuples"):
        distill(teacher, tmp_path / "two", method=methods)
