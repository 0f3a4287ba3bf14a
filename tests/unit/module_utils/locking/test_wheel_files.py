"""Lists of files against a server on this machine, which counts what it gives."""

from __future__ import annotations

import gzip
import http.server
import random
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.locking import wheel_files
from ansible.module_utils.tensorflow_stack.locking.wheel_files import WheelFiles

HASH = "a" * 64


class Server(http.server.ThreadingHTTPServer):
    """Gives the files of a directory; by ranges, unless it is told not to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        self.knows_ranges = True
        self.asked: list[str] = []
        self.sent = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        part = self.headers.get("Range", "")
        self.server.asked.append(part)
        path = self.server.directory / self.path.strip("/")
        if not path.is_file():
            return self.send_error(404)
        body = path.read_bytes()
        size, first, last = len(body), 0, len(body) - 1
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", part) if self.server.knows_ranges else None
        if match:
            first, last = (int(match[1]), int(match[2])) if match[1] else (max(0, size - int(match[2])), last)
            body = body[first : last + 1]
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def make_wheel(directory: Path, files: dict[str, bytes], name: str = "one.whl") -> Path:
    with zipfile.ZipFile(directory / name, "w") as archive:
        for path, body in files.items():
            archive.writestr(path, body)
    return directory / name


def read(lister: WheelFiles, url: str, sha256: str = HASH) -> Any:
    return lister({"one": {"url": url, "hashes": {"sha256": sha256}}}).get("one")


def noise(count: int) -> bytes:
    return random.Random(0).randbytes(count)


def test_only_the_end_of_a_wheel_is_fetched_and_only_once(server: Server, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/lib.so": noise(1 << 20), "one/__init__.py": b""})
    lister = WheelFiles(str(tmp_path / "kept"))
    files = read(lister, server.url(wheel.name))
    assert {path: size for path, (size, _) in files.items()} == {"one/lib.so": 1 << 20, "one/__init__.py": 0}
    assert (server.asked, server.sent) == (["bytes=-65536"], 65536)
    assert read(WheelFiles(str(tmp_path / "kept")), server.url(wheel.name)) == files
    assert len(server.asked) == 1
    assert lister.unread == {}


def test_a_long_list_takes_a_second_request(server: Server, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"blob": noise(1 << 20), **{f"one/module_{n:05}.py": b"" for n in range(2000)}})
    assert len(read(WheelFiles(str(tmp_path / "kept")), server.url(wheel.name))) == 2001
    assert len(server.asked) == 2
    assert server.sent < 300_000


def test_metadata_at_the_beginning_of_a_big_wheel(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel_files, "_MOST_GAP_BYTES", 1 << 18)
    monkeypatch.setattr(wheel_files, "_MOST_LIST_BYTES", 1 << 19)
    wheel = make_wheel(tmp_path, {"one-1.dist-info/METADATA": b"Name: one\n" * 900, "one/lib.so": noise(1 << 20)})
    found = {"url": server.url(wheel.name), "hashes": {"sha256": HASH}}
    lister = WheelFiles(str(tmp_path / "kept"))
    assert (lister.metadata(found) or "").count("Name: one") == 900
    assert server.asked == ["bytes=-65536", "bytes=0-65535"]
    assert lister.metadata(found) is not None
    assert len(server.asked) == 2


def test_what_goes_where(tmp_path: Path) -> None:
    names = [
        "one/__init__.py",
        "one-1.0.dist-info/METADATA",
        "one-1.0.data/purelib/two.py",
        "one-1.0.data/platlib/three.so",
        "one-1.0.data/scripts/tool",
        "one-1.0.data/data/share/man/tool.1",
        "empty/",
    ]
    wheel = make_wheel(tmp_path, {name: b"" for name in names})
    assert sorted(read(WheelFiles(str(tmp_path / "kept")), wheel.as_uri())) == [
        "../bin/tool",
        "../share/man/tool.1",
        "one/__init__.py",
        "three.so",
        "two.py",
    ]


def test_a_wheel_in_a_directory(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/__init__.py": b"1"})
    assert set(read(WheelFiles(str(tmp_path / "kept")), wheel.as_uri())) == {"one/__init__.py"}


@pytest.mark.parametrize(("size", "is_read"), [(1000, True), (5 << 20, False)])
def test_a_server_that_gives_whole_files_only(server: Server, tmp_path: Path, size: int, is_read: bool) -> None:
    server.knows_ranges = False
    wheel = make_wheel(tmp_path, {"one/lib.so": noise(size)})
    lister = WheelFiles(str(tmp_path / "kept"))
    assert (read(lister, server.url(wheel.name)) is not None) is is_read
    assert ("does not serve parts of files" in lister.unread.get("one", "")) is not is_read


def test_what_cannot_be_read_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "text.whl").write_text("no zip")
    lister = WheelFiles(str(tmp_path / "kept"))
    assert read(lister, server.url("text.whl")) is None
    assert "is not a readable zip file" in lister.unread["one"]
    assert read(lister, server.url("gone.whl")) is None
    assert "404" in lister.unread["one"]
    assert not (tmp_path / "kept").exists()


def test_a_server_that_is_not_there_is_not_asked_for_each_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel_files, "_THREADS", 1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    lister = WheelFiles(str(tmp_path / "kept"))
    wheels = {str(n): {"url": "http://127.0.0.1:9/one.whl", "hashes": {"sha256": str(n) * 64}} for n in range(3)}
    assert lister(wheels) == {}
    assert "cannot be fetched" in lister.unread["0"]
    assert {lister.unread["1"], lister.unread["2"]} == {"its server could not be reached for another wheel"}


def test_a_spoiled_list_is_read_again(server: Server, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/__init__.py": b"1"})
    kept = tmp_path / "kept" / f"{HASH}.json.gz"
    kept.parent.mkdir()
    packed = gzip.compress(b"{}" * 99)
    for spoiled in (b"", b"\x1f\x8bcut", packed[:-9], packed[:12] + b"\xff\xff" + packed[14:], gzip.compress(b"[]")):
        kept.write_bytes(spoiled)
        assert set(read(WheelFiles(str(kept.parent)), server.url(wheel.name))) == {"one/__init__.py"}


def test_a_list_that_cannot_be_kept_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    wheel = make_wheel(tmp_path, {"one/__init__.py": b"1"})
    assert read(WheelFiles(str(tmp_path / "kept")), wheel.as_uri())
