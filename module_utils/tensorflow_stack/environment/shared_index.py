"""What the store of shared packages knows of one package: its files with their sha256, and how they looked then.

A text, because a package may have ten thousand files and each build reads it:

    {"contents": ..., "record": ..., "scripts": ...}
    /lib/python3.10/site-packages/numpy             a directory of a build, and the files in it:
    <sha256> <mode> <size> <time in nanoseconds> <inode> __init__.py
    end

In the store the files have their numbers here as names, from 0 on: directories cost more than all else.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Iterable, Iterator, NamedTuple

from ..io.reading import parse_object, read_whole
from ..io.writing import write_new

INDEX = "index"
_MOST_BYTES = 64 << 20
_END = "end"


class SharedFile(NamedTuple):
    """A file as it was when it was compared with its wheel, or compiled; `folder` is below the build."""

    folder: str
    name: str
    sha256: str
    mode: int
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class SharedHead:
    """Of a package: the digest of what its wheel has, the sha256 of its RECORD, and its scripts with their sha256."""

    contents: str
    record: str
    scripts: dict[str, str]


class SharedIndex(NamedTuple):
    head: SharedHead
    lines: list[str]
    checked_ns: int  # what was changed later is compared by its contents


def write_index(entry: str, head: SharedHead, files: Iterable[SharedFile]) -> None:
    """Its time is when the files were last known to be right. Not synced: what a loss of power cuts has no end."""
    lines = [json.dumps({"contents": head.contents, "record": head.record, "scripts": head.scripts})]
    folders = _in_order(files)
    for folder in sorted(folders):
        lines.append(f"/{folder}")
        lines += [f"{f.sha256} {f.mode:o} {f.size} {f.mtime_ns} {f.inode} {f.name}" for f in folders[folder]]
    write_new(os.path.join(entry, INDEX), "\n".join([*lines, _END, ""]))


def _in_order(files: Iterable[SharedFile]) -> dict[str, list[SharedFile]]:
    """By their directories, each of which has those above it."""
    folders: dict[str, list[SharedFile]] = {}
    for file in files:
        folders.setdefault(file.folder, []).append(file)
        above = file.folder.rpartition("/")[0]
        while above and above not in folders:
            folders[above] = []
            above = above.rpartition("/")[0]
    return folders


def read_index(entry: str) -> SharedIndex:
    """Raises OSError, and ValueError for all that `write_index` does not write."""
    path = os.path.join(entry, INDEX)
    checked_ns = os.lstat(path).st_mtime_ns
    first, *lines = read_whole(path, _MOST_BYTES, follow=False).decode("utf-8").split("\n")
    if lines[-2:] != [_END, ""]:
        raise ValueError("the index of a shared package has no end")
    row = parse_object(first)
    scripts = row.get("scripts")
    if not isinstance(scripts, dict) or not all(isinstance(sha256, str) for sha256 in scripts.values()):
        raise ValueError("the scripts of a shared package are of another type")
    return SharedIndex(SharedHead(str(row.get("contents")), str(row.get("record")), scripts), lines[:-2], checked_ns)


def files_of(index: SharedIndex) -> Iterator[SharedFile]:
    """Raises ValueError for a line that is none, and for what would be outside of a build."""
    folder = ""
    for line in index.lines:
        if line.startswith("/"):
            folder = folder_of(line)
            continue
        sha256, mode, size, mtime_ns, inode, name = line.split(" ", 5)
        if "/" in name:
            raise ValueError(f"{name!r} is no name of a file")
        yield SharedFile(folder, name, sha256, int(mode, 8), int(size), int(mtime_ns), int(inode))


def folder_of(line: str) -> str:
    folder = line[1:]
    if not folder or {"", ".", ".."} & set(folder.split("/")):
        raise ValueError(f"{folder!r} is no directory of a build")
    return folder
