"""Which files a wheel installs, without fetching it: a zip has its list of files at its end."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import struct
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import StackError
from ..io.downloads import Source
from ..io.uv import DEFAULT_INDEX, INDEX_VARIABLE
from ..io.writing import write_bytes
from .sources import SourceRecord, read_source

# Path as installed, relative to site-packages -> size and CRC-32.
FileList = Mapping[str, tuple[int, int]]

_THREADS = 16
# Holds the whole list of most wheels. That of TensorFlow has 2 MB, and takes a second request.
_TAIL_BYTES = 64 << 10
_MOST_LIST_BYTES = 32 << 20
# What is read that far before the end is read by itself: the list of files begins nearer to it.
_MOST_GAP_BYTES = 8 << 20
# Where a server sends the whole file whatever it is asked for, no more than this is taken.
_MOST_WHOLE_BYTES = 4 << 20
# Where the parts of `<name>.data` go: into site-packages, or (..) into the environment.
_SCHEMES = {"purelib": "", "platlib": "", "scripts": "../bin/", "data": "../", "headers": "../include/"}


class FileLister(Protocol):
    def __call__(self, wheels: Mapping[str, Mapping[str, Any]]) -> Mapping[str, FileList]:
        """By name of the distribution, for wheels with `url` and `hashes`; without those that could not be read."""


class FileReader(Protocol):
    """Reads what is in files of the index, each with `url` and `hashes`."""

    def metadata(self, wheel: Mapping[str, Any]) -> str | None:
        """METADATA of a wheel, None if it cannot be read."""

    def source(self, name: str, version: str, archive: Mapping[str, Any]) -> SourceRecord:
        """What a source distribution says of itself."""


class _UnreachableError(StackError):
    """The server is not there; asking it for the next wheel takes as long again."""


@dataclass
class WheelFiles:
    """Reads lists of files by ranges, and keeps them by the hash of their wheel: a wheel is asked for once."""

    directory: str
    index_url: str | None = None
    opener: urllib.request.OpenerDirector | None = None
    # Of whatever was asked for and could not be read: name of the distribution -> why.
    unread: dict[str, str] = field(default_factory=dict)

    def __call__(self, wheels: Mapping[str, Mapping[str, Any]]) -> dict[str, FileList]:
        unreachable = threading.Event()

        def read(name: str) -> FileList | None:
            try:
                return self._read(wheels[name], unreachable)
            except StackError as error:
                self.unread[name] = error.message
                return None

        with ThreadPoolExecutor(_THREADS) as pool:
            lists = dict(zip(wheels, pool.map(read, wheels), strict=True))
        return {name: files for name, files in lists.items() if files is not None}

    def metadata(self, wheel: Mapping[str, Any]) -> str | None:
        """METADATA of a wheel with `url` and `hashes`, None if it cannot be read."""
        kept = os.path.join(self.directory, f"{wheel['hashes']['sha256']}.metadata")
        try:
            with open(kept, encoding="utf-8") as stream:
                return stream.read()
        except (OSError, ValueError):
            pass
        try:
            with self._open(wheel["url"]) as stream, zipfile.ZipFile(stream) as archive:
                names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
                text = archive.read(names[0]).decode("utf-8", "replace") if names else ""
        except (OSError, zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, StackError):
            return None
        with contextlib.suppress(OSError):
            os.makedirs(self.directory, exist_ok=True)
            write_bytes(kept, text.encode("utf-8"), mode=0o600)
        return text

    def source(self, name: str, version: str, archive: Mapping[str, Any]) -> SourceRecord:
        return read_source(name, version, archive, self._source(archive["url"]))

    def _read(self, wheel: Mapping[str, Any], unreachable: threading.Event) -> FileList:
        kept = os.path.join(self.directory, f"{wheel['hashes']['sha256']}.json.gz")
        files: FileList | None = _load(kept)
        if files is None:
            if unreachable.is_set():
                raise StackError("its server could not be reached for another wheel")
            try:
                files = self._fetch(wheel["url"])
            except _UnreachableError:
                unreachable.set()
                raise
            _keep(kept, files)
        return files

    def _fetch(self, url: str) -> FileList:
        try:
            with self._open(url) as stream, zipfile.ZipFile(stream) as archive:
                return _installed(archive)
        except (OSError, zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
            if isinstance(error, StackError):
                raise
            raise StackError(f"{url} is not a readable zip file: {error}") from error

    def _open(self, url: str) -> Any:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "file":
            return open(urllib.request.url2pathname(parts.path), "rb")
        return _RemoteFile(url, self._source(url))

    def _source(self, url: str) -> Source:
        # Credentials are those of the index, and go to its own host alone.
        index = self.index_url or os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX
        if not index.startswith(("http:", "https:")):
            index = url
        return Source(index, name="package index", settings="tensorflow_index_url", opener=self.opener)


class _RemoteFile(io.RawIOBase):
    """The end of a file on a server, as far forward as it is read, and one part far from it."""

    def __init__(self, url: str, source: Source) -> None:
        self._url = url
        self._source = source
        self._position = 0
        self._far_first, self._far_held = 0, b""
        self._first, self._held, self._size = self._fetch(f"bytes=-{_TAIL_BYTES}", _MOST_WHOLE_BYTES)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = self._position
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        if end <= start:
            return b""
        if start < self._first - _MOST_GAP_BYTES:
            self._position = end
            return self._far(start, end)
        if start < self._first:
            if self._first - start > _MOST_LIST_BYTES:
                raise StackError(f"the list of files of {self._url} is over {_MOST_LIST_BYTES >> 20} MiB")
            missing = self._first - start
            first, body, _ = self._fetch(f"bytes={start}-{self._first - 1}", missing)
            if first != start or len(body) != missing:
                raise StackError(f"the server of {self._url} answers with another part than was requested")
            self._first, self._held = start, body + self._held
        self._position = end
        return self._held[start - self._first : end - self._first]

    def _far(self, start: int, end: int) -> bytes:
        """A part far from the end, such as METADATA at the beginning of a big wheel, without what is between."""
        offset = start - self._far_first
        if not 0 <= offset <= offset + end - start <= len(self._far_held):
            size = min(max(end - start, _TAIL_BYTES), self._size - start)
            if size > _MOST_LIST_BYTES:
                raise StackError(f"a part of {self._url} is over {_MOST_LIST_BYTES >> 20} MiB")
            first, body, _ = self._fetch(f"bytes={start}-{start + size - 1}", size)
            if first != start or len(body) != size:
                raise StackError(f"the server of {self._url} answers with another part than was requested")
            self._far_first, self._far_held, offset = start, body, 0
        return self._far_held[offset : offset + end - start]

    def _fetch(self, part: str, limit: int) -> tuple[int, bytes, int]:
        """Where the part begins, what it is, and the size of the whole file."""
        try:
            answer = self._source.get_part(self._url, what=f"the list of files of {self._url}", part=part, limit=limit)
        except StackError as error:
            cause = error.__cause__
            if cause is not None and not isinstance(cause, urllib.error.HTTPError):
                raise _UnreachableError(error.message) from error
            raise
        span = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", answer.headers.get("Content-Range", ""))
        if span is None:
            return 0, answer.body, len(answer.body)
        return int(span[1]), answer.body, int(span[2])


def _installed(archive: zipfile.ZipFile) -> dict[str, tuple[int, int]]:
    """What an installer would put where. Metadata lie in a directory of the distribution's own."""
    files = {}
    for member in archive.infolist():
        top, _, rest = member.filename.partition("/")
        if member.is_dir() or top.endswith(".dist-info"):
            continue
        path = member.filename
        if top.endswith(".data"):
            scheme, _, rest = rest.partition("/")
            path = _SCHEMES.get(scheme, f"../{scheme}/") + rest
        files[path] = member.file_size, member.CRC
    return files


def _load(path: str) -> dict[str, tuple[int, int]] | None:
    """What was kept, None where nothing was or it is spoiled."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return {name: (size, crc) for name, (size, crc) in json.load(stream).items()}
    except (OSError, EOFError, zlib.error, ValueError, TypeError, AttributeError):
        return None


def _keep(path: str, files: FileList) -> None:
    # Only saves time: a full disk is no reason not to lock.
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_bytes(path, gzip.compress(json.dumps(files).encode("utf-8"), 6), mode=0o600)
