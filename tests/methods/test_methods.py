"""Methods: their terms, their table, and the errors of whoever names one wrongly."""

from __future__ import annotations

import importlib.metadata
import inspect

import pytest
import torch

from limbeck.errors import ConfigError
from limbeck.losses import Head, bickd, dist, dkd, kd, label_smoothing, rkd_angle, rkd_distance, rld
from limbeck.methods import KD, METHODS, BicKD, Method, Term, describe, resolve
from limbeck.methods.base import overrides
from limbeck.signals import Batch, Signals
from limbeck.tasks import Tokens

LEARNING = {"ctkd"}
"""Methods on logits with something of their own to train."""


def draw(mixed=False):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=generator) for _ in range(2))
    batch = Batch(torch.zeros(6, 1), torch.tensor([0, 1, 2, 3, 0, -100]), torch.arange(6))
    if mixed:
        batch.mixed_labels = torch.tensor([1, 1, 0, 2, 3, -100])
        batch.mixing = torch.tensor([0.9, 0.5, 0.2, 1.0, 0.0, 0.3])
    student.requires_grad_()
    mine, theirs = (
        Signals(x, extra={"tokens": Tokens(x, Head(torch.eye(4))), "maps": x.T.reshape(1, 4, 2, 3)})
        for x in (student, teacher)
    )
    return mine, theirs, batch


def total(terms):
    return sum(term.weight * term.value for term in terms.values())


HOOKS = ("prepare", "observe", "second", "initial")
ON_LOGITS = [name for name in METHODS if not any(overrides(resolve(name), hook) for hook in HOOKS)]
"""Methods that need nothing of the networks; tests/methods/test_training.py trains every one."""


@pytest.mark.parametrize("name", ON_LOGITS)
@pytest.mark.parametrize("mixed", [False, True])
def test_every_method_gives_finite_named_terms_with_a_gradient(name, mixed):
    student, teacher, batch = draw(mixed)
    method = resolve(name)
    assert method.name == name
    if overrides(method, "second"):
        student.extra["second"], teacher.extra["second"] = (
            Signals(student.logits * 0.5),
            Signals(teacher.logits),
        )
    terms = method(student, teacher if method.needs else None, batch)
    assert set(terms) == set(method.term_weights())
    assert all(isinstance(term, Term) and term.value.dim() == 0 for term in terms.values())
    gradient = torch.autograd.grad(total(terms), student.logits)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert bool(list(method.state_dict())) == (name in LEARNING)


@pytest.mark.parametrize("name", [name for name in ON_LOGITS if METHODS[name].needs])
def test_a_missing_teacher_is_named(name):
    student, _, batch = draw()
    with pytest.raises(ConfigError, match=f"method '{name}' needs a teacher"):
        resolve(name)(student, None, batch)


def test_terms_are_those_of_the_losses():
    student, teacher, batch = draw()
    s, t, y = student.logits, teacher.logits, batch.labels
    assert torch.equal(KD(temperature=2.0)(student, teacher, batch)["kd"].value, kd(s, t, temperature=2.0))
    assert torch.allclose(total(resolve("dist")(student, teacher, batch)), 2 * dist(s, t))
    both = total(resolve("bickd", {"kd_weight": 0.0})(student, teacher, batch))
    assert torch.allclose(both, bickd(s, t, y))
    relations = resolve("rkd_logits", {"distance_weight": 2.0})(student, teacher, batch)
    assert torch.allclose(total(relations), 2 * rkd_distance(s, t) + 50 * rkd_angle(s, t))
    smooth = resolve("label_smoothing")(student, None, batch)["label_smoothing"].value
    assert torch.equal(smooth, label_smoothing(s, y))


@pytest.mark.parametrize("loss", [dkd, rld])
def test_some_methods_warm_up(loss):
    student, teacher, batch = draw()
    name = inspect.unwrap(loss).__name__
    value = loss(student.logits, teacher.logits, batch.labels)
    for epoch, warmup, weight in ((0, 20, 0.05), (19, 20, 1.0), (100, 20, 1.0), (0, 0, 1.0)):
        batch.epoch = epoch
        term = resolve(name, {"warmup": warmup})(student, teacher, batch)[name]
        assert term.weight == pytest.approx(weight)
        assert torch.equal(term.value, value)


