"""Teachers: their identity, what they feed themselves, and what they remember."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limbeck.signals import Batch
from limbeck.tasks import Classification
from limbeck.teachers import Inputs, LiveTeacher, MemoryTeacher, Teacher
from limbeck.teachers.live import fingerprint

TASK = Classification(classes=3)


def batch(ids: list[int], inputs: Tensor) -> Batch:
    rows = torch.tensor(ids)
    return Batch(inputs[rows], rows % 3, rows)


def test_a_fingerprint_knows_values_names_shapes_and_types() -> None:
    states: list[dict[str, Tensor]] = [
        {"w": torch.zeros(4)},
        {"v": torch.zeros(4)},
        {"w": torch.zeros(2, 2)},
        {"w": torch.zeros(4, dtype=torch.int32)},
        {"w": torch.zeros(4, dtype=torch.bfloat16)},
        {"w": torch.tensor([0.0, 0.0, 0.0, 1e-45])},
        {"w": torch.tensor([-0.0, 0.0, 0.0, 0.0])},
        {"w": torch.zeros(0)},
        {"n": torch.tensor(3)},
        {"b": torch.tensor([True, False])},
        {},
    ]
    found = [fingerprint(state) for state in states]
    assert len(set(found)) == len(states)
    assert found == [fingerprint({n: t.clone() for n, t in state.items()}) for state in states]


def test_a_fingerprint_does_not_depend_on_memory_layout() -> None:
    tensor = torch.randn(2, 3, 4, 4)
    turned = tensor.to(memory_format=torch.channels_last)
    assert fingerprint({"w": tensor}) == fingerprint({"w": turned})


def test_pixels_are_fed_as_the_teacher_learned_them_only_where_they_differ() -> None:
    same, other = Inputs(1, (2, 2), (0.5,), (0.25,)), Inputs(1, (2, 2), (0.0,), (1.0,))
    images = torch.rand(3, 1, 2, 2)
    one = Batch(images, torch.zeros(3).long(), torch.arange(3))
    for expects, renormalise, expected in [
        (same, True, images),
        (other, False, images),
        (other, True, images * 0.25 + 0.5),
        (None, True, images),
    ]:
        teacher = LiveTeacher(
            nn.Flatten(), Classification(4), expects=expects, feeds=same, renormalise=renormalise
        ).to(torch.device("cpu"), torch.channels_last)
        assert torch.equal(teacher.signals(one).logits, expected.flatten(1))
    assert torch.equal(one.inputs, images)


def test_answers_are_asked_once_for_each_key() -> None:
    teacher, asked = LiveTeacher(nn.Linear(4, 3), TASK), []

    def ask() -> Tensor:
        asked.append(1)
        return torch.zeros(1)

    assert teacher.remember("a", ask) is teacher.remember("a", ask)
    teacher.remember(("a", "no"), ask)
    assert len(asked) == 2
    assert teacher.parameters == 15


def test_asked_for_the_whole_split_the_memory_does_not_hang_on_the_first_batch() -> None:
    inputs, answers, asked = torch.randn(5, 4), torch.randn(5, 3), []

    def ask() -> Tensor:
        asked.append(1)
        return answers

    memory = MemoryTeacher(LiveTeacher(nn.Linear(4, 3), TASK), 5, ask)
    assert isinstance(memory, Teacher)
    assert not asked
    for ids in ([4, 0], [1, 2, 3], [0, 0]):
        assert torch.equal(memory.signals(batch(ids, inputs)).logits, answers[ids])
    assert len(asked) == 1


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_remembered_has_no_gradient_and_cannot_be_changed_from_outside(whole: bool) -> None:
    inputs, live = torch.randn(4, 4), LiveTeacher(nn.Linear(4, 3), TASK)
    memory = MemoryTeacher(live, 4, (lambda: live.model(inputs)) if whole else None)
    first = memory.signals(batch([0, 1, 2, 3], inputs)).logits
    assert not first.requires_grad
    expected = first.clone()
    memory.signals(batch([0, 1, 2, 3], inputs)).logits.zero_()
    assert torch.equal(memory.signals(batch([0, 1, 2, 3], inputs)).logits, expected)
