"""Methods that look inside the networks: their choice of layers, their terms, and short runs that resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parity.test_classification import RECORDS
from tests.test_taps import Tokens
from torch import Tensor, nn

import limbeck
from limbeck.errors import ConfigError, ModelError
from limbeck.methods import METHODS, Method, Setting, Terms, resolve
from limbeck.methods.fitnets import Regressor
from limbeck.methods.layers import FeatureMethod, stem
from limbeck.methods.vid import Guess
from limbeck.models import build
from limbeck.signals import Batch, Signals
from limbeck.taps import EMBEDDING, Layer, Layout, Taps, layout
from limbeck.teachers import Inputs

MODAL = ("mt_pkdot", "tnet")
"""Methods that need streams or T-Nets of a ``fusion`` network: tests/training/test_privileged.py trains them."""

NAMES = [
    name
    for name in METHODS
    if "features" in METHODS[name].needs and not METHODS[name].head and name not in MODAL
]
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 40, "precision": "fp32", "threads": 1, "log_every": 1}
FEW = {"name": "digits", "train_size": 160}

OPTIONS: dict[str, dict[str, Any]] = {
    "fsp": {"initial_epochs": 1, "connectors": True},
    "ft": {"initial_epochs": 1},
}
"""Options that short runs of unlike networks need."""

each = pytest.mark.parametrize("name", NAMES)


def network(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, classes=4, channels=1, size=(8, 8), **options)


def images(rows: int = 6) -> Tensor:
    return torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def seen(model: nn.Module, names: tuple[str, ...], x: Tensor) -> Signals:
    with Taps(names, layout(model, x).classifier).record(model) as found:
        return Signals(model(x), found)


def setting(student: nn.Module, teacher: nn.Module | None) -> Setting:
    def build_(name: str | None = None, options: Any = None, number: int = 0) -> nn.Module:
        raise AssertionError("no network is built here")

    inputs = Inputs(1, (8, 8), (0.5,), (0.25,))
    return Setting(4, torch.arange(6) % 4, 2, inputs, student, teacher, build_)


def prepared(
    method: str | Method, student: nn.Module, teacher: nn.Module, x: Tensor | None = None, **options: Any
) -> tuple[Method, Signals, Signals, Batch]:
    x = images() if x is None else x
    made = resolve(method, options)
    made.prepare(layout(student, x), layout(teacher, x), setting(student, teacher))
    with torch.no_grad():
        theirs = seen(teacher.eval(), made.teacher_taps, x)
    batch = Batch(x, torch.arange(len(x)) % 4, torch.arange(len(x)))
    return made, seen(student.train(), made.student_taps, x), theirs, batch


def terms_of(method: Method, student: Signals, teacher: Signals, batch: Batch) -> Terms:
    """What the main stage trains, and before it the initialisation stage."""
    return {**method(student, teacher, batch), **method.initial(student, teacher, batch)}


def total(method: Method, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
    terms = terms_of(method, student, teacher, batch)
    return torch.stack([term.weight * term.value for term in terms.values()]).sum()


@each
@pytest.mark.parametrize("student", ["cnn", "resnet14"])
def test_terms_are_finite_and_reach_the_student_and_every_helper(name: str, student: str) -> None:
    model = network(student)
    method, ours, theirs, batch = prepared(name, model, network("resnet8x4"), **OPTIONS.get(name, {}))
    assert set(method(ours, theirs, batch)) == set(method.term_weights())
    terms = terms_of(method, ours, theirs, batch)
    assert all(term.value.dim() == 0 and term.value.isfinite() for term in terms.values())
    total(method, ours, theirs, batch).backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    for helper, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, helper
    assert method.choices


@each
def test_features_in_half_precision_are_compared_in_float32(name: str) -> None:
    method, ours, theirs, batch = prepared(
        name, network("cnn"), network("resnet8x4"), **OPTIONS.get(name, {})
    )
    for signals in (ours, theirs):
        signals.features = {key: value.bfloat16() for key, value in signals.features.items()}
    value = total(method, ours, theirs, batch)
    assert value.dtype == torch.float32
    assert value.isfinite()


@each
def test_no_teacher_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' needs a teacher"):
        resolve(name).prepare(layout(network("cnn"), images()), None, setting(network("cnn"), None))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> limbeck.Run:
    path = tmp_path_factory.mktemp("teacher") / "run"
    return limbeck.train("resnet8", "digits", output=path, train={**SHORT, "epochs": 3}, quiet=True)


def vision_transformer() -> Tokens:
    torch.manual_seed(1)
    return Tokens(depth=3)


def lines(run: limbeck.Run) -> list[str]:
    found = json.loads((run.path / "guards.json").read_text())
    return [row["detail"] for row in found if row["name"] == "layers"]


@pytest.mark.slow
@each
def test_a_convolutional_teacher_teaches_a_transformer(
    name: str, teacher: limbeck.Run, tmp_path: Path
) -> None:
    run = limbeck.distill(
        vision_transformer(),
        teacher,
        FEW,
        method=name,
        output=tmp_path,
        train=SHORT,
        quiet=True,
        **OPTIONS.get(name, {}),
    )
    assert run.status == "finished"
    assert lines(run)


ON_VECTORS = {"sp", "cc", "cka", "rkd", "pkt", "darkrank", "crd", "dcd", "rrd", "itrd", "pkdot", "m2pkd"}
"""Methods that compare whole samples, so that a student without maps will do."""


@pytest.mark.slow
@each
def test_a_student_of_vectors_learns_or_is_told_why_not(
    name: str, teacher: limbeck.Run, tmp_path: Path
) -> None:
    def distill() -> limbeck.Run:
        return limbeck.distill(
            "mlp",
            teacher,
            FEW,
            method=name,
            output=tmp_path,
            train=SHORT,
            quiet=True,
            **OPTIONS.get(name, {}),
        )

    if name in ON_VECTORS:
        assert distill().status == "finished"
    else:
        with pytest.raises(ModelError, match=r"no layers to compare in the student; got layers\.0\.0 128"):
            distill()


class Plain(FeatureMethod):
    """Pairs and nothing else."""

    name, paper, status = "plain", "none", "control"


def outline(*stages: tuple[str, tuple[int, ...]], embedding: tuple[int, ...] | None = (8,)) -> Layout:
    return Layout(
        tuple(Layer(n, "Conv2d", s) for n, s in stages), tuple(n for n, _ in stages), embedding, "fc"
    )


THREE = outline(("a1", (4, 8, 8)), ("a2", (8, 4, 4)), ("a3", (16, 2, 2)))
FOUR = outline(("b1", (4, 8, 8)), ("b2", (8, 4, 4)), ("b3", (8, 3, 3)), ("b4", (16, 2, 2)))


def names(pairs: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [(pair.student, pair.teacher) for pair in pairs]


def test_stages_are_paired_from_the_deepest_and_the_rest_is_told() -> None:
    method = Plain()
    assert names(method.stages(THREE, THREE)) == [("a1", "a1"), ("a2", "a2"), ("a3", "a3")]
    assert method.choices == ()
    assert names(method.stages(THREE, FOUR)) == [("a1", "b2"), ("a2", "b3"), ("a3", "b4")]
    assert method.choices == ("plain: teacher b1 not compared: stages are paired from the deepest",)
    method.compare(method.stages(FOUR, THREE))
    assert method.choices == (
        "plain: student b1 not compared: stages are paired from the deepest",
        "plain: student b2 8x4x4, teacher a1 4x8x8",
        "plain: student b3 8x3x3, teacher a2 8x4x4",
        "plain: student b4 16x2x2, teacher a3 16x2x2",
    )
    assert method.student_taps == ("b2", "b3", "b4")
    assert names(method.deepest(THREE, FOUR)) == [("a3", "b4")]
    assert names(method.embeddings(THREE, FOUR)) == [(EMBEDDING, EMBEDDING)]


def test_layers_named_by_hand_replace_the_stages_of_that_network() -> None:
    assert names(Plain(student_layers=["a1"]).stages(THREE, FOUR)) == [("a1", "b4")]
    by_hand = {"student_layers": ["a2", "a1"], "teacher_layers": ["b1", "b4"]}
    assert names(Plain(**by_hand).stages(THREE, FOUR)) == [("a2", "b1"), ("a1", "b4")]
    assert names(Plain(teacher_layers=[EMBEDDING]).deepest(THREE, FOUR)) == [("a3", EMBEDDING)]


def test_layers_that_do_not_fit_are_named() -> None:
    bare = outline(embedding=None)
    with pytest.raises(ModelError, match="no layer 'a9'; expected 'a"):
        Plain(student_layers=["a9"]).stages(THREE, THREE)
    with pytest.raises(ConfigError, match="got 1 student_layers, 2 teacher_layers"):
        Plain(student_layers=["a1"], teacher_layers=["b1", "b2"]).stages(THREE, FOUR)
    with pytest.raises(ModelError, match="finds no layers to compare in the teacher"):
        Plain().deepest(THREE, bare)
    flat = Plain(student_layers=[EMBEDDING], teacher_layers=["b1"])
    pairs = flat.stages(THREE, FOUR)
    for check in (lambda: flat.maps(pairs), lambda: flat.connector(pairs[0])):
        with pytest.raises(ModelError, match="got student embedding 8, teacher b1 4x8x8"):
            check()
    square, line = outline(("square", (10, 8))), outline(("line", (11, 8)))
    assert flat.maps(Plain().stages(square, THREE))
    with pytest.raises(ModelError, match="student line 11x8"):
        flat.maps(Plain().stages(line, THREE))


def test_fitnets_takes_its_hint_from_the_middle() -> None:
    for student, teacher, pair in ((THREE, THREE, ("a2", "a2")), (FOUR, FOUR, ("b2", "b2"))):
        method = resolve("fitnets")
        method.prepare(student, teacher, setting(nn.Identity(), nn.Identity()))
        assert (method.student_taps[0], method.teacher_taps[0]) == pair
    by_hand = resolve("fitnets", {"student_layers": ["a1", "a3"], "teacher_layers": ["b1", "b4"]})
    by_hand.prepare(THREE, FOUR, setting(nn.Identity(), nn.Identity()))
    assert by_hand.teacher_taps == ("b1", "b4")
    assert by_hand.choices[0] == "fitnets: student a1 4x8x8, teacher b1 4x8x8: " + str(
        Regressor((4, 8, 8), (4, 8, 8))
    )


@pytest.mark.parametrize(
    ("source", "target", "steps"),
    [
        ((4, 8, 8), (6, 8, 8), "1x1 convolution, norm, ReLU"),
        ((4, 8, 8), (6, 4, 4), "3x3 convolution, stride 2, norm, ReLU"),
        ((4, 4, 4), (6, 8, 8), "4x4 transposed convolution, stride 2, norm, ReLU"),
        ((4, 8, 7), (6, 6, 6), "3x2 convolution, norm, ReLU"),
        ((4, 32, 32), (6, 8, 8), "1x1 convolution, norm, ReLU"),
        ((4, 3, 3), (6, 8, 8), "1x1 convolution, norm, ReLU"),
        ((17, 4), (6, 2, 2), "3x3 convolution, stride 2, norm, ReLU"),
        ((4, 8, 8), (17, 6), "3x3 convolution, stride 2, norm, ReLU"),
    ],
)
def test_regressors_fit_any_two_grids(source: tuple[int, ...], target: tuple[int, ...], steps: str) -> None:
    regressor = Regressor(source, target)
    out = regressor(torch.randn(3, *source))
    assert out.shape == (3, 6, *regressor.size)
    assert out.min() >= 0
    assert f" -> {steps} -> " in str(regressor)
    assert Regressor(source, target, relu=False)(torch.randn(3, *source)).min() < 0


@pytest.mark.parametrize(
    ("teacher", "relu", "ends"),
    [
        ("resnet8", None, True),
        ("wrn_16_2", None, False),
        ("tokens", None, False),
        ("wrn_16_2", True, True),
        ("resnet8", False, False),
    ],
)
def test_the_regressor_ends_in_a_relu_unless_the_teacher_gives_negative_numbers(
    teacher: str, relu: bool | None, ends: bool
) -> None:
    model = vision_transformer() if teacher == "tokens" else network(teacher)
    method, *_ = prepared("fitnets", network("cnn"), model, relu=relu)
    assert ("ReLU" in method.choices[-1]) == ends


def test_the_stem_of_a_network_that_does_not_name_its_own() -> None:
    block = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU())
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU()), block)
    found = layout(nn.Sequential(plain, nn.Flatten(), nn.Linear(128, 4)), images())
    assert (stem(found), found.stages) == (("0.0",), ("0.1", "0"))
    assert stem(THREE) == ()


def test_the_variance_of_vid_starts_where_the_published_one_does() -> None:
    (record,) = (r for r in RECORDS if r["id"] == "vid.log_scale_init")
    guess = Guess(3, 4, record["hyper_parameters"]["init_pred_var"], record["hyper_parameters"]["eps"])
    assert guess.log_scale.tolist() == pytest.approx([record["values"]["log_scale"]] * 4, rel=1e-6)
    assert torch.allclose(guess(torch.zeros(1, 3, 2, 2))[1], torch.tensor(5.0))
    guess.log_scale.data.fill_(200.0)
    assert guess(torch.zeros(1, 3, 2, 2))[1].isfinite().all()


def test_fsp_compares_the_stem_too_and_needs_equal_widths() -> None:
    method, *_ = prepared("fsp", network("resnet8"), network("resnet14"))
    assert method.student_taps == ("relu", "layer1", "layer2", "layer3")
    with pytest.raises(ModelError, match=r"equal widths; got student relu 16x8x8, teacher relu 32x8x8; "):
        prepared("fsp", network("resnet8"), network("resnet8x4"))
    with pytest.raises(ModelError, match="at least two layers"):
        prepared(
            "fsp", network("resnet8"), network("resnet14"), student_layers=["relu"], teacher_layers=["relu"]
        )


def stage(run: limbeck.Run, term: str) -> list[dict[str, Any]]:
    return [row for row in run.metrics("train") if set(row["terms"]) == {term}]


@pytest.mark.slow
def test_fsp_only_initialises(tmp_path: Path) -> None:
    train = {**SHORT, "epochs": 3}
    teacher = limbeck.train("resnet14", "digits", output=tmp_path / "t", train=train, quiet=True)
    run = limbeck.distill(
        "resnet8",
        teacher,
        FEW,
        method="fsp",
        initial_epochs=6,
        output=tmp_path / "s",
        train=train,
        quiet=True,
    )
    first, rest = stage(run, "fsp"), stage(run, "cross_entropy")
    assert (len(first), len(rest)) == (6 * 4, 3 * 4)
    assert first[-1]["loss"] < 0.7 * first[0]["loss"]


def test_ft_trains_its_paraphraser_first_and_freezes_it() -> None:
    student, teacher = network("cnn"), network("resnet8x4")
    method, ours, theirs, batch = prepared("ft", student, teacher, initial_epochs=1)
    (term,) = method.initial(ours, theirs, batch).values()
    term.value.backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert trained == {name for name, _ in method.named_parameters() if name.startswith("paraphrasers")}
    assert all(p.grad is None for p in student.parameters())
    method.zero_grad()
    method(ours, theirs, batch)["ft"].value.backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in method.named_parameters() if name.startswith("translators")}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["factor", "attention"])
def test_ft_learns(form: str, teacher: limbeck.Run, tmp_path: Path) -> None:
    train = {**SHORT, "optimizer": {"learning_rate": 0.1}}
    run = limbeck.distill(
        "cnn",
        teacher,
        FEW,
        method="ft",
        form=form,
        initial_epochs=10,
        output=tmp_path,
        train=train,
        quiet=True,
    )
    first = stage(run, "ft.paraphraser")
    assert len(first) == 40
    assert first[-1]["loss"] < 0.8 * first[0]["loss"]
    assert run.metrics("train")[-1]["terms"]["ft"]["weight"] == {"factor": 500, "attention": 200}[form]
