"""Give a file a second name, or on a file system that can do it a copy that shares its blocks until one is changed."""

from __future__ import annotations

import fcntl
import os
import tempfile

# fact: FICLONE of linux/fs.h, the same number on x86_64 and aarch64, 2026-11-27
_FICLONE = 0x40049409
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str) -> int:
    """A descriptor of a directory that is no link, to name files relative to it. Raises OSError."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def can_clone(directory: str) -> bool:
    """Whether the file system of a directory can, as XFS and btrfs do."""
    try:
        with tempfile.TemporaryFile(dir=directory) as source, tempfile.TemporaryFile(dir=directory) as target:
            source.write(bytes(4096))
            source.flush()
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def link_file(there: str, source: int, here: str, target: int, status: os.stat_result) -> None:
    """The same file in another directory, by its names; both are descriptors of directories. Raises OSError."""
    os.link(there, here, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)


def clone_file(there: str, source: int, here: str, target: int, status: os.stat_result) -> None:
    """As `link_file`, but a file of its own with the mode and the time of the other one, which `status` has."""
    original = os.open(there, _READ, dir_fd=source)
    try:
        clone = os.open(here, _NEW, 0o600, dir_fd=target)
        try:
            fcntl.ioctl(clone, _FICLONE, original)
            os.fchmod(clone, status.st_mode & 0o7777)
            os.utime(clone, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(clone)
    finally:
        os.close(original)
