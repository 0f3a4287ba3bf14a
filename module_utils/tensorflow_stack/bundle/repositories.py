"""A part of a package repository: its index as its owner signed it, and of the packages those that plans need.

A package manager compares the index with the signature and each package with the index, so that a repository with fewer
packages is as trustworthy as the whole.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import StackError
from ..io.downloads import Source
from ..io.writing import write_bytes
from ..repositories.openpgp import armour, read_keys
from . import apt
from .apt import IndexedPackage
from .fetching import Shelf, Wanted
from .manifest import BundledFile
from .signing import find_gpg_fault

DIRECTORY = "repositories"
_MOST_BYTES = 256 << 20
_OPEN: Mapping[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True)
class RepositoryPart:
    """A repository of a plan, and by component what is installed from it."""

    row: Mapping[str, Any]
    url: str
    architecture: str
    parts: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        return str(self.row["name"])


@dataclass(frozen=True)
class Mirrored:
    """What a bundle is to have of a repository: signed indexes and keys as they are, and the packages."""

    indexes: Mapping[str, bytes]
    wanted: tuple[Wanted, ...]
    # Requested packages that are the distribution's own.
    left_out: tuple[str, ...]


def parts_of_plan(plan: Mapping[str, Any], url: str | None) -> list[RepositoryPart]:
    """NVIDIA's repositories of a plan. `url` is a mirror that takes the place of the plan's."""
    parts = {
        component: plan[component]
        for component in ("driver", "cuda", "cudnn")
        if plan[component] and plan[component]["source"] == "nvidia_repo"
    }
    architecture = str(plan["lock"]["architecture"])
    return [
        RepositoryPart(row, (url or row["url"]).rstrip("/"), architecture, parts)
        for row in plan["repositories"]
        if row["kind"] == "nvidia" and parts
    ]


def read_repository(part: RepositoryPart) -> Mirrored:
    """What is to be fetched; raises StackError unless the index is signed by the key of the plan."""
    source = Source(part.url, name=f"repository {part.name}", settings="nvidia_repository_url")
    key = _get(source, part.row["key"])
    _check_key(key, part)
    if part.row["manager"] == "dnf":
        raise StackError(
            f"The repository {part.name} is one of dnf, of which make bundle takes no packages. Mirror it with dnf "
            "reposync and set nvidia_repository_url to that, and set cuda_source and cudnn_source to wheels or redist."
        )
    return _read_apt(part, source, key)


def _read_apt(part: RepositoryPart, source: Source, key: bytes) -> Mirrored:
    indexes = {part.row["key"]: key}
    for name in ("InRelease", "Release", "Release.gpg"):
        answer = source.find(f"{source.shown}/{name}", what=name, limit=_MOST_BYTES)
        if answer is not None:
            indexes[name] = answer.body
    release = _signed_release(indexes, key, part)
    text = None
    for name, (sha256, size) in apt.read_release(release).items():
        matched = re.fullmatch(r"Packages(?P<packing>\.gz|\.xz|)", name)
        answer = source.find(f"{source.shown}/{name}", what=name, limit=size + 1) if matched else None
        if matched is None or answer is None:
            continue
        _check_digest(answer.body, sha256, name, part)
        indexes[name] = answer.body
        text = _OPEN[matched["packing"]](answer.body).decode("utf-8")
    if text is None:
        raise StackError(
            f"The repository {part.url} has no Packages, Packages.gz or Packages.xz that its Release lists."
        )
    packages: dict[str, IndexedPackage] = {}
    left_out: list[str] = []
    for component, one in part.parts.items():
        packages.update({row.path: row for row in apt.choose_packages(text, component, one, part.architecture)})
        left_out += apt.missing_packages(text, one, part.architecture)
    wanted = tuple(
        Wanted(
            f"{DIRECTORY}/{part.name}/{row.path}",
            f"{source.shown}/{row.path}",
            row.sha256,
            row.bytes,
            source,
            "package",
            row.name,
            row.version,
        )
        for row in packages.values()
    )
    return Mirrored(indexes, wanted, tuple(left_out))


def write_indexes(shelf: Shelf, part: RepositoryPart, mirrored: Mirrored) -> list[BundledFile]:
    """Last, when the packages are there: what has a new index has what it names."""
    written = []
    for name, body in mirrored.indexes.items():
        path = f"{DIRECTORY}/{part.name}/{name}"
        target = shelf.path_of(path)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        write_bytes(target, body)
        written.append(shelf.file_at(path, kind="index", name=part.name, source=f"{part.url}/{name}"))
    return written


# --- Signatures -----------------------------------------------------------------------------------


def _check_key(key: bytes, part: RepositoryPart) -> None:
    found = [one.fingerprint for one in read_keys(key)]
    wanted = [str(text).replace(" ", "").upper() for text in part.row["fingerprints"]]
    if not set(found) & set(wanted):
        raise StackError(
            f"The key {part.row['key']} of the repository {part.url} is {' and '.join(found) or 'none'}, not "
            f"{' or '.join(wanted)}. Set nvidia_repository_fingerprints if this mirror signs with a key of its own."
        )


def _signed_release(indexes: Mapping[str, bytes], key: bytes, part: RepositoryPart) -> str:
    """The text of the Release file that the key signed."""
    if "InRelease" in indexes:
        check_signed(indexes["InRelease"], None, key, what=f"{part.url}/InRelease")
        return indexes["InRelease"].decode("utf-8", "replace")
    if "Release" in indexes and "Release.gpg" in indexes:
        check_signed(indexes["Release"], indexes["Release.gpg"], key, what=f"{part.url}/Release")
        return indexes["Release"].decode("utf-8", "replace")
    raise StackError(f"The repository {part.url} has no InRelease, and no Release with a signature.")


def check_signed(body: bytes, signature: bytes | None, key: bytes, *, what: str) -> None:
    """Raises StackError unless the key signed the body, which has its signature in it or beside it."""
    with tempfile.TemporaryDirectory() as home:
        paths = {name: os.path.join(home, name) for name in ("key", "body", "signature")}
        write_bytes(paths["key"], armour(read_keys(key)))
        write_bytes(paths["body"], body)
        if signature is not None:
            write_bytes(paths["signature"], signature)
        files = [paths["body"]] if signature is None else [paths["signature"], paths["body"]]
        fault = find_gpg_fault(paths["key"], files, home)
    if fault:
        raise StackError(f"{what} is not signed by the repository's key: {fault}.")


def _check_digest(body: bytes, sha256: str, name: str, part: RepositoryPart) -> None:
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise StackError(
            f"{name} of the repository {part.url} is not what its signed Release says: expected sha256 {sha256}, found "
            f"{found}. The repository may just be changing: run again."
        )


def _get(source: Source, name: str) -> bytes:
    return source.get(f"{source.shown}/{name}", what=name, limit=_MOST_BYTES).body
