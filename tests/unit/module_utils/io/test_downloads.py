"""A download that was cut goes on where it was, in the same run and in the next; of another file nothing is used."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.bundle.fetching import Shelf, Wanted
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io.downloads import Source

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Cutting:
    """A server of one file. It ends so many answers early; `sent` has the part that was asked for and what was sent."""

    body: bytes = BODY
    cuts: list[int] = field(default_factory=list)
    knows_parts: bool = True
    sent: list[tuple[str | None, int]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        part = handler.headers.get("Range")
        start = int(part[6:-1]) if part and self.knows_parts else 0
        if start >= len(self.body):
            self.sent.append((part, 0))
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.body) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        handler.end_headers()
        body = self.body[start:][: self.cuts.pop(0) if self.cuts else None]
        self.sent.append((part, len(body)))
        handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutting]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    cutting = Cutting()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cutting.answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    cutting.url = f"http://127.0.0.1:{running.server_port}"
    yield cutting
    running.shutdown()
    running.server_close()
    thread.join()


def save(server: Cutting, path: Path) -> None:
    source = Source(server.url, name="server", settings="nvidia_redist_url")
    source.save(f"{server.url}/a", str(path), what="a.tar.xz", sha256=SHA256, size=len(BODY))


def test_a_connection_that_ends_early_costs_what_was_missing(server: Cutting, tmp_path: Path) -> None:
    server.cuts = [4000, 5000]
    save(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert server.sent == [(None, 4000), ("bytes=4000-", 5000), ("bytes=9000-", len(BODY) - 9000)]


def test_the_next_run_goes_on_where_it_was(server: Cutting, tmp_path: Path) -> None:
    source = Source(server.url, name="server", settings="nvidia_redist_url")
    wanted = Wanted("redist/a", f"{server.url}/a", SHA256, len(BODY), source, "archive", "a", "1")
    server.cuts = [1000, 1000, 1000]
    with pytest.raises(StackError, match="connection closed after 1000 of 8240 bytes"):
        Shelf(str(tmp_path)).bring(wanted)
    assert (tmp_path / "redist/.a.part").stat().st_size == 3000
    server.sent.clear()
    Shelf(str(tmp_path)).bring(wanted)
    assert server.sent == [("bytes=3000-", len(BODY) - 3000)]
    assert [path.name for path in (tmp_path / "redist").iterdir()] == ["a"]


@pytest.mark.parametrize("kept", [b"x" * 3000, BODY[:3000]], ids=["another", "the same"])
def test_what_was_kept_is_compared_with_the_rest(server: Cutting, tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "a").write_bytes(kept)
    save(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert len(server.sent) == (2 if kept[:1] == b"x" else 1)


def test_a_server_without_parts_sends_everything_again(server: Cutting, tmp_path: Path) -> None:
    server.cuts, server.knows_parts = [4000], False
    save(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert server.sent == [(None, 4000), ("bytes=4000-", len(BODY))]


def test_a_file_that_became_longer_is_not_the_pinned_one(server: Cutting, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY[:3000])
    server.body = BODY + b"more"
    with pytest.raises(StackError, match="a.tar.xz from .* is not the pinned file: expected 10240 bytes .* found more"):
        save(server, tmp_path / "a")


def test_a_file_that_became_shorter_is_not_the_pinned_one(server: Cutting, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY[:3000])
    server.body = BODY[:2000]
    with pytest.raises(StackError, match="a.tar.xz from .* is not the pinned file: expected 10240 bytes .* found 2000"):
        save(server, tmp_path / "a")
