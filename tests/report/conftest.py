"""A real headless Chromium, started once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser. A machine without one fails: a report that nobody has opened is not tested."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail(
            "no Chromium on this machine: install it (Debian: apt-get install chromium)", pytrace=False
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Callable[..., Any]:
    """Opens a file in a window of its own; leaving it checks that the page kept quiet."""

    @contextmanager
    def window(file: Path, width: int = 1200, **options: Any) -> Iterator[Any]:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(file.as_uri())
        yield page
        page.wait_for_timeout(50)
        context.close()
        assert said == []
        assert [url for url in asked if not url.startswith(("data:", file.as_uri()))] == []

    return window
