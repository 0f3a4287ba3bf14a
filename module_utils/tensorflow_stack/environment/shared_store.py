"""Where the packages are that builds share, and which of them no build needs."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from typing import Container, Mapping, NamedTuple

from ..io.flock import exclusive_lock
from ..io.reading import read_whole
from ..records.lockfile import Distribution

_LOCK = ".lock"
# Another run holds the lock as long as it links some thousand files.
_MOST_SECONDS = 60
_VERSION = re.compile(
    r"^version_info *= *(?P<version>(?P<major>[0-9]{1,4})\.(?P<minor>[0-9]{1,4})\.[\w.+]+) *$", re.MULTILINE
)
_DIGEST = 16
# Before that the head of a file of bytecode does not say how it is compared with its source.
# fact: PEP 552, Python 3.7, 2026-11-27
_OLDEST = (3, 7)


class Store(NamedTuple):
    """The packages for one version of Python; `tag` is the one in the names of its bytecode ("cpython-310")."""

    path: str
    lock: str
    tag: str


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
    if not matched or (int(matched.group("major")), int(matched.group("minor"))) < _OLDEST:
        return None
    installed = os.path.join(os.path.dirname(cache), "installed")
    return Store(
        os.path.join(installed, matched.group("version")),
        os.path.join(installed, _LOCK),
        f"cpython-{matched.group('major')}{matched.group('minor')}",
    )


def entry_of(store: Store, distribution: Distribution) -> str:
    """Of a line of a lock: what is right for one with these hashes is so for each other one with the same."""
    line = f"{distribution.name}=={distribution.version} {' '.join(sorted(distribution.hashes))}"
    digest = hashlib.sha256(line.encode("utf-8")).hexdigest()
    return os.path.join(store.path, f"{distribution.name}-{distribution.version}-{digest[:_DIGEST]}")


def entries_of(store: Store, packages: Mapping[str, str]) -> list[str]:
    names = (glob.escape(os.path.join(store.path, f"{name}-{version}-")) for name, version in packages.items())
    return [entry for name in names for entry in sorted(glob.glob(name + "?" * _DIGEST))]


def find_unneeded(caches: str, needed: Container[tuple[str, str]]) -> tuple[str, ...]:
    """The entries below `<root>/.cache/installed` of which no build has the name and version.

    An earlier version of this toolkit kept bytecode alone, in a directory that no build is made from any more.
    """
    entries = sorted(glob.glob(os.path.join(glob.escape(caches), "installed", "*", "*")))
    unneeded = [entry for entry in entries if tuple(os.path.basename(entry).rsplit("-", 2)[:2]) not in needed]
    return (*unneeded, *sorted(glob.glob(os.path.join(glob.escape(caches), "bytecode"))))


def remove_unneeded(caches: str, needed: Container[tuple[str, str]]) -> None:
    installed = os.path.join(caches, "installed")
    if os.path.isdir(installed):
        with exclusive_lock(os.path.join(installed, _LOCK), what=installed, wait=_MOST_SECONDS):
            for entry in find_unneeded(caches, needed):
                shutil.rmtree(entry)
