"""`<reports>/drained/<host>`: the nodes that a run drained and has not undrained yet.

A file is written before a node is drained and removed after it was undrained. So a run that is killed in between may
leave a file for a node that is not drained, but never a drained node without a file.
"""

from __future__ import annotations

import os

from ..errors import StackError
from ..io.reading import read_head
from ..io.writing import write_text

DIRECTORY = "drained"
_MOST_BYTES = 100


def read_drained(reports: str) -> dict[str, str]:
    """Since when, by host. Raises StackError if the directory cannot be read."""
    directory = os.path.join(reports, DIRECTORY)
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unusable(directory, error) from error
    found = ((name, drained_since(reports, name)) for name in names)
    return {name: since for name, since in found if since is not None}


def drained_since(reports: str, host: str) -> str | None:
    """When the host was drained; None if it is not recorded as drained."""
    path = os.path.join(reports, DIRECTORY, host)
    try:
        return read_head(path, _MOST_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error


def mark_drained(reports: str, host: str, since: str) -> bool:
    """Record a node as drained; whether it was not recorded before, whose time stays."""
    path = os.path.join(reports, DIRECTORY, host)
    if os.path.exists(path):
        return False
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_text(path, since + "\n")
    except OSError as error:
        raise _unusable(path, error) from error
    return True


def unmark_drained(reports: str, host: str) -> bool:
    """Remove the record of a node; whether there was one."""
    path = os.path.join(reports, DIRECTORY, host)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(path, error) from error
    return True


def _unusable(path: str, error: OSError) -> StackError:
    return StackError(
        f"{path}, which records the nodes that are drained, cannot be used: {error.strerror}. "
        "Set stack_report_directory to a directory of yours."
    )
