"""Bytecode that is compiled once for each wheel and interpreter, and shared by builds as the sources are.

uv links the files of a wheel from its cache into each build, so a source has the same inode, size and time in all of
them, and what Python compiled from it in one build is valid in the next. (Python compares the size and time of the
source with those in the bytecode, and sets the path in it on loading.) The store is beside uv's cache:

    <root>/.cache/bytecode/<version of Python>/<distribution>-<digest of its files>/
        index.json                                          the sha256 of each file of bytecode, by its path
        tensorflow/__pycache__/__init__.cpython-310.pyc     linked from the build that compiled it

A file is linked into a build only if it has its sha256 and is valid for the source that is there: somebody who edits
bytecode in place in one build changes it in the store, too.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import struct
from typing import Iterable, Iterator, NamedTuple

from ..errors import BusyError, UnwritableError
from ..io.flock import exclusive_lock
from ..io.reading import read_json, read_whole
from ..io.writing import write_new
from ..records.distributions import contents_digest, distributions_in, read_rows

_LOCK = ".lock"
# Another run holds the lock as long as it links some thousand files.
_MOST_SECONDS = 60
_INDEX = "index.json"
_INDEX_BYTES = 64 << 20
BYTECODE_BYTES = 64 << 20
_VERSION = re.compile(r"^version_info *= *(?P<version>(?P<major>\d+)\.(?P<minor>\d+)\.[\w.+]+) *$", re.MULTILINE)


class Store(NamedTuple):
    """The bytecode of one version of Python; `tag` is the one in the names of its files ("cpython-310")."""

    path: str
    lock: str
    tag: str


class _Distribution(NamedTuple):
    name: str
    entry: str
    sources: tuple[str, ...]


def find_store(cache: str | None, build: str) -> Store | None:
    """The store beside uv's cache for the interpreter of a venv; None if there is no cache or the version is unknown.

    The whole version counts, since bytecode may differ between the pre-releases of one minor.
    """
    if cache is None:
        return None
    try:
        matched = _VERSION.search(read_whole(os.path.join(build, "pyvenv.cfg"), 1 << 20, follow=False).decode("utf-8"))
    except (OSError, ValueError):
        return None
    if not matched:
        return None
    caches = os.path.dirname(cache)
    return Store(
        os.path.join(caches, "bytecode", matched.group("version")),
        os.path.join(caches, "bytecode", _LOCK),
        f"cpython-{matched.group('major')}{matched.group('minor')}",
    )


def link_bytecode(store: Store, site_packages: str, packages: Iterable[str]) -> list[str]:
    """Link what the store has into a build; gives back the packages that have to be compiled."""
    return [
        found.name for found in _with_sources(store, site_packages, packages) if not _link(store, site_packages, found)
    ]


def known_digests(store: Store, site_packages: str, packages: Iterable[str]) -> dict[str, str]:
    """The sha256 of each file of bytecode that the store has of these packages, by its path below site-packages."""
    known: dict[str, str] = {}
    for found in _with_sources(store, site_packages, packages):
        try:
            known.update(read_json(os.path.join(found.entry, _INDEX), _INDEX_BYTES, follow=False))
        except (OSError, ValueError):
            continue
    return known


def keep_bytecode(store: Store, site_packages: str, packages: Iterable[str]) -> None:
    """Link the bytecode of these packages from a build into the store, in the place of what the store has of them.

    Nothing depends on the store: if another run writes to it, or it cannot be written, the next build compiles.
    """
    try:
        with exclusive_lock(store.lock, what=store.path):
            os.makedirs(store.path, mode=0o755, exist_ok=True)
            for name in os.listdir(store.path):
                if name.startswith("."):  # of a run that was killed
                    shutil.rmtree(os.path.join(store.path, name))
            for found in _with_sources(store, site_packages, packages):
                _keep(store, site_packages, found)
    except (BusyError, UnwritableError, OSError):
        pass


def find_unshared(directory: str) -> tuple[str, ...]:
    """The entries below `<root>/.cache/bytecode` of which no build shares a file."""
    entries = sorted(glob.glob(os.path.join(glob.escape(directory), "*", "*", "")))
    return tuple(entry.rstrip("/") for entry in entries if not any(map(_is_shared, _files_below(entry))))


def remove_unshared(directory: str) -> None:
    if os.path.isdir(directory):
        with exclusive_lock(os.path.join(directory, _LOCK), what=directory, wait=_MOST_SECONDS):
            for entry in find_unshared(directory):
                shutil.rmtree(entry)


def _files_below(directory: str) -> Iterator[str]:
    for path, _, files in os.walk(directory):
        for file in files:
            yield os.path.join(path, file)


def _is_shared(path: str) -> bool:
    return os.lstat(path).st_nlink > 1


def _with_sources(store: Store, site_packages: str, packages: Iterable[str]) -> Iterator[_Distribution]:
    installed = distributions_in(os.listdir(site_packages))
    for name in packages:
        for _, dist_info in installed.get(name, [])[:1]:
            rows = read_rows(os.path.join(site_packages, dist_info, "RECORD")) or []
            sources = tuple(row[0] for row in rows if row[0].endswith(".py") and ".." not in row[0].split("/"))
            entry = f"{dist_info[: -len('.dist-info')]}-{contents_digest(rows)[:16]}"
            if sources:
                yield _Distribution(name, os.path.join(store.path, entry), sources)


def _link(store: Store, site_packages: str, found: _Distribution) -> bool:
    """Whether all that the store has of a distribution was valid and linked."""
    try:
        index = read_json(os.path.join(found.entry, _INDEX), _INDEX_BYTES, follow=False)
        for source in found.sources:
            name = _bytecode_of(source, store.tag)
            if name not in index:
                continue  # a file that does not compile, as templates and tests of other grammars do
            kept, linked = os.path.join(found.entry, name), os.path.join(site_packages, name)
            data = read_whole(kept, BYTECODE_BYTES, follow=False)
            if hashlib.sha256(data).hexdigest() != index[name]:
                return False
            if data[4:16] != _validity(os.lstat(os.path.join(site_packages, source))):
                return False
            os.makedirs(os.path.dirname(linked), exist_ok=True)
            if os.path.lexists(linked):  # from the wheel, for the times of whoever made it
                os.unlink(linked)
            os.link(kept, linked)
    except (OSError, ValueError):
        return False
    return True


def _keep(store: Store, site_packages: str, found: _Distribution) -> None:
    # If uv copies, because the cache is on another file system, each build has times of its own.
    if os.lstat(os.path.join(site_packages, found.sources[0])).st_nlink < 2:
        return
    filling = os.path.join(store.path, f".{os.path.basename(found.entry)}")
    index = {}
    for source in found.sources:
        name = _bytecode_of(source, store.tag)
        compiled, kept = os.path.join(site_packages, name), os.path.join(filling, name)
        try:
            data = read_whole(compiled, BYTECODE_BYTES, follow=False)
        except OSError:
            continue
        if data[4:16] == _validity(os.lstat(os.path.join(site_packages, source))):
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            os.link(compiled, kept)
            index[name] = hashlib.sha256(data).hexdigest()
    if index:
        # Not synced, as nothing here is: what a power cut damages does not have the sha256 of the index, or no index.
        write_new(os.path.join(filling, _INDEX), json.dumps(index))
        if os.path.isdir(found.entry):
            shutil.rmtree(found.entry)
        os.rename(filling, found.entry)


def _bytecode_of(source: str, tag: str) -> str:
    directory, _, file = source.rpartition("/")
    return os.path.join(directory, "__pycache__", f"{file[: -len('.py')]}.{tag}.pyc")


def _validity(status: os.stat_result) -> bytes:
    """What bytecode has, behind its magic number, if it is valid for a source: PEP 552's flags of 0, time and size."""
    return struct.pack("<III", 0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
