"""Fetch files by http, https or file URL: retried, bounded, and nothing but what was pinned."""

from __future__ import annotations

import base64
import contextlib
import email.message
import hashlib
import http.client
import netrc
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Callable, Iterator, TypeVar

from ..errors import StackError
from .reading import open_regular
from .writing import open_to_write

_ATTEMPTS = 3
# For one answer of a server to what it was sent; uv has the same variable.
_TIMEOUT = 30.0
_TIMEOUT_VARIABLE = "UV_HTTP_TIMEOUT"
# For all of a file: so many seconds, and as many more as its bytes take at the slowest speed.
_MOST_SECONDS = 300.0
_SLOWEST = 16 << 10
_BLOCK = 1 << 20
_MOST_OF_A_MESSAGE = 300
_NO_SUCH_PART = 416
# Of a file whose size nobody wrote down.
_MOST_BYTES = 16 << 30

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    body: bytes
    headers: email.message.Message
    url: str


class Source:
    """A server or directory by its base URL; `name` is what messages call it, `settings` what sets it."""

    def __init__(
        self, url: str, *, name: str, settings: str, opener: urllib.request.OpenerDirector | None = None
    ) -> None:
        self.parts = urllib.parse.urlsplit(as_url(url).rstrip("/"))
        if self.parts.scheme not in ("http", "https", "file"):
            raise StackError(f"The {name} {url!r} is no http, https or file URL. Set {settings}.")
        # Credentials are not for messages, and urllib takes none from a URL.
        self.shown = urllib.parse.urlunsplit(self.parts._replace(netloc=self.parts.netloc.rpartition("@")[2]))
        self._name = name
        self._settings = settings
        self._opener = opener or urllib.request.build_opener(_Redirects())

    def unusable(self, what: str, found: str) -> StackError:
        return StackError(
            f"{what} cannot be used: the {self._name} {self.shown} {found}. Set {self._settings} to another one.",
            url=self.shown,
        )

    def get(self, url: str, *, what: str, accept: str = "*/*", limit: int) -> Answer:
        """What is at `url`. Raises StackError naming `what` if it is not to be had, or has more than `limit` bytes."""

        def read(response: Any) -> Answer:
            body = b"".join(self._blocks(response, what, limit + 1))
            if len(body) > limit:
                raise self.unusable(what, f"sent more than {limit >> 10:,} KiB")
            _check_length(response, len(body), limit)
            return Answer(body, response.headers, response.geturl())

        return self._open(url, read, what=what, accept=accept)

    def find(self, url: str, *, what: str, limit: int = _MOST_BYTES) -> Answer | None:
        """The same, None if the server or directory does not have it."""
        try:
            return self.get(url, what=what, limit=limit)
        except StackError as error:
            cause = error.__cause__
            is_absent = self.directory is not None or getattr(cause, "code", None) in (403, 404)
            if not is_absent:
                raise
            return None

    @property
    def directory(self) -> str | None:
        """Of a file URL."""
        return urllib.request.url2pathname(self.parts.path) if self.parts.scheme == "file" else None

    def get_part(self, url: str, *, what: str, part: str, limit: int) -> Answer:
        """The bytes `part` (`bytes=-1000`) of what is at `url`, or all of it where the server gives no parts.

        Raises StackError for more than `limit` bytes.
        """

        def read(response: Any) -> Answer:
            body = b"".join(self._blocks(response, what, limit + 1))
            _check_length(response, len(body), limit + 1)
            if len(body) > limit:
                raise StackError(
                    f"{what} cannot be fetched: the {self._name} {self.shown} does not serve parts of files."
                )
            return Answer(body, response.headers, response.geturl())

        return self._open(url, read, what=what, part=part)

    def state_of(self, url: str, *, what: str) -> dict[str, Any]:
        """By what a file at `url` is known again, without its contents: size, and what the server says of its state."""

        def read(response: Any) -> dict[str, Any]:
            headers = response.headers
            size = str(headers.get("Content-Length") or "").strip()
            marks = [str(headers.get(name) or "") for name in ("ETag", "Last-Modified")]
            return {"bytes": int(size) if re.fullmatch("[0-9]{1,18}", size) else None, "marks": marks}

        return self._open(url, read, what=what, method="HEAD")

    def save(self, url: str, path: str, *, what: str, sha256: str | None, size: int | None) -> None:
        """Write the file at `url` to `path`; raises StackError unless its sha256 and size, each if known, fit.

        If both are known, it goes on with what a fetch that was cut left at `path`.
        """
        self._receive(url, path, what=what, sha256=sha256, size=size)

    def compare(self, url: str, *, what: str, sha256: str, size: int) -> None:
        """The same, and keep nothing of it."""
        self._receive(url, None, what=what, sha256=sha256, size=size)

    def _receive(self, url: str, path: str | None, *, what: str, sha256: str | None, size: int | None) -> None:
        limit = (_MOST_BYTES if size is None else size) + 1
        kept = _Kept(path, size if sha256 else None)

        def write(response: Any) -> tuple[int, str]:
            start = kept.start_of(response)
            digest = hashlib.sha256()
            with open_to_write(path, keep=start) if path else contextlib.nullcontext() as stream:
                if path and start:
                    for block in _blocks_of(path, start):
                        digest.update(block)
                count = start
                for block in self._blocks(response, what, limit - start):
                    count += len(block)
                    digest.update(block)
                    if path:
                        _write(stream, block, path)
            _check_length(response, count - start, limit - start)
            return count, digest.hexdigest()

        count, found = self._open(url, write, what=what, part=kept.part)
        if kept.was_used and found != sha256:
            # What was kept may be of another file.
            kept.forget()
            count, found = self._open(url, write, what=what)
        if sha256 not in (None, found) or (size is not None and count != size):
            seen = "more" if size is not None and count > size else f"{count} bytes with sha256 {found}"
            expected = f"sha256 {sha256}" if size is None else f"{size} bytes with sha256 {sha256}"
            raise StackError(
                f"{what} from {self.shown} is not the pinned file: expected {expected}, found {seen}. It was not used.",
                expected=sha256,
                found=found,
            )

    def _blocks(self, response: Any, what: str, limit: int) -> Iterator[bytes]:
        """At most `limit` bytes of an answer as they come. Raises StackError if they come too slowly to ever end."""
        started, count = time.monotonic(), 0
        while count < limit:
            block = response.read1(min(_BLOCK, limit - count))
            if not block:
                break
            count += len(block)
            seconds = time.monotonic() - started
            if seconds > _MOST_SECONDS + count / _SLOWEST:
                raise self.unusable(what, f"sent {count:,} bytes in {seconds:.0f} s, which is too slow to wait for")
            yield block

    def _open(
        self,
        url: str,
        consume: Callable[[Any], T],
        *,
        what: str,
        accept: str = "*/*",
        part: str | Callable[[], str | None] | None = None,
        method: str = "GET",
    ) -> T:
        """`part` is of each attempt, if it can be asked."""
        timeout = _timeout()
        credentials = self._credentials(url)
        attempt = 1
        while True:
            wanted = part() if callable(part) else part
            headers = {"Accept": accept, **({"Range": wanted} if wanted else {})}
            request = urllib.request.Request(_quoted(url), headers=headers, method=method)
            if credentials:
                # Unredirected: not to be sent to another server.
                encoded = base64.b64encode(":".join(credentials).encode("utf-8")).decode("ascii")
                request.add_unredirected_header("Authorization", "Basic " + encoded)
            try:
                with self._opener.open(request, timeout=timeout) as response:
                    return consume(response)
            except StackError:
                raise
            except (OSError, ValueError, http.client.HTTPException) as error:
                # A ValueError is about an address or a header that cannot be one.
                final = isinstance(error, ValueError)
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                    final = error.code < 500
                    if error.code == _NO_SUCH_PART and callable(part):
                        # Of a file that is shorter than what was kept of another one.
                        part = None
                        continue
                if final or attempt == _ATTEMPTS or self.parts.scheme == "file":
                    raise StackError(
                        f"{what} cannot be fetched: the {self._name} {self.shown} answers '{_one_line(error)}'. "
                        f"Set {self._settings} to one that this machine can reach, or HTTPS_PROXY to the proxy"
                        f"{_longer(error, timeout)}.",
                        url=self.shown,
                    ) from error
            time.sleep(attempt)
            attempt += 1

    def _credentials(self, url: str) -> tuple[str, str] | None:
        """For the source's own origin, from its URL or ~/.netrc: urllib reads neither."""
        origin = origin_of(url)
        if origin is None or origin != origin_of(self.parts.geturl()):
            return None
        if self.parts.username:
            return urllib.parse.unquote(self.parts.username), urllib.parse.unquote(self.parts.password or "")
        try:
            entry = netrc.netrc().authenticators(str(self.parts.hostname))
        except (OSError, netrc.NetrcParseError):
            return None
        return (entry[0], entry[2] or "") if entry else None


