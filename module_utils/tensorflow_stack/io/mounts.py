"""File systems that may never answer: whoever looks at a mount of a server that is away waits until it is back."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Iterable

from ..errors import StackError

ANSWER_SECONDS = 10.0
_POLL_SECONDS = 0.02
_MOUNTS = "/proc/self/mountinfo"
# Those that a server or a program answers for: the kernel itself answers for all others.
_REMOTE = re.compile(
    r"(nfs[0-9]*|cifs|smb[0-9]*|smbfs|ncpfs|afs|coda|9p|virtiofs|ceph|lustre|gpfs|beegfs|pvfs2|orangefs|glusterfs|"
    r"ocfs2|gfs2?|panfs|wekafs|autofs|fuse|fuseblk|fuse\..*)\Z"
)


def check_answers(path: str, *, setting: str) -> None:
    """Raises StackError if a file system on the way to `path` does not answer; `setting` says what to set."""
    mounts = remote_mounts()
    asked = [mount for mount in mounts if _is_below(os.path.normpath(path), mount)]
    # The last one too, because a link on the way may lead anywhere.
    for silent in silent_paths([*asked, path] if mounts else []):
        raise StackError(
            f"{silent} did not answer within {ANSWER_SECONDS:g} s: its file system, such as one of NFS, hangs. "
            f"Have its server answer or unmount it (umount -l), or {setting}.",
            path=silent,
        )


def remote_mounts() -> list[str]:
    """Where file systems are mounted that may never answer. Touches none of them."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        place, separator, rest = line.partition(" - ")
        fields = place.split(" ")
        if separator and len(fields) > 4 and _REMOTE.match(rest.split(" ")[0]):
            found.append(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), fields[4]))
    return found


def silent_paths(paths: Iterable[str], seconds: float = ANSWER_SECONDS) -> list[str]:
    """Those of which stat and statvfs do not return in time. Each is asked by a child, which is left behind then."""
    waiting: dict[int, str] = {}
    for path in dict.fromkeys(paths):
        child = os.fork()
        if child == 0:
            _ask(path)
        waiting[child] = path
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        for child in [child for child in waiting if os.waitpid(child, os.WNOHANG)[0]]:
            del waiting[child]
        time.sleep(_POLL_SECONDS if waiting else 0)
    for child in waiting:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, os.WNOHANG)
    return list(waiting.values())


def _ask(path: str) -> None:
    try:
        os.stat(path)
        os.statvfs(path)
    except OSError:
        pass  # an answer
    finally:
        os._exit(0)


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(os.path.join(mount, ""))
