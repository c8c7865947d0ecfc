"""Scale-decoupled distillation: the loss by region, the map that is averaged, and networks without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.methods.test_features import images, network, setting
from torch import Tensor, nn

from limbeck.errors import ConfigError, ModelError
from limbeck.losses import dkd, kd, nkd, regional_logits, regions, sdd, standardise
from limbeck.methods import resolve
from limbeck.methods.sdd import SDD
from limbeck.signals import Batch, Signals
from limbeck.taps import EMBEDDING, Taps, layout

BASES: dict[str, Any] = {
    "kd": lambda s, t, y: kd(s, t, temperature=3.0, reduction="none"),
    "dkd": lambda s, t, y: dkd(s, t, y, alpha=0.5, beta=2.0, temperature=3.0, reduction="none"),
    "nkd": lambda s, t, y: nkd(s, t, y, gamma=2.0, temperature=3.0, reduction="none"),
}


def draw(n: int = 5, c: int = 4, r: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(r, n, c, generator=generator, dtype=dtype) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(c, (n,), generator=generator)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("n", [1, 5])
def test_the_formula(base: str, n: int) -> None:
    student, teacher, labels = draw(n)
    rows = []
    for i in range(n):
        right = [bool(teacher[r, i].argmax() == labels[i]) for r in range(5)]
        values = [
            BASES[base](student[r, i : i + 1], teacher[r, i : i + 1], labels[i : i + 1]) for r in range(5)
        ]
        rows.append(sum(v * (1.5 if ok != right[0] else 1) for v, ok in zip(values, right, strict=True)) / 5)
    expected = torch.cat(rows)
    options = {"base": base, "temperature": 3.0, "alpha": 0.5, "beta": 2.0, "complementary": 1.5}
    got = sdd(student, teacher, labels, **options, reduction="none")
    assert torch.allclose(got, expected)
    assert torch.allclose(sdd(student, teacher, labels, **options), expected.mean())
    assert torch.allclose(sdd(student, teacher, labels, **options, reduction="sum"), expected.sum())
    a, b = (torch.autograd.grad(x.sum(), student)[0] for x in (got, expected))
    assert torch.allclose(a, b)


@pytest.mark.parametrize("base", BASES)
def test_images_without_a_label(base: str) -> None:
    student, teacher, labels = draw()
    labels[1:] = -100
    got = sdd(student, teacher, labels, base=base, temperature=3.0, alpha=0.5, beta=2.0)
    gradient = torch.autograd.grad(got, student)[0]
    assert gradient[:, 1:].any() == (base == "kd")
    if base != "kd":
        only = sdd(
            student[:, :1], teacher[:, :1], labels[:1], base=base, temperature=3.0, alpha=0.5, beta=2.0
        )
        assert torch.allclose(got, only)
    labels[:] = -100
    assert sdd(student, teacher, labels, base=base).isfinite()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("size", [50.0, 300.0])
def test_it_stays_finite_in_float32(base: str, size: float) -> None:
    student, teacher, labels = draw(dtype=torch.float32)
    student = (size * student.detach()).requires_grad_()
    value = sdd(student, size * teacher, labels, base=base)
    assert value.isfinite()
    assert torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("base", BASES)
def test_no_images_give_a_connected_zero(base: str) -> None:
    student = torch.zeros(5, 0, 3, requires_grad=True)
    value = sdd(student, torch.zeros(5, 0, 3), torch.zeros(0, dtype=torch.int64), base=base)
    assert float(value.detach()) == 0
    assert torch.autograd.grad(value, student)[0].shape == (5, 0, 3)


def test_regions_of_an_even_map_are_its_means() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    found = regions(x, (1, 2, 4))
    assert found.shape == (2, 3, 21)
    assert torch.allclose(found[..., 0], x.mean((2, 3)))
    assert torch.allclose(found[..., 2], x[..., :4, 4:].mean((2, 3)))
    assert torch.allclose(found[..., 5 + 4], x[..., 2:4, :2].mean((2, 3)))


@pytest.mark.parametrize("name", ["cnn", "resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV2"])
def test_the_map_that_is_averaged_is_found(name: str) -> None:
    model = network(name) if name in ("cnn", "resnet8") else network_of_colour(name)
    x = images() if name in ("cnn", "resnet8") else torch.randn(4, 3, 32, 32)
    found = layout(model, x)
    method = resolve("sdd_kd", {"scales": [1, 2, 4]})
    where = setting(model, model)._replace(
        inputs=setting(model, model).inputs.__class__(x.shape[1], tuple(x.shape[2:]), (0.5,), (0.5,))
    )
    mode = model.training
    method.prepare(found, found, where)
    assert model.training == mode
    (layer,) = method.student_taps
    assert method.choices == (f"sdd_kd: regions of student {layer}, teacher {layer}",)
    with Taps([layer], found.classifier, head=True).record(model.eval()) as features:
        logits = model(x)
    weight, bias = model.get_submodule(found.classifier or "").parameters()
    whole = regional_logits(features[layer], weight, bias, (1, 2, 4))[0]
    assert torch.allclose(whole, logits, rtol=1e-3, atol=1e-4)


def network_of_colour(name: str) -> nn.Module:
    from limbeck.models import build

    torch.manual_seed(0)
    return build(name, classes=4, channels=3, size=(32, 32))


class NoAverage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.conv(x)).flatten(1))


@pytest.mark.parametrize("student", ["mlp", "maximum"])
def test_networks_without_an_average_are_named(student: str) -> None:
    model = NoAverage() if student == "maximum" else network(student)
    teacher = network("cnn")
    method = resolve("sdd_dkd")
    with pytest.raises(ModelError, match="the student's classifier reads no mean of a map"):
        method.prepare(layout(model, images()), layout(teacher, images()), setting(model, teacher))
    with pytest.raises(ModelError, match="the teacher's classifier"):
        method.prepare(layout(teacher, images()), layout(model, images()), setting(teacher, model))
    with pytest.raises(ConfigError, match="'sdd_dkd' needs a teacher"):
        method.prepare(layout(teacher, images()), None, setting(teacher, None))


def signals(model: nn.Module, method: SDD, x: Tensor) -> Signals:
    taps = Taps([*method.student_taps, EMBEDDING], layout(model, x).classifier, head=True)
    with taps.record(model) as found:
        return Signals(model(x), found, {"head": taps.last_layer(model)})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sdd_kd", {"temperature": 3.0, "complementary": 4.0}),
        ("sdd_dkd", {"temperature": 3.0, "alpha": 0.5, "beta": 2.0}),
        ("sdd_nkd", {"temperature": 3.0, "beta": 2.0}),
    ],
)
@pytest.mark.parametrize("standard", [False, True])
def test_options_reach_the_loss(name: str, options: dict[str, Any], standard: bool) -> None:
    student, teacher, x = network("cnn"), network("cnn"), images()
    torch.nn.init.normal_(teacher.get_submodule("fc").weight)  # type: ignore[arg-type]
    method = resolve(name, {**options, "scales": [1, 2, 4], "warmup": 2})
    assert isinstance(method, SDD)
    method.prepare(layout(student, x), layout(teacher, x), setting(student, teacher))
    ours, theirs = (signals(model.eval(), method, x) for model in (student, teacher))
    labels = torch.tensor([0, 1, 2, 3, 0, -100])
    s, t = (
        regional_logits(seen.features[method.student_taps[0]], *seen.extra["head"], (1, 2, 4))
        for seen in (ours, theirs)
    )
    if standard:
        s, t = (standardise(logits.flatten(0, 1)).view_as(logits) for logits in (s, t))
        for seen in (ours, theirs):
            seen.extra["raw"] = seen.logits
    (term,) = method(ours, theirs, Batch(x, labels, torch.arange(6))).values()
    assert torch.equal(term.value, sdd(s, t, labels, base=name.removeprefix("sdd_"), **options))
    assert term.weight == 0.5
    term.value.backward()
    assert student.get_submodule("fc").weight.grad.any()  # type: ignore[union-attr, operator]
    assert teacher.get_submodule("fc").weight.grad is None


def test_other_scales_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[1\], \[1, 2\] or \[1, 2, 4\]"):
        resolve("sdd_kd", {"scales": [1, 3]})
