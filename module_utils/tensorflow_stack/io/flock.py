"""One run at a time on one thing: a kernel lock that dies with its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from typing import Iterator

from ..errors import BusyError, UnwritableError
from .clock import timestamp
from .processes import name_processes, processes_locking
from .reading import check_regular

_POLL_SECONDS = 0.2
# What helps if a lock cannot be written, unless it is to be its owner.
_ADVICE = {
    errno.EROFS: "Mount the file system of {} writable",
    errno.ENOSPC: "Free some space below {}",
    errno.EDQUOT: "Free some space below {}",
}


@contextlib.contextmanager
def exclusive_lock(
    path: str,
    *,
    what: str,
    wait: float = 0,
    wait_setting: str = "",
    place_setting: str = "",
) -> Iterator[None]:
    """Hold the lock file `path`; wait at most `wait` seconds for another holder.

    The lock is flock(2): a killed holder frees it, so there are no stale locks to clean up. The file
    itself stays, since removing it would let two runs lock two different inodes. Programs started with
    `close_fds=False` inherit it, so that it is held until the last of them has ended, too.

    Raises BusyError naming the holder's process, and UnwritableError. The two settings are what the caller's user can
    set, if anything: a longer wait ("raise X") and another place ("set X to a directory of yours").
    """
    with contextlib.ExitStack() as held:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            # For its owner alone: who may open a file may hold it.
            descriptor = os.open(path, flags, 0o600)
            held.callback(os.close, descriptor)
            status = os.fstat(descriptor)
            check_regular(status, path)
            if status.st_mode & 0o077 and status.st_uid == os.geteuid():
                os.fchmod(descriptor, 0o600)  # of an earlier version of this toolkit
            os.set_inheritable(descriptor, True)
            deadline = time.monotonic() + wait
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    holder = _holder(descriptor)
                    longer = f", or {wait_setting}" if wait_setting else ""
                    raise BusyError(
                        f"{what} is in use by {holder}; waited {wait:g} s. Run again when it has ended{longer}.",
                        lock=path,
                        holder=holder,
                    )
                time.sleep(_POLL_SECONDS)
            os.ftruncate(descriptor, 0)
            started = timestamp()
            os.pwrite(descriptor, f"process {os.getpid()} since {started}\n".encode("ascii"), 0)
        except OSError as error:
            elsewhere = f", or {place_setting}" if place_setting else ""
            advice = _ADVICE.get(error.errno or 0, "Run as the owner of {}").format(os.path.dirname(path))
            raise UnwritableError(
                f"The lock {path} cannot be written: {error.strerror}. {advice}{elsewhere}.",
                lock=path,
            ) from error
        yield


def _holder(descriptor: int) -> str:
    """Who has the lock: the process that took it, or else one that it started and that has outlived it."""
    noted = "".join(filter(str.isprintable, os.pread(descriptor, 200, 0).decode("ascii", "replace"))).strip()
    holders = processes_locking(descriptor)
    if holders:
        since = noted.rpartition(" since ")[2] if f"process {holders[0]} " in noted else ""
        return name_processes(holders) + (f" since {since}" if since else "")
    number = re.match("process ([0-9]{1,9}) ", noted)
    if number and not os.path.exists(f"/proc/{number.group(1)}"):
        return f"a program that was started by {noted}, which has ended"
    return noted or "an unknown process"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
