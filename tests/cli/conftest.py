"""The command line inside this process: quicker than a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from limbeck.cli import main


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Call the command line with words, as ``limbeck`` would be called."""

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, words)])
        threads = torch.get_num_threads()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            torch.set_num_threads(threads)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call
