"""Write a file whole, by a rename."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from typing import Any, Match


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
    remove_leftovers(directory, name)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.{os.getpid()}-", suffix=".new", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            if owner and owner != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, *owner)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def remove_leftovers(directory: str, name: str) -> None:
    """Two writers of one file do not disturb each other, so the number of a process is in a temporary file's name."""
    for match in filter(None, (_leftover(name, entry) for entry in os.listdir(directory))):
        try:
            os.kill(int(match.group(1)), 0)
        except ProcessLookupError:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, match.group()))
        except OSError:
            continue  # somebody else's, and running


def is_leftover(entry: str, name: str) -> bool:
    """Whether a file of this name is what a writer of `name` left, or writes at this moment."""
    return _leftover(name, entry) is not None


def _leftover(name: str, entry: str) -> Match[str] | None:
    return re.fullmatch(rf"\.{re.escape(name)}\.(\d+)-\w+\.new", entry)


def sync_directory(path: str) -> None:
    """So that a rename in this directory survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
