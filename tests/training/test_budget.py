"""A budgeted number of teacher calls: enforced, counted, kept over restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import BudgetError, CheckpointError, ConfigError
from limbeck.methods import KD
from limbeck.signals import Batch, Signals
from limbeck.tasks import Classification
from limbeck.teachers import Calls, LiveTeacher, MemoryTeacher
from limbeck.training.checkpoint import load_weights, save_weights
from limbeck.training.learner import Learner
from limbeck.training.trainer import RunInterrupted, Trainer

SHORT: dict[str, Any] = {
    "epochs": 3, "batch_size": 25, "precision": "fp32", "threads": 1, "log_every": 1, "checkpoint_every": 4
}  # fmt: skip
N = 200
HELD_OUT = 360
"""Test images of the digits; validation holds 144."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    train = {**SHORT, "epochs": 8}
    limbeck.train("cnn", "digits", output=folder, train=train, quiet=True, latency=False)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Every batch that a live teacher is asked about."""
    found: list[Batch] = []
    signals = LiveTeacher.signals

    def watched(self: LiveTeacher, batch: Batch) -> Signals:
        found.append(batch)
        return signals(self, batch)

    monkeypatch.setattr(LiveTeacher, "signals", watched)
    return found


def distill(teacher: Path, path: Path, settings: dict[str, Any], **options: Any) -> limbeck.Run:
    given = {
        "data": {"name": "digits", "train_size": N},
        "method": "kd",
        "train": SHORT,
        "output": path,
        "quiet": True,
        "latency": False,
        **options,
    }
    return limbeck.distill("cnn", {"run": str(teacher), **settings}, **given)


def counts(run: limbeck.Run) -> dict[str, Any]:
    calls: dict[str, Any] = run.info["teacher"]["calls"]
    return calls


def test_a_live_teacher_is_counted_in_every_epoch(teacher: Path, tmp_path: Path, asked: list[Batch]) -> None:
    run = distill(teacher, tmp_path / "run", {})
    held = run.info["samples"]["validation"]
    expected = {"budget": None, "training": 3 * N, "validation": held, "test": HELD_OUT, "guards": 25 + held}
    assert counts(run) == expected
    assert run.info["teacher"]["exact_views"]
    assert sum(len(batch) for batch in asked) == sum(n for n in expected.values() if n)


def test_a_remembered_teacher_is_counted_once(teacher: Path, tmp_path: Path) -> None:
    assert counts(distill(teacher, tmp_path / "run", {"cache": "memory"}))["training"] == N


@pytest.mark.parametrize("rest", ["labels", "leave_out"])
def test_a_budget_is_kept_and_recorded(rest: str, teacher: Path, tmp_path: Path, asked: list[Batch]) -> None:
    run = distill(teacher, tmp_path / "run", {"cache": "memory", "budget": 60, "rest": rest})
    held = run.info["samples"]["validation"]
    assert counts(run) == {
        "budget": 60, "training": 60, "validation": held, "test": HELD_OUT, "guards": held
    }  # fmt: skip
    assert sum(len(batch) for batch in asked) == 60 + 2 * held + HELD_OUT
    left = rest == "leave_out"
    assert run.info["samples"]["train"] == (60 if left else N)
    assert run.info["steps"] == 3 * (3 if left else 8)
    answers = load_weights(run.path / "answers.safetensors")
    assert answers["logits"].shape == (60, 10)
    assert len(set(answers["ids"].tolist())) == 60
    assert run.metrics("train")[0]["terms"]["kd"]["raw"] > 0


def test_leaving_out_is_training_on_fewer_samples(teacher: Path, tmp_path: Path) -> None:
    """Budgets choose other samples than ``train_size``, in the same numbers per class, small ones part of large."""
    from limbeck.config import parse
    from limbeck.training.parts import Parts

    def parts(budget: int, rest: str) -> Parts:
        settings = {"run": str(teacher), "cache": "memory", "budget": budget, "rest": rest}
        few = {"name": "digits", "train_size": N}
        return Parts(parse({"student": "cnn", "data": few, "methods": ["kd"], "teacher": settings}))

    some, more, left = parts(50, "labels"), parts(100, "labels"), parts(50, "leave_out")
    assert some.bought is not None
    assert more.bought is not None
    assert len(set(some.bought.tolist()) - set(more.bought.tolist())) <= 5
    labels = some.data.train.labels[some.bought]
    assert torch.equal(labels, left.data.train.labels)
    assert labels.bincount(minlength=10).tolist() == [5] * 10
    assert left.bought is not None
    assert left.bought.tolist() == list(range(50))


def test_beyond_the_budget_is_an_error_that_names_it(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BudgetError, match=r"asked about 60 training samples \(teacher.budget\); got a training split of 200"
    ):
        distill(teacher, tmp_path / "run", {"cache": "memory", "budget": 60})
    fits = distill(teacher, tmp_path / "fits", {"cache": "memory", "budget": N})
    assert counts(fits)["training"] == N
    from limbeck.training.session import score

    assert score(fits, "train")["accuracy"] > 0
    part = distill(teacher, tmp_path / "part", {"cache": "memory", "budget": 60, "rest": "labels"})
    with pytest.raises(BudgetError, match="got 200 more after 0"):
        score(part, "train")


def test_calls_stop_at_the_budget() -> None:
    calls = Calls(budget=10)
    calls.spend(6)
    with pytest.raises(BudgetError, match="got 5 more after 6"):
        calls.spend(5)
    calls.saw("validation", 7)
    calls.saw("validation", 7)
    assert calls.state() == {"training": 6, "validation": 7, "test": 0, "guards": 0}
    calls.restore({"training": 9, "test": 3})
    assert calls.state() == {"training": 9, "validation": 7, "test": 3, "guards": 0}


def test_a_memory_of_chosen_samples_refuses_or_marks_others() -> None:
    live = LiveTeacher(nn.Linear(4, 3), Classification(3))
    answers, ids = torch.randn(2, 3), torch.tensor([1, 4])

    def batch(*rows: int) -> Batch:
        places = torch.tensor(rows)
        return Batch(torch.zeros(len(rows), 4), places % 3, places)

    strict = MemoryTeacher(live, 6, lambda: answers, ids=ids)
    assert torch.equal(strict.signals(batch(4, 1)).logits, answers.flip(0))
    with pytest.raises(BudgetError, match=r"about 2 training samples \(teacher.budget\); got sample 3"):
        strict.signals(batch(1, 3))
    loose = MemoryTeacher(live, 6, lambda: answers, ids=ids, skip=True)
    found = loose.signals(batch(0, 4, 5))
    assert found.extra["known"].tolist() == [False, True, False]
    assert torch.equal(found.logits[1], answers[1])
    assert "known" not in loose.signals(batch(1, 4)).extra
    with pytest.raises(ConfigError, match="a memory of chosen samples asks about them at once"):
        MemoryTeacher(live, 6, ids=ids)


@pytest.mark.parametrize("name", ["kd", "dist", "comparative_kd"])
def test_methods_see_only_answered_rows_and_labels_all(name: str) -> None:
    student, teacher = torch.randn(8, 4, requires_grad=True), torch.randn(8, 4)
    known = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0]).bool()
    batch = Batch(torch.zeros(8, 1), torch.arange(8) % 4, torch.arange(8))
    method = limbeck.METHODS[name]()
    learner = Learner(nn.Identity(), Classification(4), [(method, 1.0)], 1.0)
    terms = learner.terms(Signals(student), Signals(teacher, extra={"known": known}), batch)
    alone = method(Signals(student[known]), Signals(teacher[known]), batch.rows(known))
    for term, value in alone.items():
        key = name if term == name else f"{name}.{term}"
        assert torch.equal(terms[key].value, value.value)
    assert torch.equal(terms["cross_entropy"].value, nn.functional.cross_entropy(student, batch.labels))
    nobody = Signals(teacher, extra={"known": torch.zeros(8).bool()})
    for term in learner.terms(Signals(student), nobody, batch).values():
        assert term.value.isfinite()
        assert torch.autograd.grad(term.value, student, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize("cache", ["plain_view", "first_view"])
def test_one_view_is_asked_about_while_the_student_sees_fresh_ones(
    cache: str, teacher: Path, tmp_path: Path, asked: list[Batch]
) -> None:
    augment = {"crop_padding": 1, "flip": True}
    run = distill(teacher, tmp_path / "run", {"cache": cache}, augment=augment)
    assert counts(run)["training"] == N
    assert not run.info["teacher"]["exact_views"]
    from limbeck.training.parts import Parts

    parts = Parts(run.config)
    about = [batch for batch in asked if len(batch) == N]
    assert len(about) == 1
    views = parts.loader.views
    plain, first = views.plain(torch.arange(N)).inputs, views.batch(torch.arange(N), 0).inputs
    assert not torch.equal(plain, first)
    assert torch.equal(about[0].inputs, first if cache == "first_view" else plain)
    straight = distill(teacher, tmp_path / "straight", {"cache": cache})
    assert straight.info["teacher"]["exact_views"]


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ({"budget": 60}, {}, "teacher.budget needs a teacher that is asked once: set teacher.cache=memory"),
        ({"cache": "memory", "rest": "labels"}, {}, "says what to do beyond teacher.budget"),
        ({"cache": "memory", "budget": 0}, {}, "budget: .*greater than or equal to 1"),
        ({"cache": "memory"}, {"augment": {"flip": True}}, "take the answer about another view"),
        ({"cache": "first_view"}, {"augment": {"mixup": 0.2}}, "first_view cannot follow mixup or cutmix"),
        ({"cache": "memory", "budget": N}, {"method": "at"}, "at needs features.*no teacher.budget"),
        (
            {"cache": "memory", "budget": 60, "rest": "labels"},
            {"method": "comparative_kd", "sampler": "tuples"},
            "tuples of samples are compared with answers about all of them",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(
    settings: dict[str, Any], options: dict[str, Any], words: str, teacher: Path, tmp_path: Path
) -> None:
    if options.get("method") == "comparative_kd":
        options = {**options, "train": {**SHORT, "batch_size": 24}}
    with pytest.raises(ConfigError, match=words):
        distill(teacher, tmp_path / "run", settings, **options)


def cut(monkeypatch: pytest.MonkeyPatch, step: int, *arguments: Any, **options: Any) -> None:
    save = Trainer._save

    def stop(self: Trainer) -> None:
        save(self)
        if self.step >= step:
            raise RunInterrupted("enough", fix="resume", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", stop)
        with pytest.raises(RunInterrupted):
            distill(*arguments, **options)


@pytest.mark.parametrize("step", [0, 8])
def test_a_resumed_run_asks_nothing_again_and_ends_alike(
    step: int, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Batch]
) -> None:
    settings = {"cache": "first_view", "budget": 61, "rest": "labels"}
    options: dict[str, Any] = {"augment": {"crop_padding": 1}, "method": "dist"}
    whole = distill(teacher, tmp_path / "whole", settings, **options)
    cut(monkeypatch, step, teacher, tmp_path / "cut", settings, **options)
    asked.clear()
    resumed = limbeck.resume(tmp_path / "cut", quiet=True)
    held = resumed.info["samples"]["validation"]
    assert sum(len(batch) for batch in asked) == held + HELD_OUT
    name = "student.safetensors"
    assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert counts(resumed) == counts(whole)


def test_a_live_teachers_count_goes_on_after_a_stop(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill(teacher, tmp_path / "whole", {})
    cut(monkeypatch, 8, teacher, tmp_path / "cut", {})
    assert counts(limbeck.resume(tmp_path / "cut", quiet=True)) == counts(whole)


def test_answers_of_other_samples_are_refused(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"cache": "memory", "budget": 60, "rest": "labels"}
    cut(monkeypatch, 4, teacher, tmp_path / "cut", settings)
    path = tmp_path / "cut" / "answers.safetensors"
    kept = load_weights(path)
    save_weights(path, {**kept, "ids": kept["ids"] + 1})
    with pytest.raises(CheckpointError, match="holds answers about other samples"):
        limbeck.resume(tmp_path / "cut", quiet=True)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        limbeck.resume(tmp_path / "cut", quiet=True)


def test_a_stale_answer_file_is_not_believed(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    save_weights(folder / "answers.safetensors", {"ids": torch.arange(3), "logits": torch.zeros(3, 10)})
    run = distill(teacher, folder, {"cache": "memory", "budget": N})
    assert load_weights(run.path / "answers.safetensors")["logits"].shape == (N, 10)


def test_doctor_asks_about_bought_samples_only(teacher: Path, asked: list[Batch]) -> None:
    from limbeck.config import parse
    from limbeck.training.session import examine

    settings = {"run": str(teacher), "cache": "memory", "budget": 60, "rest": "labels"}
    few = {"name": "digits", "train_size": N}
    guards = examine(parse({"student": "cnn", "data": few, "methods": ["kd"], "teacher": settings}))
    assert all(guard.ok is not False for guard in guards)
    assert sum(len(batch) for batch in asked) == 60 + min(256, 144)


def test_a_method_object_works_with_a_budget(teacher: Path, tmp_path: Path) -> None:
    run = distill(teacher, tmp_path / "run", {"cache": "memory", "budget": N}, method=KD(temperature=2.0))
    assert json.loads((run.path / "run.json").read_text())["teacher"]["cache"] == "memory"
