"""Build what a lock has from source: from files with the lock's hashes, in a process that has no network."""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..io.commands import run
from ..io.downloads import Source
from ..io.index import read_page, sha256_of
from ..io.reading import read_whole
from ..io.trust import private_directory
from ..io.uv import DEFAULT_INDEX, INDEX_VARIABLE, uv_environment
from ..io.writing import write_bytes, write_new
from ..records.lockfile import Distribution, Lock

if TYPE_CHECKING:
    from .installing import BuildLog, Installer

_SETTINGS = "tensorflow_index_url"
# Of an archive of sources that is kept.
_MOST_BYTES = 1 << 30
# As root, and as a user for whom the kernel makes a network of its own.
_WITHOUT_NETWORK = (["unshare", "--net"], ["unshare", "--user", "--map-current-user", "--net"])


def build_sources(lock: Lock, installer: Installer, path: str, log: BuildLog) -> None:
    """Install into the venv at `path` what the lock has from source, before anything large is fetched."""
    own = [found for found in lock.distributions if found.from_source]
    log.say(f"Building {', '.join(found.name for found in own)} from source")
    with private_directory("tensorflow-sources-") as directory:
        for found in (*own, *lock.built_with):
            _fetch(found, installer, directory)
        lines = os.path.join(directory, "sources.txt")
        write_new(lines, dataclasses.replace(lock, distributions=tuple(own), built_with=()).text)
        limits = os.path.join(directory, "built-with.txt")
        write_new(limits, lock.build_constraints)
        command = [str(installer.uv), "pip", "install", "--python", os.path.join(path, "bin", "python"), "--no-deps"]
        command += ["--offline", "--no-index", "--find-links", directory, "--require-hashes", "--no-cache"]
        command += [option for found in own for option in ("--no-binary", found.name)]
        command += ["--build-constraints", limits, "-r", lines]
        alone = without_network()
        if not alone:
            log.say("This node does not let a process go without a network: the build could reach it")
        try:
            log.run([*alone, *command], {**uv_environment(), "UV_OFFLINE": "1"})
        except BuildError as error:
            names = ", ".join(found.name for found in own)
            raise BuildError(
                f"{names} could not be built from source: {error.message} Take it out of tensorflow_source_builds, or "
                "put a wheel of it on an index of your own (tensorflow_index_url).",
                **error.details,
            ) from error


def without_network() -> list[str]:
    """The command in front of another that takes the network from it; empty if this node has none."""
    for command in _WITHOUT_NETWORK:
        if shutil.which(command[0]) is None:
            continue
        if run([*command, "true"]).code == 0:
            return list(command)
    return []


def _fetch(found: Distribution, installer: Installer, directory: str) -> None:
    """Put a file of the index with one of the lock's hashes into `directory`; kept in the cache for the next build."""
    kept = os.path.join(installer.cache, "sources") if installer.cache else None
    for sha256 in found.hashes if kept else ():
        place = os.path.join(str(kept), sha256)
        if os.path.isdir(place) and os.listdir(place):
            name = os.listdir(place)[0]
            Source("file://" + place, name="cache", settings=_SETTINGS).save(
                "file://" + os.path.join(place, name),
                os.path.join(directory, name),
                what=name,
                sha256=sha256,
                size=None,
            )
            return
    if installer.offline:
        raise BuildError(
            f"{found.name} {found.version}, which is built from source or needed for that, is not in the cache. Unset "
            "tensorflow_offline for one run."
        )
    source = Source(
        installer.index_url or os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX, name="package index", settings=_SETTINGS
    )
    rows = read_page(source, found.name) or []
    row = next((row for row in rows if sha256_of(row) in found.hashes), None)
    if row is None:
        raise BuildError(
            f"The package index {source.shown} has no file of {found.name} {found.version} with a hash of the lock. "
            f"Set {_SETTINGS} to one that has."
        )
    sha256 = str(sha256_of(row))
    # An index may name a file as it likes.
    name = os.path.basename(row["filename"])
    path = os.path.join(directory, name)
    source.save(row["url"], path, what=name, sha256=sha256, size=row.get("size"))
    if kept:
        try:
            os.makedirs(os.path.join(kept, sha256), exist_ok=True)
            write_bytes(os.path.join(kept, sha256, name), read_whole(path, _MOST_BYTES))
        except OSError:
            # Only saves the next download.
            shutil.rmtree(os.path.join(kept, sha256), ignore_errors=True)
