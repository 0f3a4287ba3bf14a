"""Whether anybody but root and this user could change what a run writes to, believes or starts.

A path is opened from the top down, each directory by its descriptor relative to the one above it, so that what is
looked at is what is entered. Links on it are followed as the kernel would. Whoever may change a directory may put
something else in the place of all that is below it. What has passed nobody else can change
(docs/decisions/0020-who-may-change-a-path.md and 0042-what-is-opened-is-what-was-looked-at.md).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import grp
import os
import pwd
import shlex
import stat
import tempfile
from typing import Iterator, NamedTuple

from ..errors import BuildError, StackError

_MOST_LINKS = 40  # the kernel's own limit
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Weakness(NamedTuple):
    """What others could change: a directory, a file, or a link that is theirs."""

    path: str
    text: str
    is_ours: bool  # so that its mode can be set right


def find_weakness(path: str) -> Weakness | None:
    """The first thing on the way to an absolute path, its end included, that others could change."""
    with walked(path) as (weakness, _):
        return weakness


@contextlib.contextmanager
def walked(path: str) -> Iterator[tuple[Weakness | None, int | None]]:
    """The first weakness on the way to an absolute path, and a descriptor of the directory at its end.

    The descriptor is None with a weakness, and if there is no directory at the end that this user may enter.
    """
    walk = _Walk()
    try:
        weakness = walk.to(path)
        yield weakness, (walk.here if weakness is None and walk.is_whole else None)
    finally:
        os.close(walk.here)


class _Walk:
    """From `/` down. `here` is a descriptor of the directory entered last, `is_whole` whether it is the end."""

    def __init__(self) -> None:
        self.here = os.open("/", _DIRECTORY)
        self.is_whole = False

    def to(self, path: str) -> Weakness | None:
        done, rest, followed = "/", path.split("/")[::-1], 0
        weakness = judge(done, os.fstat(self.here))
        while rest and not weakness:
            part = rest.pop()
            if part in ("", "."):
                continue
            place = os.path.dirname(done) if part == ".." else os.path.join(done, part)
            try:
                status = os.stat(part, dir_fd=self.here, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    target = os.readlink(part, dir_fd=self.here)
                    followed += 1
                    if followed > _MOST_LINKS:
                        return None  # nobody can open it
                    if target.startswith("/"):
                        done = "/"
                        self._enter("/")
                    rest.extend(target.split("/")[::-1])
                elif stat.S_ISDIR(status.st_mode):
                    self._enter(part)
                    status, done = os.fstat(self.here), place
                else:
                    return judge(place, status)
            except (OSError, ValueError):
                return None  # not there, or not to be entered: then nothing of it is used
            weakness = judge(place, status)
        self.is_whole = weakness is None
        return weakness

    def _enter(self, part: str) -> None:
        below = os.open(part, _DIRECTORY, dir_fd=self.here)
        os.close(self.here)
        self.here = below


def refuse_planted_link(path: str) -> None:
    """Raises PermissionError for a link on the way that somebody else put into a directory where everybody may.

    As the kernel does with fs.protected_symlinks: for what is written at a place that its user chose, and that others
    may well share with them.
    """
    done = "/"
    for part in os.path.abspath(path).split("/")[1:]:
        above, done = os.stat(done), os.path.join(done, part)
        try:
            status = os.lstat(done)
        except OSError:
            return
        is_shared = above.st_mode & (stat.S_ISVTX | 0o002) == stat.S_ISVTX | 0o002
        if stat.S_ISLNK(status.st_mode) and is_shared and status.st_uid not in (os.geteuid(), above.st_uid):
            raise PermissionError(errno.EACCES, f"{done} is a link of user {status.st_uid}", path)


@contextlib.contextmanager
def private_directory(prefix: str) -> Iterator[str]:
    """A new temporary directory on whose way nobody else could change anything; removed afterwards.

    TMPDIR may name a directory that is not sticky, in which others can put their own in its place. Raises StackError.
    """
    found: Weakness | None = None
    for parent in dict.fromkeys((tempfile.gettempdir(), "/var/tmp", "/run")):
        weakness = find_weakness(parent)
        if weakness is None and os.access(parent, os.W_OK):
            with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as directory:
                yield directory
            return
        found = found or weakness
    said = f"{found.path} {found.text}" if found else f"{tempfile.gettempdir()} cannot be written"
    raise StackError(f"There is no safe directory for temporary files: {said}. Set TMPDIR to one that only you write.")


def judge(path: str, status: os.stat_result, *, shared: bool = True) -> Weakness | None:
    """What others could change of one entry; `shared` allows a directory in which each changes only what is theirs."""
    uid, mode = status.st_uid, stat.S_IMODE(status.st_mode)
    is_link = stat.S_ISLNK(status.st_mode)
    if _is_trusted(uid) and (is_link or not mode & 0o022):
        return None
    if not _is_trusted(uid):
        found = f"is a link of user {uid}" if is_link else _changeable(uid, mode)
        return Weakness(path, found, is_ours=False)
    if shared and stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
        return None
    if not mode & 0o002 and _is_own_group(os.geteuid(), status.st_gid) and not _has_acl(path):
        return None
    return Weakness(path, _changeable(uid, mode), is_ours=True)


def check_place(path: str, *, why: str, setting: str) -> None:
    """Raises BuildError where others could change the directory that is or will be at `path`. Only looks.

    `why` ends the sentence on what was found; `setting` says what else can be done.
    """
    with walked(path) as (weakness, descriptor):
        if descriptor is not None:
            weakness = judge(os.path.realpath(path), os.fstat(descriptor), shared=False)
    if weakness:
        mend = f"If nobody else may write there: {chmod_command(weakness.path)}" if weakness.is_ours else ""
        on_the_way = "" if weakness.path == path else f", which is part of the path to {path}"
        raise BuildError(
            f"{weakness.path} {weakness.text}{on_the_way}: {why} {setting} {mend}".rstrip(), path=weakness.path
        )


def chmod_command(path: str) -> str:
    return f"chmod go-w {shlex.quote(path)}"


def _changeable(uid: int, mode: int) -> str:
    return f"could be changed by others (owner {uid}, mode {mode:04o})"


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid()) or uid == _owner_outside()


@functools.lru_cache(maxsize=64)
def _owner_outside() -> int | None:
    """Who owns `/` in a user namespace in which its owner has no number: there root of the machine looks like that.

    So do all others outside, who cannot be told from root; but with `/` root itself belongs to them.
    """
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
            nobody = int(stream.read())
        with open("/proc/self/uid_map", encoding="ascii") as stream:
            ranges = [(int(first), int(count)) for first, _, count in map(str.split, stream)]
        owner = os.stat("/").st_uid
    except (OSError, ValueError):
        return None
    has_number = any(first <= nobody < first + count for first, count in ranges)
    return nobody if owner == nobody and not has_number else None


@functools.lru_cache(maxsize=64)
def _is_own_group(uid: int, gid: int) -> bool:
    """Is it the user's private group, as many distributions make one for each user, and nobody else in it?

    Then a umask of 002 opens nothing. Root has none: its group holds other accounts on some.
    """
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    is_named_alike = uid != 0 and user.pw_gid == gid and group.gr_name == user.pw_name
    return (
        is_named_alike
        and set(group.gr_mem) <= {user.pw_name}
        and not any(other.pw_gid == gid and other.pw_uid != uid for other in pwd.getpwall())
    )


def _has_acl(path: str) -> bool:
    """With an ACL the group's bits of a mode are its mask: they are set if anybody who is named in it may write."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False
