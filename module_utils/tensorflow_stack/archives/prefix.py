"""A tree at its prefix: its record, how it differs from that, who uses it, put in place or moved away by one rename."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
from typing import Any, Sequence

from ..io.reading import read_json
from ..io.writing import sync_directory
from ..records.build import read_record

TREE_RECORD = ".tensorflow-gpu-stack.json"
_RECORD_BYTES = 16 << 20
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def read_tree(prefix: str) -> dict[str, Any] | None:
    """The record of the tree at a prefix; None where none was laid by this toolkit, or its record is damaged."""
    record = read_json_or_none(os.path.join(prefix, TREE_RECORD))
    if not record or not record.keys() >= {"identity", "files", "version", "archives"}:
        return None
    files, texts = record["files"], (record["identity"], record["version"])
    is_listed = isinstance(files, dict) and all(isinstance(value, (int, str)) for value in files.values())
    are_texts = all(isinstance(text, str) for text in texts) and isinstance(record["archives"], list)
    return record if is_listed and are_texts else None


def read_json_or_none(path: str) -> dict[str, Any] | None:
    try:
        return read_json(path, _RECORD_BYTES)
    except (OSError, ValueError):
        return None


def find_drift(prefix: str, tree: dict[str, Any]) -> list[str]:
    """How the files differ from what was laid, by names, sizes and where links lead."""
    found: dict[str, int | str] = {}
    for directory, names, files in os.walk(prefix):
        # Python writes its bytecode where root runs a tool of the toolkit that brings modules.
        names[:] = [name for name in names if name != "__pycache__"]
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for path in (os.path.join(directory, name) for name in files + links):
            relative = os.path.relpath(path, prefix)
            found[relative] = "-> " + os.readlink(path) if os.path.islink(path) else os.lstat(path).st_size
    found.pop(TREE_RECORD, None)
    drift = []
    for path, wanted in sorted(tree["files"].items()):
        seen = found.pop(path, None)
        if seen is None:
            drift.append(f"{path} is missing")
        elif seen != wanted:
            drift.append(f"{path} is {_kind(seen)}, not {_kind(wanted)}")
    return drift + [f"{path} was added" for path in sorted(found)]


def _kind(value: int | str) -> str:
    return f"a file of {value} bytes" if isinstance(value, int) else f"a link to {value[3:]}"


def environments_using(prefix: str, roots: Sequence[str]) -> list[str]:
    """Builds of environments below these roots that hold links into the prefix."""
    inside = os.path.join(prefix, "")
    used = []
    for path in (path for root in roots for path in glob.glob(os.path.join(glob.escape(root), ".builds", "*"))):
        record = read_record(path)
        if record and any(target.startswith(inside) for target in record["links"].values()):
            used.append(os.path.basename(path))
    return sorted(used)


def put_in_place(tree: str, prefix: str) -> None:
    """Bring a complete tree to its prefix; the one that was there, if any, is then where the new one was."""
    if os.path.lexists(prefix):
        _exchange(tree, prefix)
    else:
        os.rename(tree, prefix)
    sync_directory(os.path.dirname(prefix))


def _exchange(left: str, right: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        raise OSError(code, os.strerror(code), right)
    # A file system that cannot exchange (NFS, older ZFS, a lower layer): between these two there is no tree, and if the
    # run is killed just then the next one lays it again.
    move_away(right, left + ".old")
    os.rename(left, right)


def move_away(prefix: str, place: str) -> None:
    """By one rename, so that a run which is killed leaves a leftover and never half a tree."""
    try:
        os.rename(prefix, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # No directory of an overlay's lower layer can be moved, as where a container's image has the tree. The record
        # goes last: by it the next run knows for this toolkit's what one that was killed has left.
        for name in sorted(os.listdir(prefix), key=TREE_RECORD.__eq__):
            path = os.path.join(prefix, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        os.rmdir(prefix)
