"""Read a file that anybody may have placed or written: without waiting, with an end, and JSON of a bounded shape."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from typing import Any

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
}
_DEEPEST = 40
# Python converts longer numbers slowly or not at all.
_DIGITS = 300


def open_regular(path: str, *, follow: bool = True) -> int:
    """A descriptor to read a regular file; OSError for all else, which could block, never end, or act when opened."""
    check_regular(os.stat(path, follow_symlinks=follow), path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        # It may have been replaced in between.
        check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_head(path: str, size: int, *, follow: bool = True) -> bytes:
    """At most the first `size` bytes. What /proc and /sys make up has a size of 0, so it is read to its end."""
    descriptor = open_regular(path, follow=follow)
    try:
        return _read(descriptor, size)
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> bytes:
    blocks = []
    while size > 0:
        block = os.read(descriptor, min(size, 1 << 20))
        if not block:
            break
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def read_tail(path: str, size: int, *, follow: bool = True) -> bytes:
    """At most the last `size` bytes."""
    descriptor = open_regular(path, follow=follow)
    with open(descriptor, "rb") as stream:
        stream.seek(max(0, os.fstat(descriptor).st_size - size))
        return stream.read(size)


def read_whole(path: str, limit: int, *, follow: bool = True) -> bytes:
    """The file, or OSError if it has more than `limit` bytes."""
    descriptor = open_regular(path, follow=follow)
    try:
        return read_open(descriptor, limit, path)
    finally:
        os.close(descriptor)


def read_open(descriptor: int, limit: int, path: str | None = None) -> bytes:
    """The rest of an open file, or OSError if that has more than `limit` bytes."""
    data = _read(descriptor, limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit >> 10:,} KiB", path)
    return data


def read_json(path: str, limit: int, *, follow: bool = True) -> dict[str, Any]:
    """The JSON object in a file; raises OSError, and ValueError if it holds anything else."""
    return parse_object(read_whole(path, limit, follow=follow))


def digest_of(path: str, algorithm: str = "sha256") -> bytes:
    """The digest of a regular file; raises OSError, and ValueError for an algorithm that Python does not know."""
    digest = hashlib.new(algorithm)
    descriptor = open_regular(path)
    try:
        for block in iter(lambda: os.read(descriptor, 1 << 20), b""):
            digest.update(block)
    finally:
        os.close(descriptor)
    return digest.digest()


def check_regular(status: os.stat_result, path: str) -> None:
    """Raises OSError for all but a regular file, saying what it is."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a link")
        raise OSError(errno.ELOOP if kind == "a link" else errno.EINVAL, f"is {kind}, not a regular file", path)


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in a text; ValueError says why there is none that JSON can be made of again."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse, parse_int=_to_int, parse_float=_to_float)
        _check_shape(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("JSON, but not an object")
    return value


def _check_shape(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                item.encode("utf-8")  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        level = below


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not of JSON")


def _to_int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _to_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