def as_url(place: str) -> str:
    """A directory by its absolute path is the file URL of it; a URL stays as it is."""
    return "file://" + urllib.request.pathname2url(place) if os.path.isabs(place) else place


class _Kept:
    """The beginning of a file that a fetch which was cut left at a path. Nothing is kept of a file of unknown size."""

    def __init__(self, path: str | None, size: int | None) -> None:
        self._path = path if size else None
        self._size = size or 0
        self._bytes = 0
        self.was_used = False

    def part(self) -> str | None:
        """What is missing, as a header."""
        try:
            self._bytes = os.lstat(self._path).st_size if self._path else 0
        except OSError:
            self._bytes = 0
        return f"bytes={self._bytes}-" if 0 < self._bytes < self._size else None

    def start_of(self, response: Any) -> int:
        """With which byte of the file an answer begins: 0, or the first one that is missing."""
        answered = re.match(
            r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})\Z", response.headers.get("Content-Range") or ""
        )
        if getattr(response, "status", None) != 206 or not answered or not self._bytes:
            return 0
        if (int(answered.group(1)), int(answered.group(2))) != (self._bytes, self._size):
            # Of a file of another size: the next attempt asks for all of it, and says what it is.
            self.forget()
            raise ConnectionError("another part of the file was sent than the one that was asked for")
        self.was_used = True
        return self._bytes

    def forget(self) -> None:
        self._path, self._bytes = None, 0


