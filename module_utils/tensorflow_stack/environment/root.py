"""The root of environments: what a run writes, believes and starts below it is changed by nobody else."""

from __future__ import annotations

import glob
import os
import shlex
import stat
from typing import Callable

from ..errors import BuildError
from ..io.mounts import check_answers
from ..io.trust import Weakness, check_place, chmod_command, find_weakness, judge

# What a user sets who may not write it.
PLACE_SETTING = "set tensorflow_root to a directory of yours"
# Below `.cache`: down to the pointers by which uv finds a wheel, and to the index of a shared package.
_CACHE_DEPTH = 3
# The toolkit's own, below the root of environments.
_OWN_DIRECTORIES = (".builds", ".locks", ".cache", ".cache/uv", ".cache/installed", ".tools", ".pythons", ".images")


def check_root(root: str) -> None:
    """Raises BuildError where somebody else could change what this user runs from below `root`. Only looks."""
    if not os.path.isabs(root) or "\0" in root:
        raise BuildError(f"The environments' root is {root!r}. Set tensorflow_root to an absolute path.")
    check_answers(root, setting="set tensorflow_root to a directory of another one")
    check_place(
        root,
        why="an environment there would run their code.",
        setting="Set tensorflow_root to a directory that only you write, below directories that belong to root "
        "or to you.",
    )
    _check_own(root)


def check_cache(root: str) -> None:
    """Raises BuildError where others could change which files a build is installed from. Only looks.

    uv's index of what is where, and the store of shared packages. The files themselves are compared with both.
    """
    cache = os.path.join(root, ".cache")
    for directory, names, files in os.walk(cache):
        depth = os.path.relpath(directory, cache).count("/")
        for path in (os.path.join(directory, name) for name in names + files):
            # Everybody may take a lock of uv, which it makes so whatever the umask is.
            if not path.endswith(".lock"):
                weakness = judge(path, os.lstat(path), shared=False)
                if weakness:
                    raise BuildError(
                        f"{path} {weakness.text}: builds are installed from it. {_mend(weakness)}", path=path
                    )
        if depth >= _CACHE_DEPTH or os.path.basename(directory).startswith("archive-"):
            names.clear()


def check_program(path: str) -> None:
    """Raises BuildError where others could change a program that root is about to run.

    Another user may well run what the administrator of a cluster has installed under a name of their own.
    """
    check_answers(path, setting="set python_source or tensorflow_python to another interpreter")
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
        return f"If only you may change it: {chmod_command(weakness.path)}"
    return f"If you did not expect it there, move it away: {_move_away(weakness.path)}"


def _move_away(path: str) -> str:
    return f"mv {shlex.quote(path)} {shlex.quote(path + '.old')}"
