"""Tables and messages: plain where nobody watches, drawn on a real terminal, never markup."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.running import environment

from limbeck.cli.tables import table


def on_a_terminal(*words: str) -> str:
    """What a command writes to a real terminal of 100 columns."""
    master, slave = pty.openpty()
    env = {**environment(), "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(words, env=env, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_cells_and_titles_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "from limbeck.cli.tables import table\n"
        "table('run[red]1[/nothing]', ['a [b]', 'n'], [['[bold]x[/bold]', r'\\[y]'], [r'c:\\\\', '[/]']])\n"
    )
    shown = on_a_terminal(sys.executable, "-c", code)
    for text in ("run[red]1[/nothing]", "a [b]", "[bold]x[/bold]", r"\[y]", "c:\\", "[/]"):
        assert text in shown
    assert "\x1b[" in shown
    table("run[red]1", ["a [b]", "n"], [["[bold]x", "3"], ["y", "1234"]])
    assert capsys.readouterr().out == "run[red]1\na [b]       n\n[bold]x     3\ny        1234\n"


def test_the_methods_table_fits_on_a_terminal() -> None:
    shown = on_a_terminal(sys.executable, "-m", "limbeck", "methods")
    assert "reconstructed" in shown
    assert "bickd" in shown


def test_a_pipe_that_closes_early_is_no_traceback(tmp_path: Path) -> None:
    script = f"{sys.executable} -m limbeck methods 2> {tmp_path / 'err'} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "Methods\n"
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.parametrize(
    "words", [["nonsense"], ["train", "--bogus"], ["demo", "--seeds", "0"], ["evaluate"]]
)
def test_wrong_words_are_usage_errors(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "limbeck", *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