def _blocks_of(path: str, size: int) -> Iterator[bytes]:
    """The first bytes of a file."""
    with os.fdopen(open_regular(path, follow=False), "rb") as stream:
        while size > 0:
            block = stream.read(min(_BLOCK, size))
            if not block:
                raise ConnectionError(f"{path} became shorter")
            size -= len(block)
            yield block


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A server that redirects to itself is sent the credentials again; any other is not."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if request is not None and authorization and origin_of(newurl) == origin_of(req.full_url):
            request.add_unredirected_header("Authorization", authorization)
        return request


def origin_of(url: str) -> tuple[str, str | None, int | None] | None:
    """Scheme, host and port: who is given credentials for one of them is not given those for another.

    None for what is no address of a server.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def has_credentials(url: str) -> bool:
    """Also in its query, as the address of a file that was signed for somebody has them."""
    parts = urllib.parse.urlsplit(url)
    return "@" in parts.netloc or bool(parts.query)


def _timeout() -> float:
    text = os.environ.get(_TIMEOUT_VARIABLE, "")
    return float(text) if re.fullmatch("[1-9][0-9]{0,4}", text) else _TIMEOUT


def _longer(error: Exception, timeout: float) -> str:
    is_slow = isinstance(error, socket.timeout) or isinstance(getattr(error, "reason", None), socket.timeout)
    return f", or {_TIMEOUT_VARIABLE} to more than {timeout:g} seconds" if is_slow else ""


def _quoted(url: str) -> str:
    """An address in ASCII, as an address in a page need not be."""
    return urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _one_line(error: Exception) -> str:
    return " ".join(str(error)[:_MOST_OF_A_MESSAGE].split())


def _check_length(response: Any, count: int, limit: int) -> None:
    text = response.headers.get("Content-Length") or ""
    # What is no length, such as -5, is none.
    length = int(text) if re.fullmatch("[0-9]{1,18}", text) else count
    if count < min(length, limit):
        raise ConnectionError(f"connection closed after {count} of {length} bytes")


def _write(stream: Any, block: bytes, path: str) -> None:
    try:
        stream.write(block)
    except OSError as error:
        # Not to be taken for an answer of the server.
        raise StackError(f"{path} cannot be written: {error.strerror}. Free some space there and run again.") from error