def test_mixed_labels_count_in_their_shares():
    student, _, batch = draw(mixed=True)
    rows = [
        label_smoothing(student.logits, labels, reduction="none")
        for labels in (batch.labels, batch.mixed_labels)
    ]
    expected = (batch.mixing * rows[0] + (1 - batch.mixing) * rows[1]).sum() / 5
    got = resolve("label_smoothing")(student, None, batch)["label_smoothing"].value
    assert torch.allclose(got, expected)


def test_a_term_without_weight_is_not_computed():
    student, teacher, batch = draw()
    assert list(BicKD(kd_weight=0.0, sample_weight=0.0)(student, teacher, batch)) == ["class"]
    assert list(resolve("dist", {"gamma": 0})(student, teacher, batch)) == ["inter"]


def test_bickd_options_reach_the_loss():
    student, teacher, batch = draw()
    options = {
        "temperature": 2.0, "contrast_temperature": 0.5, "similarity": "dot", "form": "orthogonal",
        "direction": "teacher", "mask_same_label": False, "multi_positive": True, "student_negatives": True,
        "classes": "present", "mu": 0.3, "chunk_size": 2,
    }  # fmt: skip
    method = resolve("bickd", {**options, "kd_weight": 0.0})
    expected = bickd(student.logits, teacher.logits, batch.labels, **options)
    assert torch.allclose(total(method(student, teacher, batch)), expected)
    assert set(options) | {"kd_weight", "kd_temperature", "sample_weight", "class_weight"} == set(
        BicKD.Options.model_fields
    )


def test_names_classes_and_instances_resolve():
    made = KD(temperature=3.0)
    assert resolve(made) is made
    assert resolve(KD, {"temperature": 3.0}).options == made.options
    assert isinstance(resolve("kd"), KD)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("bicdk", {}, "no method 'bicdk'; expected 'bickd'"),
        ("kd", {"temprature": 2}, "temprature: unknown key, nearest is 'temperature'"),
        ("kd", {"temperature": -1}, "temperature: Input should be greater than 0; got -1"),
        ("kd", {"temperature": "hot"}, "temperature: .*number.*; got 'hot'"),
        ("kd", {"form": "lk"}, "form: Input should be 'kl', 'cross_entropy'.*; got 'lk'"),
        ("bickd", {"chunk_size": 0}, "the configuration of method 'bickd' is not valid"),
        (KD(), {"temperature": 2}, "method 'kd' is already made"),
        (3, {}, "not a method; got 3"),
        (int, {}, "not a method"),
    ],
)
def test_mistakes_are_named(method, options, words):
    with pytest.raises(ConfigError, match=words):
        inspect.unwrap(resolve)(method, options)


def test_options_of_a_class_are_checked_too():
    with pytest.raises(ConfigError, match="nearest is 'temperature'"):
        KD(temprature=2.0)


def test_other_packages_bring_methods(monkeypatch):
    class Other(KD):
        name = "other"

    class Entry:
        value = "package:Other"

        def __init__(self, name, answer):
            self.name, self.answer = name, answer

        def load(self):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    entries = [Entry("other", Other), Entry("broken", ImportError("gone")), Entry("wrong", dict)]
    asked = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group) or entries)
    assert isinstance(resolve("other", {"temperature": 2}), Other)
    assert asked == ["limbeck.methods"]
    resolve("kd")
    assert len(asked) == 1
    with pytest.raises(
        ConfigError, match="'broken' cannot be loaded from package:Other; got ImportError: gone"
    ):
        resolve("broken")
    with pytest.raises(ConfigError, match="not a method"):
        resolve("wrong")
    with pytest.raises(ConfigError, match="'other'"):
        resolve("othr")


def test_the_table_says_what_there_is():
    rows = {row["name"]: row for row in describe()}
    assert list(rows) == list(METHODS)
    assert rows["bickd"]["status"] == "reconstructed"
    assert rows["kd"]["weights"] == "labels 0.1, kd 0.9"
    assert rows["dist"]["weights"] == "labels 1, inter 2, intra 2"
    assert rows["label_smoothing"]["needs"] == "no teacher"
    for name, kind in METHODS.items():
        assert kind.name == name
        assert issubclass(kind, Method)
        assert "econstructed" in (kind.__doc__ or "") or kind.status != "reconstructed"
