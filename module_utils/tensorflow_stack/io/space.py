"""What a file system allows: whether there is room on it, and whether programs start from it."""

from __future__ import annotations

import errno
import os

from ..errors import BuildError


def nearest_directory(path: str) -> str:
    """The directory at `path` or, until it is made, the nearest one above it."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def is_noexec(path: str) -> bool:
    """Whether the file system that `path` is or will be on is mounted noexec, as far as that can be read."""
    try:
        return bool(os.statvfs(nearest_directory(os.path.abspath(path))).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def check_free_space(path: str, needed: int, *, what: str, setting: str = "") -> None:
    """Raises BuildError if the file system that `path` is or will be on has fewer than `needed` bytes free.

    `setting` says what else can be done.
    """
    status = os.statvfs(nearest_directory(path))
    free = status.f_bavail * status.f_frsize
    if free < needed:
        more = (needed - free >> 20) + 1
        raise BuildError(
            f"{what} needs about {needed >> 20:,} MiB below {path}, {free >> 20:,} MiB are free. "
            f"Free at least {more:,} MiB{', or ' + setting if setting else ''}. Nothing was changed.",
            needed_bytes=needed,
            free_bytes=free,
        )


def why_full(path: str, said: str) -> str:
    """What is full of the file system of `path`, in a sentence; empty if what was `said` is of something else."""
    if os.strerror(errno.ENOSPC) not in said:
        return ""
    status = os.statvfs(nearest_directory(path))
    if status.f_files and status.f_favail == 0:
        return f"The file system of {path} has no inodes left: remove files from it, however small they are."
    return f"The file system of {path} is full: free some space there."
