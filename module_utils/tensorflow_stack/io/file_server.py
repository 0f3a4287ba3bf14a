"""A web server of some files of one directory, in a process of its own that ends with the process that it is for.

Run as a program it reads what to serve from its standard input, as JSON, and answers with a line of JSON.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.server
import json
import os
import re
import select
import socket
import sys
import threading
import time
import urllib.parse
from typing import IO, Any, Sequence

from ..errors import StackError
from .commands import run
from .reading import open_regular, parse_object
from .writing import open_to_write

# How long a connection on which nobody asks for anything is kept.
_IDLE_SECONDS = 120
# A client of an installer opens dozens of connections, and several nodes begin at the same time.
_BACKLOG = 1024
_STACK_BYTES = 512 << 10
_START_SECONDS = 30.0
_INDEX_AS_JSON = "application/vnd.pypi.simple.v1+json"
_KINDS = {".html": "text/html", ".json": "application/json"}
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from {} import main; main()"


class Files:
    """The files that are served, by their paths below the directory."""

    def __init__(self, directory: str, paths: Sequence[str]) -> None:
        self._directory = directory
        self._paths = frozenset(paths)

    def find(self, target: str, accept: str) -> tuple[str, str] | None:
        """Path on disk and media type of what a request asks for; None for anything that is not among the files."""
        path = urllib.parse.unquote(target.partition("?")[0].partition("#")[0]).lstrip("/")
        kind = None
        if path.endswith("/") or not path:
            as_json = _INDEX_AS_JSON in accept and path + "index.json" in self._paths
            path, kind = path + ("index.json" if as_json else "index.html"), _INDEX_AS_JSON if as_json else None
        if path not in self._paths:
            return None
        kind = kind or _KINDS.get(os.path.splitext(path)[1], "application/octet-stream")
        return os.path.join(self._directory, *path.split("/")), kind


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # fact: RFC 9112, 2022-06-06
    timeout = _IDLE_SECONDS
    server: _Server

    def do_GET(self) -> None:
        found = self.server.files.find(self.path, self.headers.get("Accept") or "")
        try:
            stream = os.fdopen(open_regular(found[0]), "rb") if found else None
        except (OSError, ValueError):
            stream = None
        if found is None or stream is None:
            self.send_error(404)
            return
        with stream:
            self._send(stream, found[1])

    do_HEAD = do_GET

    def _send(self, stream: IO[bytes], kind: str) -> None:
        status = os.fstat(stream.fileno())
        size, tag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        part = parse_range(self.headers.get("Range"), size)
        if self.headers.get("If-Range") not in (None, tag):
            part = None
        if part == (0, 0):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end = part or (0, size)
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Type", kind)
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", email.utils.formatdate(status.st_mtime, usegmt=True))
        self.end_headers()
        sent = 0
        with contextlib.suppress(OSError):  # a client that has gone
            # A part is at most what the file has, and 0 would be all of it.
            if self.command == "GET" and end > start:
                sent = self.connection.sendfile(stream, start, end - start)
        if self.command == "GET" and sent < end - start:
            self.close_connection = True
        self.server.note(self.client_address[0], self.command, self.path, sent)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, address: str, port: int, files: Files, log: IO[bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.files = files
        self._log = log
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        # Not that of HTTPServer, which asks the name server for the name of this machine.
        super(http.server.HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def note(self, client: str, method: str, path: str, sent: int) -> None:
        with contextlib.suppress(OSError):
            self._log.write(f"{time.time():.3f} {client} {method} {path} {sent}\n".encode("utf-8", "replace"))
            self._log.flush()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole file, (0, 0) for a part that it does not have."""
    matched = _RANGE.match(text or "")
    if not matched or matched.group(0) == "bytes=-":
        return None
    first, last = matched.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else (0, 0)
    start, end = int(first), min(int(last) + 1 if last else size, size)
    return (start, end) if start < end else (0, 0)


def main() -> None:
    """Serve until the process that the input names has ended."""
    wish = json.load(sys.stdin)
    threading.stack_size(_STACK_BYTES)
    files = Files(wish["directory"], wish["paths"])
    log = open_to_write(wish["log"])
    try:
        servers = [_Server(address, wish["port"], files, log) for address in wish["addresses"]]
    except OSError as error:
        print(json.dumps({"error": error.strerror or str(error)}), flush=True)
        return
    print(json.dumps({"port": servers[0].server_port}), flush=True)
    # Whoever started this process waits for its end, and is no parent of the server.
    if os.fork():
        return
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    _wait_for_end(wish["process"])
    os._exit(0)


def _wait_for_end(process: int) -> None:
    opened = getattr(os, "pidfd_open", None)
    try:
        if opened is not None:
            select.select([opened(process)], [], [])
            return
    except ProcessLookupError:
        return
    except OSError:
        pass  # a kernel before 5.3
    with contextlib.suppress(OSError):
        while True:
            os.kill(process, 0)
            time.sleep(1)


def start(directory: str, paths: Sequence[str], *, addresses: Sequence[str], port: int, process: int, log: str) -> int:
    """Start a server of these files at each of the addresses; its port. It ends when `process` ends.

    With several addresses the port must not be 0. Raises StackError with what the system says.
    """
    wish = {
        "directory": directory,
        "paths": list(paths),
        "addresses": list(addresses),
        "port": port,
        "process": process,
        "log": log,
    }
    package = __name__.rpartition(".")[0].rpartition(".")[0].rpartition(".")[2]
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = _PROGRAM.format(f"{package}.io.file_server")
    done = run([sys.executable, "-I", "-c", program, above], stdin=json.dumps(wish), timeout=_START_SECONDS, cwd="/")
    said = parse_object(done.lines[-1]) if done.code == 0 and done.lines else {"error": done.output.strip()}
    if "port" not in said:
        raise StackError(said["error"] or "the server did not start")
    return int(said["port"])


def address_towards(host: str) -> str | None:
    """The address of this machine from which it reaches a host; None if it knows no way. Nothing is sent."""
    try:
        rows = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    for family, kind, protocol, _, address in rows:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    return None
