"""A package index on this machine: what uv asks one for, of a directory of wheels."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(
    wheels: Path, held: threading.Event | None = None, sent: dict[str, list[int]] | None = None, port: int = 0
) -> Iterator[str]:
    """The URL of an index of the wheels that are in the directory at the time of each request.

    While `held` is set nobody is answered. `sent` gets the bytes of each answer with contents, by its path.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            while held is not None and held.is_set():
                time.sleep(0.01)
            matched = re.fullmatch(r"/simple/([a-z0-9-]+)/", self.path)
            name = self.path.rpartition("/")[2]
            if matched:
                page = _page(wheels, matched.group(1))
                self._answer(page, "application/vnd.pypi.simple.v1+json")
            elif self.path.startswith("/files/") and (wheels / name).is_file():
                self._answer((wheels / name).read_bytes(), "application/octet-stream")
            else:
                self.send_error(404)

        def _answer(self, body: bytes | None, kind: str) -> None:
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
                if sent is not None:
                    sent.setdefault(self.path, []).append(len(body))

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_closed(port: int, seconds: float = 10, host: str = "127.0.0.1") -> bool:
    """Whether nothing listens at a port any more, at the latest after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) != 0:
                return True
        time.sleep(0.02)
    return False


def _page(wheels: Path, project: str) -> bytes | None:
    paths = [path for path in sorted(wheels.glob("*.whl")) if path.name.split("-")[0].replace("_", "-") == project]
    if not paths:
        return None
    files = [
        {
            "filename": path.name,
            "url": f"/files/{path.name}",
            "hashes": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
            "size": path.stat().st_size,
            "upload-time": "2026-01-01T00:00:00Z",
        }
        for path in paths
    ]
    page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
    return json.dumps({**page, "versions": sorted({path.name.split("-")[1] for path in paths})}).encode()
