from __future__ import annotations

import base64
import email.message
import hashlib
import io
import json
import os
import stat
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io import downloads, uv

INDEX = "https://index.example/simple"
PAGE = f"{INDEX}/uv/"
FILENAME = "uv-9.8.7-py3-none-manylinux_2_17_x86_64.whl"
FILE_URL = f"https://files.example/ab/{FILENAME}"
PROGRAM = b"#!/bin/sh\necho uv 9.8.7\n"
JSON = "application/vnd.pypi.simple.v1+json"


def make_wheel(*scripts: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("uv/__init__.py", "")
        for script in scripts:
            archive.writestr(f"uv-9.8.7.data/scripts/{script}", PROGRAM)
    return buffer.getvalue()


WHEEL = make_wheel("uv", "uvx")


def record_of(wheel: bytes = WHEEL) -> dict[str, Any]:
    digest = hashlib.sha256(wheel).hexdigest()
    program = hashlib.sha256(PROGRAM).hexdigest()
    return {
        "version": "9.8.7",
        "filename": FILENAME,
        "sha256": digest,
        "bytes": len(wheel),
        "program_sha256": program,
    }


class Response(io.BytesIO):
    def __init__(self, url: str, body: bytes, content_type: str, length: int | None = None) -> None:
        super().__init__(body)
        self._url = url
        self.headers = email.message.Message()
        self.headers["Content-Type"] = content_type
        self.headers["Content-Length"] = str(len(body) if length is None else length)

    def geturl(self) -> str:
        return self._url


class Opener(urllib.request.OpenerDirector):
    """Answers what it was told to, one answer a request, and fails on any other request."""

    def __init__(self, **unused: Any) -> None:
        super().__init__()
        self.answers: dict[str, list[Callable[[], Response]]] = {}
        self.requests: list[urllib.request.Request] = []

    def will(self, url: str, body: bytes | Exception, content_type: str = "x/y", **response: Any) -> Opener:
        def answer() -> Response:
            if isinstance(body, Exception):
                raise body
            return Response(response.pop("moved_to", url), body, content_type, **response)

        self.answers.setdefault(url, []).append(answer)
        return self

    def open(self, fullurl: Any, data: Any = None, timeout: Any = None) -> Any:
        assert timeout
        assert self.answers.get(fullurl.full_url), f"unexpected request for {fullurl.full_url}"
        self.requests.append(fullurl)
        return self.answers[fullurl.full_url].pop(0)()


def json_page(*urls: str) -> bytes:
    return json.dumps({"files": [{"filename": "ignored", "url": url} for url in urls]}).encode()


def refused(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(PAGE, code, "said so", email.message.Message(), None)


def ensure(directory: Path, opener: Opener | None, index_url: str | None = INDEX, **changes: Any) -> str:
    return uv.ensure_uv(directory=str(directory), record={**record_of(), **changes}, index_url=index_url, opener=opener)


@pytest.fixture(autouse=True)
def no_waiting_and_no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    monkeypatch.delenv(uv.INDEX_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def assert_unpacked(path: str, directory: Path) -> None:
    assert path == str(directory / "uv-9.8.7" / "uv")
    assert Path(path).read_bytes() == PROGRAM
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    assert sorted(os.listdir(directory / "uv-9.8.7")) == ["uv"]


@pytest.mark.parametrize(
    ("page", "content_type"),
    [
        pytest.param(json_page("https://files.example/other.whl", FILE_URL), JSON, id="json"),
        pytest.param(json_page(f"../../ab/{FILENAME}"), JSON, id="json, relative"),
        pytest.param(f'<a href="{FILE_URL}#sha256=0">x</a>'.encode(), "text/html", id="html"),
        pytest.param(f'<A class=x HREF="/ab/{FILENAME}">x</A>'.encode(), "text/html; charset=utf-8", id="relative"),
    ],
)
def test_fetches_from_either_form_of_an_index(tmp_path: Path, page: bytes, content_type: str) -> None:
    opener = Opener().will(PAGE, page, content_type, moved_to="https://files.example/simple/uv/")
    opener.will(FILE_URL, WHEEL)
    assert_unpacked(ensure(tmp_path, opener), tmp_path)


def test_what_is_there_is_used_without_network(tmp_path: Path) -> None:
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    first = ensure(tmp_path, opener)
    assert ensure(tmp_path, Opener()) == first


@pytest.mark.parametrize("damage", ["content", "size", "mode", "link", "no uv"])
def test_damaged_one_is_fetched_again(tmp_path: Path, damage: str) -> None:
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    path = Path(ensure(tmp_path, opener))
    {
        "content": lambda: path.write_bytes(PROGRAM.swapcase()),
        "size": lambda: path.write_bytes(PROGRAM[:-1]),
        "mode": lambda: path.chmod(0o644),
        "link": lambda: path.symlink_to(path.rename(tmp_path / "elsewhere")),
        "no uv": path.unlink,
    }[damage]()
    opener.will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    assert_unpacked(ensure(tmp_path, opener), tmp_path)
    assert len(opener.requests) == 4


def test_one_that_was_replaced_together_with_what_attests_it_is_fetched_again(tmp_path: Path) -> None:
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    path = Path(ensure(tmp_path, opener))
    evil = PROGRAM.replace(b"echo", b"evil")
    path.write_bytes(evil)
    receipt = {"wheel_sha256": record_of()["sha256"], "bytes": len(evil), "sha256": hashlib.sha256(evil).hexdigest()}
    path.with_name("uv.json").write_text(json.dumps(receipt))
    opener.will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    assert Path(ensure(tmp_path, opener)).read_bytes() == PROGRAM


def test_a_row_whose_program_is_another_is_refused(tmp_path: Path) -> None:
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    with pytest.raises(StackError, match="is not the pinned one: the row of uv.yml does not fit"):
        ensure(tmp_path, opener, program_sha256="0" * 64)
    assert not (tmp_path / "uv-9.8.7" / "uv").exists()


def test_what_is_fetched_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    for _ in range(2):
        uv.ensure_uv(directory=str(tmp_path), record=record_of(), index_url=INDEX, opener=opener, report=said.append)
    assert said == [f"Fetching uv 9.8.7 (0.0 MiB) from {INDEX}"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param(WHEEL.replace(b"echo", b"evil"), f"found {len(WHEEL)} bytes with sha256", id="other content"),
        pytest.param(WHEEL + b"x", "found more", id="longer"),
        pytest.param(WHEEL[:-1], f"found {len(WHEEL) - 1} bytes", id="shorter"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, body: bytes, found: str) -> None:
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, body)
    with pytest.raises(StackError) as caught:
        ensure(tmp_path, opener)
    assert f"expected {len(WHEEL)} bytes with sha256 {record_of()['sha256']}, {found}" in caught.value.message
    assert list(tmp_path.rglob("*")) == [tmp_path / "uv-9.8.7"]


@pytest.mark.parametrize("scripts", [(), ("uvx",)])
def test_wheel_without_uv_is_refused(tmp_path: Path, scripts: tuple[str, ...]) -> None:
    wheel = make_wheel(*scripts)
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, wheel)
    with pytest.raises(StackError, match="holds 0 files scripts/uv, not one"):
        ensure(tmp_path, opener, **record_of(wheel))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"body": refused(503)}, id="server error"),
        pytest.param({"body": urllib.error.URLError("no route")}, id="no connection"),
        pytest.param({"body": TimeoutError("timed out")}, id="timeout"),
        pytest.param({"body": WHEEL[:100], "length": len(WHEEL)}, id="closed early"),
    ],
)
def test_passing_trouble_is_tried_again(tmp_path: Path, trouble: dict[str, Any]) -> None:
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON)
    opener.will(FILE_URL, **trouble).will(FILE_URL, **trouble).will(FILE_URL, WHEEL)
    assert_unpacked(ensure(tmp_path, opener), tmp_path)


