"""Reading the files of a node: no command is run and nothing is written.

Paths in and out are the node's own; the root says where that node's file system is mounted.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from typing import Any, Callable

from ..io.mounts import ANSWER_SECONDS, remote_mounts, silent_paths
from ..io.reading import parse_object, read_head, read_whole
from .texts import natural_order

# The headers of CUDA have 0.6 MB.
_TEXT_BYTES = 2 << 20
_JSON_BYTES = 4 << 20


def is_utf8(text: str) -> bool:
    """Names and links may hold any bytes; Python keeps those that are no text as halves of surrogate pairs."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class NodeFiles:
    """Reads under a root and follows links as the node itself would: an absolute target starts at the root.

    What is absent answers None, False or nothing. What is there and cannot be read does so too, and
    leaves a row in `unread`.
    """

    def __init__(self, root: str) -> None:
        self.unread: list[dict[str, str]] = []
        self._root = root.rstrip("/")
        self._links: dict[str, str | None] = {}
        self._names: dict[str, list[str]] = {}
        self._silent: tuple[str, ...] | None = None

    def add_unread(self, fact: str, reason: str) -> None:
        row = {"fact": fact, "reason": reason}
        if row not in self.unread:
            self.unread.append(row)

    def resolve(self, path: str) -> str:
        """The path with every link followed; its end need not exist. Raises OSError for a loop, or no path at all."""
        if "\0" in path or not is_utf8(path):
            raise OSError(errno.EINVAL, "no path of UTF-8", path)
        done = ""
        rest = path.split("/")[::-1]
        followed = 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            target = self.link_target(done + "/" + part)
            if target is None:
                done += "/" + part
                continue
            followed += 1
            if followed > 40:  # the kernel's own limit
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done = ""
            rest.extend(target.split("/")[::-1])
        return done or "/"

    def link_target(self, path: str) -> str | None:
        """What the link says, None where there is none; links in the directory part are not followed."""
        if path not in self._links:
            self._refuse_silent(self._root + path)
            try:
                target = os.readlink(self._root + path)
                if not is_utf8(target):
                    raise OSError(errno.EILSEQ, "a link to what is not UTF-8", path)
                self._links[path] = target
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise
                self._links[path] = None
        return self._links[path]

    def host_path(self, path: str) -> str:
        """Where the path is for the process that reads. Raises OSError for a loop, and below a silent mount."""
        found = self._root + self.resolve(path)
        self._refuse_silent(found)
        return found

    def _refuse_silent(self, path: str) -> None:
        if self._silent is None:
            # Once, and only of those mounts for which the kernel does not answer itself.
            self._silent = tuple(silent_paths(remote_mounts()))
        if path in self._silent or any(path.startswith(mount + "/") for mount in self._silent):
            raise OSError(errno.ETIMEDOUT, f"its file system did not answer within {ANSWER_SECONDS:g} s", path)

    def exists(self, path: str, fact: str) -> bool:
        return self._mode(path, fact) != 0

    def is_dir(self, path: str, fact: str) -> bool:
        return stat.S_ISDIR(self._mode(path, fact))

    def is_file(self, path: str, fact: str) -> bool:
        return stat.S_ISREG(self._mode(path, fact))

    def _mode(self, path: str, fact: str) -> int:
        try:
            return os.stat(self.host_path(path)).st_mode
        except OSError as error:
            self._unreadable(path, fact, error)
            return 0

    def data(self, path: str, fact: str, limit: int) -> bytes | None:
        """The whole file; what is larger than the limit is not what was looked for."""
        return self._read(read_whole, path, fact, limit)

    def head(self, path: str, fact: str, size: int) -> bytes | None:
        return self._read(read_head, path, fact, size)

    def _read(self, read: Callable[[str, int], bytes], path: str, fact: str, size: int) -> bytes | None:
        try:
            return read(self.host_path(path), size)
        except OSError as error:
            self._unreadable(path, fact, error)
            return None

    def text(self, path: str, fact: str) -> str | None:
        data = self.data(path, fact, _TEXT_BYTES)
        return None if data is None else data.decode("utf-8", "replace").rstrip("\x00\n")

    def line(self, path: str, fact: str) -> str | None:
        """One line that every Linux has."""
        line = (self.text(path, fact) or "").strip()
        if line and line.isprintable():
            return line
        if not any(row["fact"] == fact for row in self.unread):
            self.add_unread(fact, f"{path}: absent, empty or not one line of text")
        return None

    def json(self, path: str, fact: str) -> dict[str, Any] | None:
        """An object; what is in the file and is none leaves a row in `unread`."""
        data = self.data(path, fact, _JSON_BYTES)
        if data is None:
            return None
        try:
            return parse_object(data)
        except ValueError as error:
            self.add_unread(fact, f"{path}: {error}")
            return None

    def names(self, directory: str, fact: str) -> list[str]:
        """Names in a directory, sorted. One that is not UTF-8 could not be said, and is left out."""
        if directory not in self._names:
            try:
                names = sorted(os.listdir(self.host_path(directory)))
            except OSError as error:
                self._unreadable(directory, fact, error)
                names = []
            for name in names:
                if not is_utf8(name):
                    self.add_unread(fact, f"{directory}: the name {ascii(name)} is not UTF-8")
            self._names[directory] = [name for name in names if is_utf8(name)]
        return self._names[directory]

    def glob(self, pattern: str, fact: str) -> list[str]:
        """Paths that fit the pattern, in natural order; `*` does not stand for a hidden name."""
        paths = [""]
        for part in pattern.strip("/").split("/"):
            if "*" in part:
                fits = re.compile(fnmatch.translate(part)).match
                paths = [
                    path + "/" + name
                    for path in paths
                    for name in sorted(self.names(path or "/", fact), key=natural_order)
                    if fits(name) and not name.startswith(".")
                ]
            else:
                paths = [path + "/" + part for path in paths]
        return [path for path in paths if self.exists(path, fact)]

    def _unreadable(self, path: str, fact: str, error: OSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            shown = path if path.isprintable() else ascii(path)
            self.add_unread(fact, f"{shown}: {error.strerror or error}")
