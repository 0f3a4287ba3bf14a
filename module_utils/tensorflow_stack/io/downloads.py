"""Fetch files by http, https or file URL: retried, bounded, and nothing but what was pinned."""

from __future__ import annotations

import base64
import email.message
import hashlib
import http.client
import netrc
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

from ..errors import StackError
from .writing import open_to_write

_ATTEMPTS = 3
_TIMEOUT = 30.0
_BLOCK = 1 << 20

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

    def get(self, url: str, *, what: str, accept: str = "*/*", limit: int | None = None) -> Answer:
        """What is at `url`, at most `limit` bytes of it. Raises StackError naming `what` when it cannot be had."""

        def read(response: Any) -> Answer:
            body = response.read(limit)
            _check_length(response, len(body), limit)
            return Answer(body, response.headers, response.geturl())

        return self._open(url, read, what=what, accept=accept)

    def find(self, url: str, *, what: str, limit: int | None = None) -> Answer | None:
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
            body = response.read(limit + 1)
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
            size = headers.get("Content-Length")
            marks = [str(headers.get(name) or "") for name in ("ETag", "Last-Modified")]
            return {"bytes": None if size is None else int(size), "marks": marks}

        return self._open(url, read, what=what, method="HEAD")

    def save(self, url: str, path: str, *, what: str, sha256: str | None, size: int | None) -> None:
        """Write the file at `url` to `path`; raises StackError unless its sha256 and size, each if known, fit."""
        limit = None if size is None else size + 1

        def write(response: Any) -> tuple[int, str]:
            digest, count = hashlib.sha256(), 0
            with open_to_write(path) as stream:
                while limit is None or count < limit:
                    block = response.read(_BLOCK if limit is None else min(_BLOCK, limit - count))
                    if not block:
                        break
                    count += len(block)
                    digest.update(block)
                    _write(stream, block, path)
            _check_length(response, count, limit)
            return count, digest.hexdigest()

        count, found = self._open(url, write, what=what)
        if sha256 not in (None, found) or (size is not None and count != size):
            seen = "more" if size is not None and count > size else f"{count} bytes with sha256 {found}"
            expected = f"sha256 {sha256}" if size is None else f"{size} bytes with sha256 {sha256}"
            raise StackError(
                f"{what} from {self.shown} is not the pinned file: expected {expected}, found {seen}. It was not used.",
                expected=sha256,
                found=found,
            )

    def _open(
        self,
        url: str,
        consume: Callable[[Any], T],
        *,
        what: str,
        accept: str = "*/*",
        part: str | None = None,
        method: str = "GET",
    ) -> T:
        headers = {"Accept": accept, **({"Range": part} if part else {})}
        request = urllib.request.Request(url, headers=headers, method=method)
        credentials = self._credentials(url)
        if credentials:
            # Unredirected: not to be sent to another server.
            encoded = base64.b64encode(":".join(credentials).encode("utf-8")).decode("ascii")
            request.add_unredirected_header("Authorization", "Basic " + encoded)
        attempt = 1
        while True:
            try:
                with self._opener.open(request, timeout=_TIMEOUT) as response:
                    return consume(response)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, StackError):
                    raise
                final = False
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                    final = error.code < 500
                if final or attempt == _ATTEMPTS or self.parts.scheme == "file":
                    raise StackError(
                        f"{what} cannot be fetched: the {self._name} {self.shown} answers '{error}'. "
                        f"Set {self._settings} to one that this machine can reach, or HTTPS_PROXY to the proxy.",
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


def as_url(place: str) -> str:
    """A directory by its absolute path is the file URL of it; a URL stays as it is."""
    return "file://" + urllib.request.pathname2url(place) if os.path.isabs(place) else place


def has_credentials(url: str) -> bool:
    """Also in its query, as the address of a file that was signed for somebody has them."""
    parts = urllib.parse.urlsplit(url)
    return "@" in parts.netloc or bool(parts.query)


def _check_length(response: Any, count: int, limit: int | None) -> None:
    length = int(response.headers.get("Content-Length") or count)
    if count < min(length, limit or length):
        raise ConnectionError(f"connection closed after {count} of {length} bytes")


def _write(stream: Any, block: bytes, path: str) -> None:
    try:
        stream.write(block)
    except OSError as error:
        # Not to be taken for an answer of the server.
        raise StackError(f"{path} cannot be written: {error.strerror}. Free some space there and run again.") from error
