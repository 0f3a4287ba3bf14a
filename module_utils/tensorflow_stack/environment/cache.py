"""What a root of environments takes on disk, and giving back what none of its builds needs.

A build that is damaged is built again from its lock, without a network, as long as uv's cache has its wheels. So those
of every build stay, also of one that is being built. Files that a build shares with the cache take their place once.
"""

from __future__ import annotations

import glob
import os
from typing import Iterable, NamedTuple

from ..errors import BuildError, StackError
from ..io.reading import read_whole
from ..io.uv import CachedWheel, list_cached, prune_cache
from ..records.build import read_record
from ..records.image_note import read_note
from ..records.lockfile import LOCK_BYTES, parse_lock
from .builds import environment_names
from .images import file_bytes
from .root import check_root
from .shared_store import find_unneeded, remove_unneeded


class Place(NamedTuple):
    """A directory, what is in it, and the bytes that its removal would free: not those of files that others share."""

    path: str
    what: str
    bytes: int


class CacheOutcome(NamedTuple):
    """The places that take space, and what was, or in check mode would be, removed: wheels, directories of packages."""

    places: tuple[Place, ...]
    wheels: tuple[CachedWheel, ...]
    packages: tuple[str, ...]
    freed_bytes: int
    cache_bytes: int  # afterwards, of wheels and packages that no build shares


def list_places(root: str) -> tuple[Place, ...]:
    """Reads only."""
    check_root(root)
    live = {os.path.realpath(os.path.join(root, name)) for name in environment_names(root)}
    places = [(os.path.join(root, ".cache"), "wheels and installed packages that no build shares")]
    for path in sorted(glob.glob(os.path.join(glob.escape(root), ".builds", "*", ""))):
        build = path.rstrip("/")
        state = "not complete" if read_record(build) is None else "in use" if build in live else "to roll back to"
        places.append((build, f"{'a build' if read_note(build) is None else 'an image'}, {state}"))
    places += [
        (path.rstrip("/"), "a downloaded Python")
        for path in sorted(glob.glob(os.path.join(glob.escape(root), ".pythons", "*", "")))
        if not os.path.islink(path.rstrip("/"))
    ]
    places += [
        (os.path.join(root, ".tools"), "the pinned uv"),
        (root, "all, with what builds and cache share"),
    ]
    return tuple(Place(path, what, _own_bytes(path)) for path, what in places if os.path.isdir(path))


def find_superfluous(root: str) -> tuple[CachedWheel, ...]:
    """The cached wheels of which no build has the version."""
    needed = _needed(root)
    wheels = list_cached(os.path.join(root, ".cache", "uv"))
    return tuple(wheel for wheel in wheels if (wheel.name, wheel.version) not in needed)


def find_superfluous_packages(root: str) -> tuple[str, ...]:
    """What the store of shared packages has and no build contains, by its path."""
    return find_unneeded(os.path.join(root, ".cache"), _needed(root))


def _needed(root: str) -> set[tuple[str, str]]:
    """Name and version of each package of a build."""
    needed = set()
    for build in glob.glob(os.path.join(glob.escape(root), ".builds", "*", "")):
        record = read_record(build.rstrip("/"))
        # An image is fetched again as a whole.
        if record is None or "image" not in record:
            needed |= set(record["packages"].items() if record else _locked(build))
    return needed


def plan_prune(root: str) -> CacheOutcome:
    """What prune would remove; the bytes are not known beforehand. Reads only."""
    cache = os.path.join(root, ".cache")
    return CacheOutcome(
        list_places(root), find_superfluous(root), find_superfluous_packages(root), 0, _own_bytes(cache)
    )


def is_over(root: str, limit: int) -> bool:
    """Whether the cache takes more bytes than it may; without a limit (0) it always does."""
    return not limit or _own_bytes(os.path.join(root, ".cache")) > limit


def prune(root: str, uv: str) -> CacheOutcome:
    check_root(root)
    cache = os.path.join(root, ".cache")
    before = _own_bytes(cache)
    wheels, packages = find_superfluous(root), find_superfluous_packages(root)
    try:
        for path in (path for wheel in wheels for path in wheel.paths):
            os.unlink(path)
        remove_unneeded(cache, _needed(root))
    except OSError as error:
        raise BuildError(
            f"{error.filename} cannot be removed: {error.strerror}. Run as the owner of {root}.", path=error.filename
        ) from error
    prune_cache(uv, os.path.join(cache, "uv"))
    after = _own_bytes(cache)
    return CacheOutcome(list_places(root), wheels, packages, max(0, before - after), after)


def _locked(build: str) -> Iterable[tuple[str, str]]:
    """What a build that is not complete, or whose record cannot be read, is installed from."""
    path = os.path.join(build, "lock.txt")
    try:
        return parse_lock(read_whole(path, LOCK_BYTES, follow=False).decode("utf-8"), path=path).packages.items()
    except (OSError, ValueError, StackError):
        return ()


def _own_bytes(directory: str) -> int:
    """Of the files below it all of whose names are below it; of an image, of its file."""
    note = read_note(directory)
    if note is not None:
        return file_bytes(os.path.dirname(os.path.dirname(directory)), note)
    names: dict[tuple[int, int], list[int]] = {}
    for path, folders, files in os.walk(directory):
        # What is mounted takes no place of its own.
        if os.path.basename(path) == ".builds":
            folders[:] = [folder for folder in folders if read_note(os.path.join(path, folder)) is None]
        for file in files:
            try:
                status = os.lstat(os.path.join(path, file))
            except OSError:
                continue  # a run that goes on here
            row = names.setdefault((status.st_dev, status.st_ino), [0, status.st_nlink, status.st_blocks * 512])
            row[0] += 1
    return sum(size for seen, links, size in names.values() if seen >= links)
