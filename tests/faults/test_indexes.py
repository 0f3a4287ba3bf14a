"""An index that is broken, slow or hostile: by the toolkit's own client and by uv, one message and nothing left."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, venv
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io import downloads
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.io.uv import ensure_uv
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests import index
from tests.wheels import make_lock, make_tensorflow

# Of servers that are stopped while they answer.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]
WHEEL = "uv-1-py3-none-any.whl"
JSON = "application/vnd.pypi.simple.v1+json"
PAGE = json.dumps({"files": [{"filename": WHEEL, "url": f"/files/{WHEEL}"}]}).encode()
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def send(body: bytes, code: int = 200, kind: str = JSON, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        given = {"Content_Type": kind, "Content_Length": str(len(body)), **headers}
        for name, value in given.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    while True:
        handler.wfile.write(b"<a href='x'>" + b"x" * (1 << 20))


def trickling(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Never silent for long enough that a time for each answer would notice."""
    handler.send_response(200)
    handler.send_header("Content-Type", JSON)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.05)


def silent(handler: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(5)


@contextmanager
def serve(page: Answer, file: Answer | None = None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # whoever asked had enough
                (file or page if self.path.startswith("/files/") else page)(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_ATTEMPTS", 1)
    monkeypatch.setattr(downloads, "_MOST_SECONDS", 1.0)
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "2")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


REFUSED: dict[str, tuple[Answer, str]] = {
    "garbage": (send(b"\x00\x01garbage"), "sent a page that is not JSON"),
    "empty": (send(b""), "sent a page that is not JSON"),
    "not UTF-8": (send(b'{"files": "\xff"}'), "sent a page that is not JSON"),
    "deep": (send(b'{"files":' + b"[" * 100_000), "sent a page that is not JSON"),
    "a list": (send(b"[]"), "not an object"),
    "no files": (send(b"{}"), "lists no files"),
    "files of numbers": (send(b'{"files": [1, null, {}]}'), "has no uv-1"),
    "a page of a portal": (send(b"<html>Please log in</html>", kind="text/html"), "has no uv-1"),
    "unknown charset": (send(PAGE[:-4], kind=f"{JSON}; charset=²"), "sent a page that is not JSON"),
    "address that is none": (send(PAGE.replace(b"/files/", b"http://[bad/")), "has no uv-1"),
    "script": (send(PAGE.replace(b"/files/", b"javascript:alert()/")), "cannot be fetched"),
    "data": (send(PAGE.replace(b"/files/", b"data:text/plain,")), "cannot be fetched|not the pinned file|has no uv-1"),
    "length that is none": (send(PAGE, Content_Length="abc"), "cannot be fetched|not the pinned file"),
    "length below 0": (send(PAGE, Content_Length="-5"), "cannot be fetched|not the pinned file"),
    "cut": (send(PAGE, Content_Length="9999"), "connection closed|IncompleteRead|bytes read"),
    "404": (send(b"", 404), "404"),
    "429": (send(b"", 429), "429"),
    "503": (send(b"", 503), "503"),
    "redirect to itself": (send(b"", 302, Location="/simple/uv/"), "redirect"),
    "redirect to a file": (send(b"", 302, Location="file:///etc/passwd"), "cannot be fetched"),
    "redirect to nonsense": (send(b"", 302, Location="http://[bad"), "cannot be fetched"),
    "endless": (endless, "sent more than|too slow"),
    "trickling": (trickling, "which is too slow to wait for"),
    "silent": (silent, "timed out.*or UV_HTTP_TIMEOUT to more than 2 seconds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_of_the_index_is_a_message_in_time(name: str, tmp_path: Path) -> None:
    answer, said = REFUSED[name]
    record = {"version": "1", "filename": WHEEL, "sha256": "0" * 64, "bytes": 10, "program_sha256": "0" * 64}
    started = time.monotonic()
    with serve(answer) as url, pytest.raises(StackError, match=f"(?s){said}") as caught:
        ensure_uv(directory=str(tmp_path), record=record, index_url=url)
    assert time.monotonic() - started < 15
    assert url in caught.value.message or "127.0.0.1" in caught.value.message
    assert "tensorflow_index_url" in caught.value.message or "sha256" in caught.value.message
    assert list((tmp_path / "uv-1").iterdir()) == []


@pytest.mark.parametrize(("file", "said"), [(send(b"wrong"), "5 bytes with sha256"), (endless, "found more|too slow")])
def test_a_file_that_is_not_the_pinned_one_is_not_used(file: Answer, said: str, tmp_path: Path) -> None:
    with serve(send(PAGE), file) as url:
        source = Source(url, name="package index", settings="x")
        address = f"{url.rpartition('/')[0]}/files/{WHEEL}"
        with pytest.raises(StackError, match=said):
            source.save(address, str(tmp_path / "x"), what=WHEEL, sha256="0" * 64, size=10)


def test_a_file_of_unknown_size_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_MOST_BYTES", 3 << 20)
    with serve(endless) as url:
        source = Source(url, name="package index", settings="x")
        with pytest.raises(StackError, match="is not the pinned file|too slow"):
            source.save(f"{url}/x", str(tmp_path / "x"), what="x", sha256="0" * 64, size=None)
    assert (tmp_path / "x").stat().st_size <= (3 << 20) + 1


def spec_of(root: Path, *distributions: Any) -> EnvironmentSpec:
    lock = make_lock(*distributions, release="2.8.0", python=MINOR)
    return EnvironmentSpec(NAME, str(root), "2.8.0", "cpu", os.path.realpath(sys.executable), lock)


def apply(spec: EnvironmentSpec, uv: str, url: str) -> str:
    installer = installing.Installer(uv=uv, index_url=url, cache=os.path.join(spec.root, ".cache", "uv"))
    return venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0).action


def test_uv_installs_what_is_locked_although_the_index_has_a_higher_version(tmp_path: Path, uv: str) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    locked = make_tensorflow(wheels, "2.8.0")
    make_tensorflow(wheels, "99.0", "raise SystemExit('poisoned')")
    with index.serve(wheels) as url:
        assert apply(spec_of(tmp_path / "root", locked), uv, url) == "build"
    assert list((tmp_path / "root" / NAME / "lib").glob("*/site-packages/tensorflow-2.8.0.dist-info"))


@pytest.mark.parametrize(
    ("page", "file", "said"),
    [
        pytest.param(send(b"", 404), None, "not found|404|cannot be fetched|no version", id="404"),
        pytest.param(send(b"", 429), None, "429|cannot be fetched", id="429"),
        pytest.param(send(b"", 503), None, "503|cannot be fetched", id="503"),
        pytest.param(send(b"\x00garbage"), None, "tensorflow", id="garbage"),
        pytest.param(silent, None, "timed out|timeout|operation", id="silent"),
        pytest.param(None, send(b"wrong", kind="x/y"), "hash|unzip|zip|Failed", id="wrong file"),
        pytest.param(
            None, send(b"PK", kind="x/y", Content_Length="9999"), "fetch|body|Failed|connection", id="cut file"
        ),
    ],
)
def test_what_uv_cannot_install_leaves_nothing(
    page: Answer | None, file: Answer | None, said: str, tmp_path: Path, uv: str
) -> None:
    wheels, root = tmp_path / "wheels", tmp_path / "root"
    wheels.mkdir()
    locked = make_tensorflow(wheels, "2.8.0")
    wheel = next(wheels.glob("*.whl"))
    row = {"filename": wheel.name, "url": f"/files/{wheel.name}", "hashes": {"sha256": locked.hashes[0]}}
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == locked.hashes[0]
    good = send(json.dumps({"meta": {"api-version": "1.0"}, "name": "tensorflow", "files": [row]}).encode())
    started = time.monotonic()
    with serve(page or good, file) as url, pytest.raises(StackError, match=f"(?is){said}") as caught:
        apply(spec_of(root, locked), uv, url)
    assert time.monotonic() - started < 60
    assert "Traceback" not in caught.value.message
    assert not (root / NAME).exists()
    assert [path.name for path in (root / ".builds").iterdir()] == [f"{NAME}.log"]
    with index.serve(wheels) as url:
        assert apply(spec_of(root, locked), uv, url) == "build"
