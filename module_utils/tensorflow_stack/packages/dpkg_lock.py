"""dpkg's frontend lock: waited for, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator

from ..errors import BusyError
from ..io.processes import name_processes

FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend"
POLL_SECONDS = 1.0


@contextlib.contextmanager
def frontend_lock(timeout: float) -> Iterator[None]:
    """dpkg does not wait for its lock: this process holds it for it, until it ends. Raises BusyError."""
    deadline = time.monotonic() + timeout
    with open(FRONTEND_LOCK, "r+b") as file:
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise busy(FRONTEND_LOCK, find_holder(file.fileno()), waited=timeout) from None
                time.sleep(POLL_SECONDS)
        yield


def busy(path: str, process: str, *, waited: float) -> BusyError:
    return BusyError(
        f"{path} is held by {process}; waited {waited:g} s. "
        "Run again when it has ended, or raise package_lock_timeout.",
        lock=path,
        holder=process,
    )


def find_holder(descriptor: int) -> str:
    """Which process has a POSIX lock on the file."""
    question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    pid = answer[4]
    if answer[0] == fcntl.F_UNLCK or pid <= 0:
        return "an unknown process"
    return name_processes([pid])