@pytest.mark.parametrize(
    ("error", "requests"),
    [(urllib.error.URLError("Name or service not known"), 3), (refused(503), 3), (refused(403), 1)],
)
def test_unreachable_index_says_its_url_and_what_to_set(tmp_path: Path, error: Exception, requests: int) -> None:
    opener = Opener()
    for _ in range(requests):
        opener.will(PAGE, error)
    with pytest.raises(StackError) as caught:
        ensure(tmp_path, opener)
    assert len(opener.requests) == requests
    for part in (INDEX, str(error), "tensorflow_index_url", "UV_DEFAULT_INDEX", "HTTPS_PROXY"):
        assert part in caught.value.message


def test_index_without_the_file_says_so(tmp_path: Path) -> None:
    opener = Opener().will(PAGE, json_page("https://files.example/uv-1.0.whl"), JSON)
    with pytest.raises(
        StackError, match=rf"{INDEX} has no {FILENAME} \(1 files of uv seen\).*Set tensorflow_index_url"
    ):
        ensure(tmp_path, opener)


@pytest.mark.parametrize("index_url", ["index.example/simple", "ftp://index.example/simple"])
def test_index_that_is_no_url_is_refused(tmp_path: Path, index_url: str) -> None:
    with pytest.raises(StackError, match=f"index '{index_url}' is no http, https or file URL. Set tensorflow_"):
        ensure(tmp_path, Opener(), index_url)


def test_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"uv cannot be written to .*/file/uv-9.8.7: Not a directory"):
        ensure(tmp_path / "file", Opener())


@pytest.mark.parametrize("given_by", ["argument", "environment", "default"])
def test_index_is_the_callers_else_the_environments_else_the_public_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    expected = {"argument": INDEX, "environment": "https://env.example/s", "default": uv.DEFAULT_INDEX}[given_by]
    if given_by != "default":
        monkeypatch.setenv("UV_DEFAULT_INDEX", "https://env.example/s/")
    opener = Opener().will(f"{expected}/uv/", json_page(FILE_URL), JSON).will(FILE_URL, WHEEL)
    assert_unpacked(ensure(tmp_path, opener, INDEX if given_by == "argument" else None), tmp_path)


