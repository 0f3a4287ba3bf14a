"""Write a file whole, by a rename."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import IO, Any, Iterator, Match

from .reading import check_regular

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_text(path: str, text: str, *, mode: int = 0o644) -> None:
    write_bytes(path, text.encode("utf-8"), mode=mode)


def write_json(path: str, content: Any, *, mode: int = 0o644) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n", mode=mode)


def write_bytes(path: str, data: bytes, *, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file by a rename; raises OSError, and leaves the old one then.

    A link at the path is replaced, not followed. Readers see the old file or the new one, also after a power cut. The
    file has `mode` whatever the umask is. What a writer left that was killed is removed by the next one.
    """
    directory, name = os.path.split(os.path.abspath(path))
    with opened_directory(directory) as here:
        _remove_leftovers(here, name)
        temporary = f".{name}.{os.getpid()}-{os.urandom(4).hex()}.new"
        descriptor = os.open(temporary, _NEW, 0o600, dir_fd=here)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, mode)
                if owner and owner != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, *owner)
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)
            os.replace(temporary, name, src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=here)
            raise


@contextlib.contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """A descriptor of a directory: what is done relative to it is done there, whatever has its path by then."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_new(path: str, content: str | bytes, *, mode: int = 0o644) -> None:
    """A file where none is, nor a link; raises OSError. It is not synced: its writer syncs all that it wrote."""
    with os.fdopen(os.open(path, _NEW, 0o600), "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def open_to_write(path: str, *, keep: int = 0) -> IO[bytes]:
    """A file to write to as long as something goes on, emptied but for the first `keep` bytes.

    Raises OSError for all but a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o644)
    try:
        check_regular(os.fstat(descriptor), path)
        os.ftruncate(descriptor, keep)
        os.lseek(descriptor, keep, os.SEEK_SET)
        return os.fdopen(descriptor, "w+b", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def remove_leftovers(directory: str, name: str) -> None:
    with opened_directory(directory) as here:
        _remove_leftovers(here, name)


def _remove_leftovers(here: int, name: str) -> None:
    """Two writers of one file do not disturb each other, so the number of a process is in a temporary file's name."""
    for match in filter(None, (_leftover(name, entry) for entry in os.listdir(here))):
        try:
            os.kill(int(match.group(1)), 0)
        except ProcessLookupError:
            with contextlib.suppress(OSError):
                os.unlink(match.group(), dir_fd=here)
        except OSError:
            continue  # somebody else's, and running


def is_leftover(entry: str, name: str) -> bool:
    """Whether a file of this name is what a writer of `name` left, or writes at this moment."""
    return _leftover(name, entry) is not None


def _leftover(name: str, entry: str) -> Match[str] | None:
    return re.fullmatch(rf"\.{re.escape(name)}\.([0-9]{{1,9}})-\w+\.new", entry)


def sync_directory(path: str) -> None:
    """So that a rename in this directory survives a power cut."""
    with opened_directory(path) as here:
        os.fsync(here)
