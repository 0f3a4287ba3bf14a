"""Whether anybody but root and this user could change what a run writes to, believes or starts.

A path is looked at from the top down, and each link on it is followed as the kernel would. Whoever may change a
directory may put something else in the place of all that lies below it. What has passed nobody else can change, so it
still is what was looked at when it is opened afterwards (docs/decisions/0020-who-may-change-a-path.md).
"""

from __future__ import annotations

import functools
import glob
import grp
import os
import pwd
import shlex
import stat
from typing import Callable, NamedTuple

from ..errors import BuildError

# The toolkit's own, below the root of environments.
_OWN_DIRECTORIES = (".builds", ".locks", ".cache", ".cache/uv", ".tools", ".pythons")
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
        mend = f"If nobody else may write there: {_chmod(weakness.path)}" if weakness.is_ours else ""
        on_the_way = "" if weakness.path == path else f", which is part of the path to {path}"
        raise BuildError(
            f"{weakness.path} {weakness.text}{on_the_way}: {why} {setting} {mend}".rstrip(), path=weakness.path
        )


def check_root(root: str) -> None:
    """Raises BuildError where somebody else could change what this user runs from below `root`. Only looks."""
    if not os.path.isabs(root) or "\0" in root:
        raise BuildError(f"The environments' root is {root!r}. Set tensorflow_root to an absolute path.")
    check_place(
        root,
        why="an environment there would run their code.",
        setting="Set tensorflow_root to a directory that only you write, below directories that belong to root or "
        "to you.",
    )
    _check_own(root)


def check_program(path: str) -> None:
    """Raises BuildError where others could change a program that root is about to run.

    Another user may well run what the administrator of a cluster has installed under a name of their own.
    """
    weakness = find_weakness(path) if os.geteuid() == 0 else None
    if weakness:
        raise BuildError(
            f"{path} is not run as root: {weakness.path} {weakness.text}. Set python_source or tensorflow_python to "
            "another interpreter, or run as its owner.",
            path=weakness.path,
        )


def _check_own(root: str) -> None:
    """The toolkit's own directories and files below the root: of their kind, and changed by nobody else."""
    own = [*_OWN_DIRECTORIES, *_globbed(root, ".tools/uv-*"), *_globbed(root, ".pythons/*")]
    for name in own:
        _check_one(os.path.join(root, name), stat.S_ISDIR, "directory")
    for name in ("manifest.json", *_globbed(root, ".tools/uv-*/uv")):
        _check_one(os.path.join(root, name), stat.S_ISREG, "regular file")


def _globbed(root: str, pattern: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(root), pattern)))


def _check_one(path: str, is_of_kind: Callable[[int], bool], kind: str) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return  # not there yet, or not to be entered: then nothing of it is used
    is_link = stat.S_ISLNK(status.st_mode)
    # uv itself links the minor version of a Python to the newest one.
    if is_link and os.path.basename(os.path.dirname(path)) != ".pythons":
        raise BuildError(
            f"{path} is a link to {os.readlink(path)}, which this toolkit neither makes nor follows. Move "
            f"the link away; if you need its target there, mount it: {_move_away(path)}",
            path=path,
        )
    if not is_link and not is_of_kind(status.st_mode):
        raise BuildError(f"{path} is no {kind}, and not of this toolkit. Move it away: {_move_away(path)}", path=path)
    weakness = judge(path, status, shared=False)
    if weakness:
        raise BuildError(
            f"{path} {weakness.text}: this toolkit trusts and runs its content. {_mend(weakness)}", path=path
        )


def _mend(weakness: Weakness) -> str:
    if weakness.is_ours:
        return f"If only you may change it: {_chmod(weakness.path)}"
    return f"If you did not expect it there, move it away: {_move_away(weakness.path)}"


def _move_away(path: str) -> str:
    return f"mv {shlex.quote(path)} {shlex.quote(path + '.old')}"


def _chmod(path: str) -> str:
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