def test_credentials_in_a_tasks_argument_are_refused_and_not_shown(tmp_path: Path) -> None:
    index_url = INDEX.replace("://", "://me:s%40crt@")
    for call in (lambda: ensure(tmp_path, Opener(), index_url), lambda: uv.uv_environment(index_url=index_url)):
        with pytest.raises(StackError, match=r"contains credentials.*Put them into ~/\.netrc") as caught:
            call()
        assert "crt" not in caught.value.message + str(caught.value.details)


@pytest.mark.parametrize("source", ["variable", "netrc"])
def test_credentials_go_to_the_index_alone_and_into_no_message(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_url = INDEX
    if source == "variable":
        monkeypatch.setenv("UV_DEFAULT_INDEX", INDEX.replace("://", "://me:s%40crt@"))
        index_url = None
    else:
        (tmp_path / "home").mkdir()
        netrc = tmp_path / "home" / ".netrc"
        netrc.write_text("machine index.example login me password s@crt\n")
        netrc.chmod(0o600)
    opener = Opener().will(PAGE, json_page(FILE_URL), JSON).will(FILE_URL, refused(403))
    with pytest.raises(StackError) as caught:
        ensure(tmp_path, opener, index_url)
    page, file = opener.requests
    assert page.unredirected_hdrs["Authorization"] == "Basic " + base64.b64encode(b"me:s@crt").decode()
    assert not file.has_header("Authorization")
    assert "s@crt" not in caught.value.message
    assert "s%40crt" not in caught.value.message + str(caught.value.details)


@pytest.mark.parametrize("below", ["", "uv"])
def test_fetches_from_a_directory_of_wheels(tmp_path: Path, below: str) -> None:
    wheels = tmp_path / "my wheels"
    (wheels / below).mkdir(parents=True)
    (wheels / below / FILENAME).write_bytes(WHEEL)
    assert_unpacked(ensure(tmp_path / "tools", None, wheels.as_uri()), tmp_path / "tools")


def test_fetches_from_an_index_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "simple" / "uv").mkdir(parents=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / FILENAME).write_bytes(WHEEL)
    (tmp_path / "simple" / "uv" / "index.html").write_text(f'<a href="../../files/{FILENAME}">x</a>')
    assert_unpacked(ensure(tmp_path / "tools", None, (tmp_path / "simple").as_uri()), tmp_path / "tools")


def test_directory_without_the_wheel_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=f"{tmp_path.as_uri()} answers .*tensorflow_index_url"):
        ensure(tmp_path / "tools", None, tmp_path.as_uri())


def test_environment_keeps_the_way_to_the_index_and_drops_other_settings() -> None:
    kept = {"PATH": "/bin", "https_proxy": "http://proxy", "SSL_CERT_FILE": "/ca", "UV_HTTP_TIMEOUT": "9"}
    dropped = {
        "CONDA_PREFIX": "/conda",
        "LC_ALL": "de_DE",
        "PYTHONPATH": "/lib",
        "UV_CACHE_DIR": "/elsewhere",
        "UV_CONFIG_FILE": "/etc/uv.toml",
        "UV_FIND_LINKS": "/wheels",
        "UV_LINK_MODE": "symlink",
        "VIRTUAL_ENV": "/venv",
    }
    assert uv.uv_environment(cache="/cache", index_url=INDEX, base={**kept, **dropped}) == {
        **kept,
        "LC_ALL": "C.UTF-8",
        "UV_CACHE_DIR": "/cache",
        "UV_DEFAULT_INDEX": INDEX,
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_SYSTEM_CERTS": "1",
    }


def test_environment_without_wishes_leaves_index_and_cache_to_the_caller() -> None:
    environment = uv.uv_environment(base={"UV_DEFAULT_INDEX": "https://env.example/s"})
    assert environment["UV_DEFAULT_INDEX"] == "https://env.example/s"
    assert "UV_CACHE_DIR" not in environment


def test_environment_names_a_directory_of_wheels_as_links(tmp_path: Path) -> None:
    (tmp_path / "x-1-py3-none-any.whl").write_bytes(b"")
    environment = uv.uv_environment(index_url=tmp_path.as_uri(), base={})
    assert environment["UV_FIND_LINKS"] == tmp_path.as_uri()
    assert environment["UV_OFFLINE"] == "1"
    assert "UV_DEFAULT_INDEX" not in environment


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        (
            "error: Request failed after 3 retries in 4.5s cause: "
            "Failed to fetch: http://me:secret@127.0.0.1:9/simple/six/ cause: error sending request "
            "for url (http://127.0.0.1:9/simple/six/) cause: client error (Connect) "
            "cause: tcp connect error cause: Connection refused (os error 111)",
            "http://127.0.0.1:9/simple/six/ cannot be fetched (Connection refused (os error 111)). Set "
            "tensorflow_index_url (or UV_DEFAULT_INDEX in the environment) to an index that this machine can reach, or "
            "HTTPS_PROXY to the proxy.",
        ),
        ("error: No solution found when resolving dependencies", None),
        ("", None),
    ],
    ids=["refused", "another", "nothing"],
)
def test_what_could_not_be_fetched_is_said_with_what_to_set(said: str, explained: str | None) -> None:
    assert uv.explain_fetch(said) == explained
