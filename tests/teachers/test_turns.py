"""Teachers that take turns: who has a step, what it says, and that a resumed run keeps the beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.running import config, stopped_run
from torch import nn

from limbeck.config import parse
from limbeck.errors import ConfigError
from limbeck.pulse import PulseWidthSchedule
from limbeck.runs import Run
from limbeck.signals import Batch
from limbeck.tasks import Classification
from limbeck.teachers import AlternatingTeacher, Inputs, LiveTeacher
from limbeck.training.session import execute


def three() -> list[LiveTeacher]:
    torch.manual_seed(0)
    return [LiveTeacher(nn.Linear(4, 3), Classification(3), name=f"t{i}") for i in range(3)]


def test_the_one_on_turn_answers_and_else_all_do() -> None:
    teachers = three()
    both = AlternatingTeacher(teachers, PulseWidthSchedule(period=6, slots=3, start=2))
    batch = Batch(torch.randn(5, 4), torch.zeros(5).long(), torch.arange(5))
    alone = [teacher.signals(batch).logits for teacher in teachers]
    for step in range(14):
        with both.on(step):
            turn = both.schedule.turn(step + 1, 3) if both.schedule else 0
            assert torch.equal(both.signals(batch).logits, alone[turn])
    mean = torch.stack([x.softmax(1) for x in alone]).mean(0)
    torch.testing.assert_close(both.signals(batch).logits.exp(), mean)
    assert both.name == "t0 + t1 + t2"
    assert not any(p.requires_grad for p in both.model.parameters())
    assert "features" not in both.capabilities


def test_teachers_of_other_inputs_or_one_alone_are_refused() -> None:
    first, second, _ = three()
    second.expects = Inputs(1, (8, 8), (0.0,), (1.0,))
    with pytest.raises(ConfigError, match="other inputs"):
        AlternatingTeacher([first, second])
    with pytest.raises(ConfigError, match="at least two"):
        AlternatingTeacher([first])
    for wrong, words in (
        ({"run": "a", "turns": {"runs": ["a", "b"]}}, "its own runs"),
        ({"turns": {"runs": ["a"]}}, "at least 2"),
        ({"cache": "memory", "turns": {"runs": ["a", "b"]}}, "remembered"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse({"student": "cnn", "teacher": wrong})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("pair")
    return [
        execute(config(folder / f"{i}", [], student="mlp").model_copy(update={"seed": i})) for i in (0, 1)
    ]


def test_a_run_with_turns_resumes_to_the_same_weights(
    pair: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = {"runs": [str(run.path) for run in pair], "period": 4, "slots": 2}

    def settings(name: str, schedule: dict[str, Any]) -> Any:
        values = config(tmp_path / name, ["kd"]).model_dump()
        return parse({**values, "teacher": {"turns": schedule}})

    whole = execute(settings("whole", turns))
    again = stopped_run(monkeypatch, 7, settings("again", turns))
    other = execute(settings("other", {**turns, "phase": 1}))
    mine, theirs = again.student().state_dict(), whole.student().state_dict()
    assert all(torch.equal(tensor, mine[name]) for name, tensor in theirs.items())
    assert not all(torch.equal(t, other.student().state_dict()[name]) for name, t in theirs.items())
    assert whole.info["teacher"]["parameters"] == 2 * pair[0].info["student"]["parameters"]
    assert {"agreement", "teacher_kl"} <= set(whole.results["last"]["test"])
