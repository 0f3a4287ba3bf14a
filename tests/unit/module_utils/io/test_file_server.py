"""The web server of one run: the files that it has and no others, parts of them, and its end."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io import file_server

from tests.index import is_closed

BODY = bytes(range(256)) * 8
FILES = {"wheels/a b.whl": BODY, "simple/a/index.html": b"<html>", "simple/a/index.json": b"{}", "redist/empty": b""}
Answer = tuple[int, bytes, http.client.HTTPMessage]


@pytest.fixture(scope="module")
def run() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, run: subprocess.Popen[bytes]) -> int:
    directory = tmp_path_factory.mktemp("served")
    for path, body in {**FILES, "secret": b"secret"}.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(body)
    return start(directory, run)


def start(directory: Path, run: subprocess.Popen[bytes], port: int = 0) -> int:
    log = str(directory / "log")
    return file_server.start(str(directory), list(FILES), addresses=["127.0.0.1"], port=port, process=run.pid, log=log)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def test_a_file_is_served_whole_and_in_parts(port: int) -> None:
    code, body, headers = ask(port, "/wheels/a%20b.whl")
    assert (code, body) == (200, BODY)
    assert (headers["Content-Length"], headers["Accept-Ranges"]) == (str(len(BODY)), "bytes")
    for text, part in {"5-": BODY[5:], "0-0": BODY[:1], "-7": BODY[-7:], "9-99999": BODY[9:]}.items():
        code, body, answered = ask(port, "/wheels/a%20b.whl", Range=f"bytes={text}")
        assert (code, body) == (206, part)
        assert answered["Content-Range"].endswith(f"/{len(BODY)}")
    same, other = ({"Range": "bytes=5-", "If_Range": tag} for tag in (headers["ETag"], '"another"'))
    assert [ask(port, "/wheels/a%20b.whl", **given)[0] for given in (same, other)] == [206, 200]
    assert ask(port, "/wheels/a%20b.whl", Range=f"bytes={len(BODY)}-")[0] == 416
    code, body, answered = ask(port, "/wheels/a%20b.whl", "HEAD")
    assert (code, body, answered["Content-Length"]) == (200, b"", str(len(BODY)))
    assert ask(port, "/redist/empty")[:2] == (200, b"")


def test_a_page_of_the_index_is_sent_as_it_is_asked_for(port: int) -> None:
    assert ask(port, "/simple/a/")[1] == b"<html>"
    kind = "application/vnd.pypi.simple.v1+json"
    code, body, headers = ask(port, "/simple/a/", Accept=f"{kind}, text/html;q=0.1")
    assert (code, body, headers["Content-Type"]) == (200, b"{}", kind)


@pytest.mark.parametrize(
    "path", ["/secret", "/", "/wheels/", "/wheels/../secret", "/%2e%2e/etc/passwd", "//etc/passwd"]
)
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


def test_a_port_that_is_in_use_is_named(tmp_path: Path, run: subprocess.Popen[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StackError, match="Address already in use"):
        start(tmp_path, run, taken.getsockname()[1])


def test_it_ends_with_the_run_that_it_is_for(tmp_path: Path) -> None:
    run = subprocess.Popen(["sleep", "600"])
    port = start(tmp_path, run)
    assert ask(port, "/secret")[0] == 404
    run.kill()
    run.wait()
    assert is_closed(port)


def test_the_address_is_the_one_from_which_a_host_is_reached() -> None:
    assert file_server.address_towards("127.0.0.1") == "127.0.0.1"
    assert file_server.address_towards("no.such.host.invalid") is None
