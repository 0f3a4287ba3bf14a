#!/usr/bin/env python3
"""Serves a folder over http, with faults.

    serve.py DIRECTORY [--fault RULE]... [--faults FILE]     prints its URL, then serves until it is ended

A rule is KIND:PATTERN or KIND=NUMBER:PATTERN, the pattern for the path below the folder (`*` also takes slashes):

    404:*/libcudnn8_8.1.0*      answers with this status (any from 400 to 599)
    drop=4096:*.deb             sends so many bytes, then drops the connection
    slow=1000:*.tar.xz          sends about so many bytes a second
    wait=5:*/InRelease          answers after so many seconds
    tamper:*/Packages           changes one byte in the middle

The first rule that matches holds. FILE has a rule a line and is read anew for each request: faults come and go
while it serves.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

RULE = re.compile(r"(?P<kind>[45]\d\d|drop|slow|wait|tamper)(=(?P<number>\d+))?:(?P<pattern>.+)")
NEED_NUMBER = {"drop", "slow", "wait"}
CHUNKS_A_SECOND = 10


@dataclass(frozen=True)
class Fault:
    kind: str
    number: int
    pattern: str


def parse_fault(rule: str) -> Fault:
    match = RULE.fullmatch(rule.strip())
    if match is None or (match["kind"] in NEED_NUMBER) != (match["number"] is not None):
        raise ValueError(
            f"{rule!r} is no rule such as 404:PATTERN, drop=4096:PATTERN, slow=1000:PATTERN, tamper:PATTERN"
        )
    return Fault(match["kind"], int(match["number"] or 0), match["pattern"])


@dataclass
class Server:
    url: str
    faults: list[str] = field(default_factory=list)  # rules; may be changed while it serves
    faults_file: Path | None = None
    requests: list[str] = field(default_factory=list)  # "404 /path", in the order of the answers

    def fault(self, path: str) -> Fault | None:
        rules = list(self.faults)
        if self.faults_file is not None and self.faults_file.exists():
            rules += self.faults_file.read_text().splitlines()
        faults = (parse_fault(rule) for rule in rules if rule.strip())
        return next((fault for fault in faults if fnmatchcase(path, fault.pattern)), None)


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, state: Server, directory: str) -> None:
        self.state = state
        self.fault: Fault | None = None
        super().__init__(*arguments, directory=directory)

    def send_head(self) -> Any:
        self.fault = self.state.fault(unquote(urlsplit(self.path).path))
        if self.fault is not None and self.fault.kind.isdigit():
            self.send_error(int(self.fault.kind))
            return None
        if self.fault is not None and self.fault.kind == "wait":
            time.sleep(self.fault.number)
        return super().send_head()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        body: bytes = source.read()
        kind, number = (self.fault.kind, self.fault.number) if self.fault else ("", 0)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may give up
            if kind == "slow":
                size = max(1, number // CHUNKS_A_SECOND)
                for start in range(0, len(body), size):
                    outputfile.write(body[start : start + size])
                    time.sleep(1 / CHUNKS_A_SECOND)
            elif kind == "drop":
                outputfile.write(body[:number])
                self.close_connection = True
            elif kind == "tamper":
                middle = len(body) // 2
                outputfile.write(body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :])
            else:
                outputfile.write(body)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        self.state.requests.append(f"{int(code)} {self.path}")

    def log_message(self, *arguments: Any) -> None:
        """Tests read `requests`; nobody reads a log."""


@contextlib.contextmanager
def serve(
    directory: Path,
    faults: Sequence[str] = (),
    *,
    bind: str = "127.0.0.1",
    port: int = 0,
    faults_file: Path | None = None,
) -> Iterator[Server]:
    """Serve the folder, on a free port unless one is named, until the context ends."""
    for rule in faults:
        parse_fault(rule)
    state = Server("", list(faults), faults_file)
    with ThreadingHTTPServer((bind, port), partial(Handler, state=state, directory=str(directory))) as server:
        server.daemon_threads = True
        server.block_on_close = False  # a slow answer that nobody waits for any more
        state.url = f"http://{bind}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], metavar="RULE")
    parser.add_argument("--faults", type=Path, metavar="FILE")
    given = parser.parse_args()
    try:
        with serve(given.directory, given.fault, bind=given.bind, port=given.port, faults_file=given.faults) as server:
            print(server.url, flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
