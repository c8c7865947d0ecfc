"""Progress: plain lines where nobody watches, a bar on a terminal, and time left that is not fooled."""

from __future__ import annotations

import io
import time

import pytest

from limbeck.training.progress import Progress


class Clock:
    """A time that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class Stream(io.TextIOWrapper):
    """A stream in memory, that says it is a terminal where it should."""

    mode, name = "w", "memory"  # what typing.IO promises

    def __init__(self, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        """What was written."""
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def test_lines_come_every_few_seconds_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), Stream()
    with Progress(100, "run", stream=stream, every=5.0) as progress:
        for step in range(100):
            clock.now += 1
            progress.advance(1, f"loss {step}" if step % 2 else None)
    lines = stream.text.splitlines()
    assert len(lines) == 20
    assert lines[0] == "run: 5/100 (5 %), 0:01:35 left, loss 3"
    assert lines[-1] == "run: 100/100 (100 %), 0:00:00 left, loss 99"
    assert "\x1b" not in stream.text


def test_hours_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), Stream()
    with Progress(1000, "run", stream=stream) as progress:
        clock.now += 60
        progress.advance(1, title="other")
    assert stream.text == "other: 1/1000 (0 %), 16:39:00 left\n"


def test_steps_of_an_earlier_process_do_not_make_this_one_look_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), Stream()
    with Progress(100, "run", stream=stream) as progress:
        progress.skip(90)
        clock.now += 10
        progress.advance(1)
    assert stream.text == "run: 91/100 (91 %), 0:01:30 left\n"


def test_quiet_says_nothing() -> None:
    stream = Stream(terminal=True)
    with Progress(3, "run", quiet=True, stream=stream) as progress:
        progress.skip(1)
        progress.advance(2, "loss")
    assert stream.text == ""


def test_names_on_a_terminal_are_never_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Stream(terminal=True)
    with Progress(10, "run[red]1[/nonsense]", stream=stream) as progress:
        progress.skip(4)
        progress.advance(6, "loss [bold]0.5")
    shown = stream.text
    assert "run[red]1[/nonsense]" in shown
    assert "loss [bold]0.5" in shown
    assert "10/10" in shown


def test_more_steps_than_planned_stay_at_a_hundred_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    stream = Stream()
    with Progress(0, "run", stream=stream) as progress:
        progress.advance(3)
    assert stream.text == "run: 3/1 (100 %), 0:00:00 left\n"
