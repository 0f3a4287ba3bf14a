"""Credentials go to the server for which they were given, and into nothing that others read (docs/security.md)."""

from __future__ import annotations

import base64
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack import variables
from ansible.module_utils.tensorflow_stack.environment import interpreter
from ansible.module_utils.tensorflow_stack.errors import BuildError, StackError
from ansible.module_utils.tensorflow_stack.io import uv as pinned
from ansible.module_utils.tensorflow_stack.io.downloads import Source, has_credentials, origin_of
from ansible.module_utils.tensorflow_stack.records.distributions import read_origin
from ansible.module_utils.tensorflow_stack.requirements.parse import read_requirements

SECRET = "s3cr3t"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


class Server(http.server.ThreadingHTTPServer):
    """Answers with what `pages` has, or redirects; remembers what each request was authorised with."""

    daemon_threads = True

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.seen: dict[str, str | None] = {}
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen[self.path] = self.headers.get("Authorization")
        target = self.server.moved.get(self.path)
        body = self.server.pages.get(self.path, b"")
        self.send_response(302 if target else 200 if self.path in self.server.pages else 404)
        if target:
            self.send_header("Location", target)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers of one host, and nobody's ~/.netrc."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    servers = Server(), Server()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


def source_of(server: Server) -> Source:
    return Source(f"http://me:{SECRET}@{server.place}/simple", name="package index", settings="x")


def test_a_file_on_another_port_is_fetched_without_them(two: tuple[Server, Server]) -> None:
    index, other = two
    index.pages["/simple/uv/"] = other.pages["/file"] = b"x"
    source = source_of(index)
    source.get(f"http://{index.place}/simple/uv/", what="uv", limit=9)
    source.get(f"http://{other.place}/file", what="uv", limit=9)
    assert (index.seen, other.seen) == ({"/simple/uv/": BASIC}, {"/file": None})


def test_those_of_netrc_are_for_the_server_that_was_named(two: tuple[Server, Server], tmp_path: Path) -> None:
    index, other = two
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    netrc.chmod(0o600)
    index.pages["/simple/uv/"] = other.pages["/file"] = b"x"
    source = Source(f"http://{index.place}/simple", name="package index", settings="x")
    source.get(f"http://{index.place}/simple/uv/", what="uv", limit=9)
    source.get(f"http://{other.place}/file", what="uv", limit=9)
    assert (index.seen, other.seen) == ({"/simple/uv/": BASIC}, {"/file": None})


def test_a_redirect_takes_them_to_the_same_server_alone(two: tuple[Server, Server]) -> None:
    index, other = two
    index.moved = {"/a": "/b", "/b": f"http://{other.place}/c"}
    other.moved = {"/c": f"http://{index.place}/d"}
    index.pages["/d"] = b"x"
    source_of(index).get(f"http://{index.place}/a", what="uv", limit=9)
    assert index.seen == {"/a": BASIC, "/b": BASIC, "/d": None}
    assert other.seen == {"/c": None}


@pytest.mark.parametrize(
    "url", ["https://a.example/x", "http://a.example:443/x", "http://b.example/x", "ftp://a.example/x", "file:///x"]
)
def test_scheme_host_and_port_are_one_origin(url: str) -> None:
    assert origin_of("http://A.example:80/y") == origin_of("http://a.example/x") != origin_of(url)


def test_uv_sends_them_to_no_other_port(two: tuple[Server, Server], uv: str, tmp_path: Path) -> None:
    index, other = two
    index.pages["/simple/six/"] = f'<a href="http://{other.place}/six-1.0-py3-none-any.whl">six</a>'.encode()
    lines = tmp_path / "in.txt"
    lines.write_text("six==1.0\n")
    environment = pinned.uv_environment(cache=str(tmp_path / "cache"))
    environment[pinned.INDEX_VARIABLE] = f"http://me:{SECRET}@{index.place}/simple"
    command = [uv, "pip", "compile", str(lines), "--python-version", "3.10"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert index.seen["/simple/six/"] == BASIC
    assert set(other.seen.values()) == {None}
    assert SECRET not in done.stdout + done.stderr
    assert [path for path in (tmp_path / "cache").rglob("*") if SECRET in path.name] == []


# --- Messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        f"six @ https://me:{SECRET}@host.example/six.whl",
        f"https://me:{SECRET}@host.example/six.whl",
        f"-e git+https://{SECRET}@host.example/six",
        f"git+https://me:p@{SECRET}@host.example/six",
        f"--index-url https://me:{SECRET}@host.example/simple",
        f"--find-links=https://me:{SECRET}@host.example/simple",
        f"-r https://me:{SECRET}@host.example/r.txt",
        f"six==1.0 --config https://me:{SECRET}@host.example",
        f"six; https://me:{SECRET}@host.example",
    ],
)
def test_a_refused_line_is_shown_without_them(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"tensorflow==2.8.0\n{line}\n{line}x\n")
    with pytest.raises(StackError) as caught:
        read_requirements(str(path))
    assert SECRET not in f"{caught.value} {caught.value.message} {caught.value.details}"


def test_what_a_program_said_is_returned_without_them() -> None:
    said = [f"fetching https://me:{SECRET}@host.example/x", f"ok https://me:p@{SECRET}@host.example"]
    error = BuildError(
        said[0], cmd=["uv", "--mirror", f"https://{SECRET}@host.example"], stderr="\n".join(said), rows=[{"a": said}]
    )
    assert SECRET not in f"{error} {error.message} {error.details}"
    assert "https://host.example/x" in error.message


def test_where_an_addition_came_from_is_said_without_them(tmp_path: Path) -> None:
    (tmp_path / "direct_url.json").write_text(
        f'{{"url": "https://me:{SECRET}@host.example/six", "vcs_info": {{"vcs": "git"}}}}'
    )
    assert read_origin(str(tmp_path), []) == "git+https://host.example/six"


# --- Variables and the list of processes --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorflow_index_url", "python_mirror", "python_downloads", "nvidia_redist_url"])
@pytest.mark.parametrize("address", [f"https://me:{SECRET}@host.example/x", f"https://host.example/x?token={SECRET}"])
def test_a_variable_that_contains_them_is_refused(name: str, address: str) -> None:
    (found,) = variables.wrong_values({name: address}, {name: {"type": "str"}})
    assert found.startswith(f"{name} contains credentials") and SECRET not in found
    assert has_credentials(address)


def test_an_address_is_no_argument_of_a_program(tmp_path: Path) -> None:
    program = tmp_path / "uv"
    program.write_text('#!/bin/sh\necho "$*"; env | grep ^UV_PYTHON_; exit 1\n')
    program.chmod(0o755)
    mirror = "https://mirror.example/x"
    with pytest.raises(BuildError) as caught:
        interpreter.fetch(
            "/nowhere", "3.10", root=str(tmp_path), uv=str(program), mirror=mirror, downloads=None,
            log=str(tmp_path / "log"),
        )  # fmt: skip
    said = (tmp_path / "log").read_text().splitlines()
    assert "example" not in said[1] + str(caught.value.details["cmd"])
    assert f"UV_PYTHON_INSTALL_MIRROR={mirror}" in said


def test_make_prints_none(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "scripts/run_playbook.py",
        "plan",
        f"tensorflow_index_url=https://me:{SECRET}@h.example/",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "tensorflow_index_url contains credentials" in done.stderr.replace("\n  ", " ")
    assert SECRET not in done.stdout + done.stderr
