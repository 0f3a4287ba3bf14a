"""The logs that builds and checks left in a root: read bounded, and through no link."""

from __future__ import annotations

import contextlib
import glob
import os

from ..environment.builds import build_log, check_log
from ..environment.root import check_root
from ..errors import StackError
from ..io.reading import read_tail
from ..io.writing import write_text
from .log_text import decode

_MOST_BYTES = 1 << 20


def kept_text(root: str, name: str | None) -> str:
    """What the last build and the last failed check of an environment said; without a name, the last build of any."""
    try:
        # Its directories may be somebody else's, or links.
        check_root(root)
    except StackError:
        return ""
    if name is None:
        found = glob.glob(os.path.join(glob.escape(root), ".builds", "*.log"))
        paths = sorted((path for path in found if not os.path.islink(path)), key=_written_at)[-1:]
    else:
        paths = [build_log(root, name)]
        # A check before the last switch, such as a rollback, was of another build.
        if _written_at(check_log(root, name)) >= _written_at(os.path.join(root, name)):
            paths.append(check_log(root, name))
    texts = []
    for path in paths:
        with contextlib.suppress(OSError):
            texts.append(decode(read_tail(path, _MOST_BYTES, follow=False)))
    return "\n".join(texts)


def keep_check_log(root: str, name: str, text: str | None) -> None:
    """That of a check that failed; None removes it. A root that may not be written is no failure of the check."""
    path = check_log(root, name)
    with contextlib.suppress(OSError):
        if text is not None:
            write_text(path, text)
        elif os.path.lexists(path):
            os.unlink(path)


def _written_at(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0
