"""Each guard finds the fault that it is there for, and a sound set-up passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from limbeck.data import AugmentConfig, DataConfig, Views, load
from limbeck.errors import GuardError
from limbeck.methods import resolve
from limbeck.models import build
from limbeck.signals import Batch
from limbeck.tasks import Classification
from limbeck.teachers import Inputs, LiveTeacher
from limbeck.training.guards import Guard, _teacher_loaded, enforce, inspect
from limbeck.training.learner import Learner

FEEDS = Inputs(1, (2, 2), (0.5,), (0.25,))


def batch(rows: int = 200) -> Batch:
    """Images whose brightest pixel is the label."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(rows, 1, 2, 2, generator=generator)
    return Batch(images, images.flatten(1).argmax(1), torch.arange(rows))


class Oracle(nn.Module):
    """A perfect teacher for ``batch``."""

    def __init__(self, classes: int = 4, sharpness: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(sharpness))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x.flatten(1), (0, self.classes - 4)) * self.scale


def student(classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


def examine(
    network: nn.Module,
    teacher: LiveTeacher | None = None,
    method: str | None = "kd",
    data: Batch | None = None,
) -> dict[str, Guard]:
    methods = [] if method is None else [(resolve(method, {}), 1.0)]
    learner = Learner(network, Classification(4), methods, label_weight=1.0)
    found = inspect(learner, teacher, Classification(4), data or batch(64), batch(), FEEDS)
    return {guard.name: guard for guard in found}


def live(model: nn.Module, **options: object) -> LiveTeacher:
    return LiveTeacher(model, Classification(4), feeds=FEEDS, **options)  # type: ignore[arg-type]


def faults(found: dict[str, Guard]) -> list[str]:
    return [name for name, guard in found.items() if guard.ok is False]


def test_a_sound_run_passes_and_is_left_as_it_was() -> None:
    network = student()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    found = examine(network, live(Oracle(), expects=FEEDS))
    assert faults(found) == []
    assert all(guard.ok for guard in found.values())
    enforce(list(found.values()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_teacher_that_was_never_trained() -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(4, 4).apply(lambda m: nn.init.constant_(m.weight, 0.1)))
    assert "teacher is better than chance" in faults(examine(student(), live(blind)))


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet8"])
def test_networks_that_were_never_trained(name: str) -> None:
    """Their hits are not independent, so they stray further from chance than coins do; few may pass."""
    data = load(DataConfig())
    held_out = Views(AugmentConfig(), data.validation, 0, data.mean, data.std).plain(torch.arange(144))
    task, passed = Classification(10), 0
    for seed in range(60):
        torch.manual_seed(seed)
        network = build(name, classes=10, channels=1, size=(8, 8))
        passed += bool(_teacher_loaded(LiveTeacher(network, task), task, held_out).ok)
    assert passed <= 3


def test_student_stuck_in_evaluation_mode() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)  # type: ignore[return-value]

    found = examine(Frozen(*student()), live(Oracle()))
    assert faults(found) == ["student in train mode"]


def test_gradient_that_never_arrives() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = student()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inside(x).detach()
            return out

    assert "gradient reaches the student" in faults(examine(Detached(), live(Oracle())))
    frozen = student().requires_grad_(False)
    assert "gradient reaches the student" in faults(examine(frozen, live(Oracle())))


def test_term_that_is_zero() -> None:
    network = Oracle(sharpness=3.0)
    found = examine(network, live(Oracle(sharpness=3.0)))
    assert "terms are finite and not zero" in faults(found)
    assert "kd is exactly 0" in found["terms are finite and not zero"].fix


def test_term_that_is_not_finite() -> None:
    network = student()
    with torch.no_grad():
        network[1].weight[0, 0] = torch.nan  # type: ignore[index, operator]
    found = examine(network, live(Oracle()))
    assert "terms are finite and not zero" in faults(found)
    assert "not finite" in found["terms are finite and not zero"].fix


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_classes_that_disagree(who: str) -> None:
    found = examine(student(5 if who == "student" else 4), live(Oracle(5 if who == "teacher" else 4)))
    assert faults(found) == ["classes agree"]
    assert f"{who} 5" in found["classes agree"].detail


def test_other_normalisation_and_size() -> None:
    other = Inputs(1, (2, 2), (0.0,), (1.0,))
    name = "teacher and student see the same inputs"
    assert faults(examine(student(), live(Oracle(), expects=other))) == [name]
    assert faults(examine(student(), live(Oracle(), expects=other, renormalise=True))) == []
    assert faults(examine(student(), live(Oracle(), expects=Inputs(1, (4, 4), (0.5,), (0.25,))))) == [name]
    assert faults(examine(student(), live(Oracle(), expects=Inputs(3, (2, 2), (0.5,) * 3, (0.25,) * 3)))) == [
        name
    ]


def test_renormalised_pixels_are_those_the_teacher_was_trained_on() -> None:
    expects = Inputs(1, (2, 2), (0.1,), (2.0,))
    pixels = torch.rand(3, 1, 2, 2)
    fed = Batch((pixels - 0.5) / 0.25, torch.zeros(3).long(), torch.arange(3))
    teacher = live(nn.Flatten(), expects=expects, renormalise=True)
    torch.testing.assert_close(teacher.signals(fed).logits, ((pixels - 0.1) / 2.0).flatten(1))


def test_no_teacher_or_one_that_cannot_give_what_is_needed() -> None:
    assert faults(examine(student(), None)) == ["teacher"]
    mute = live(Oracle())
    mute.capabilities = frozenset({"features"})  # type: ignore[misc]
    assert faults(examine(student(), mute)) == ["teacher gives what methods need"]
    assert faults(examine(student(), None, method=None)) == []


def test_enforce_names_every_fault_and_the_fix() -> None:
    found = examine(student(5), live(Oracle()))
    with pytest.raises(GuardError, match="classes agree: data 4, student 5") as caught:
        enforce(list(found.values()))
    assert "train.guards=warn" in str(caught.value)


@pytest.fixture(autouse=True)
def _same_random_state() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
