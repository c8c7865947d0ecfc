"""A small server on this machine stands for the network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from limbeck.data import DataConfig, fashion, load
from limbeck.data.download import cache_folder, download
from limbeck.errors import DataError

CONTENT = bytes(range(256)) * 4000
SUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    cut: int | None = None
    ranges: list[str | None]
    resumes = True

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.resumes else 0
        if self.path == "/none":
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Fresh", (Handler,), {"ranges": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/file", handler
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_once(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    address, handler = server
    target = tmp_path / "deep" / "file"
    for _ in range(2):
        assert download(address, target, SUM).read_bytes() == CONTENT
    assert handler.ranges == [None]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_continues(
    server: tuple[str, type[Handler]], tmp_path: Path, resumes: bool
) -> None:
    address, handler = server
    handler.cut, handler.resumes = 300_000, resumes
    target = tmp_path / "file"
    with pytest.raises(DataError, match="run again to continue after 300,000 bytes"):
        download(address, target, SUM)
    assert not target.exists()
    handler.cut = None
    assert download(address, target, SUM).read_bytes() == CONTENT
    assert handler.ranges == [None, "bytes=300000-"]


def test_a_complete_part_is_not_fetched_again(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert download(server[0], tmp_path / "file", SUM).read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="published md5 checksum"):
        download(server[0], tmp_path / "file", "md5:" + "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_no_file_no_server_and_no_permission(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot download .*/none"):
        download(server[0].replace("/file", "/none"), tmp_path / "file", SUM)
    with pytest.raises(DataError, match="cannot download"):
        download("http://127.0.0.1:9/file", tmp_path / "file", SUM)
    (tmp_path / "blocked").write_text("a file, not a folder")
    with pytest.raises(DataError, match="cannot download"):
        download(server[0], tmp_path / "blocked" / "file", SUM)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("LIMBECK_DATA")
    assert cache_folder() == Path.home() / ".cache" / "limbeck"


def test_fashion_mnist_is_fetched_only_when_asked(
    server: tuple[str, type[Handler]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setattr(fashion, "ADDRESS", server[0] + "?")
    monkeypatch.setattr(fashion, "FILES", dict.fromkeys(fashion.FILES, SUM))
    with pytest.raises(DataError, match="not on this machine"):
        load(DataConfig(name="fashion-mnist"))
    assert server[1].ranges == []
    with pytest.raises(DataError, match="cannot read"):
        load(DataConfig(name="fashion-mnist", download=True))
    assert len(server[1].ranges) == 4
