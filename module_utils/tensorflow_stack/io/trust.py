"""Whether anybody but root and this user could change what a run writes to, believes or starts.

A path is looked at from the top down, and each link on it is followed as the kernel would. Whoever may change a
directory may put something else in the place of all that lies below it. What has passed nobody else can change, so it
still is what was looked at when it is opened afterwards (docs/decisions/0020-who-may-change-a-path.md).
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import shlex
import stat
from typing import NamedTuple

from ..errors import BuildError

_MOST_LINKS = 40  # the kernel's own limit


class Weakness(NamedTuple):
    """What others could change: a directory, a file, or a link that is theirs."""

    path: str
    text: str
    is_ours: bool  # so that its mode can be set right


def find_weakness(path: str) -> Weakness | None:
    """The first thing on the way to an absolute path, its end included, that others could change."""
    done, rest, followed = "/", path.split("/")[::-1], 0
    status = os.lstat(done)
    weakness = judge(done, status)
    while rest and not weakness:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = os.path.dirname(done)
            continue
        place = os.path.join(done, part)
        try:
            status = os.lstat(place)
            target = os.readlink(place) if stat.S_ISLNK(status.st_mode) else None
        except OSError:
            return None  # not there, or not to be entered: then nothing of it is used
        if target is None:
            done = place
        else:
            followed += 1
            if followed > _MOST_LINKS:
                return None  # nobody can open it
            done = "/" if target.startswith("/") else done
            rest.extend(target.split("/")[::-1])
        weakness = judge(place, status)
    return weakness


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
    weakness = find_weakness(path)
    if weakness is None and os.path.isdir(path):
        real = os.path.realpath(path)
        weakness = judge(real, os.stat(real), shared=False)
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
