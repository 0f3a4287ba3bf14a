"""A part of a package repository: its index as its owner signed it, and of the packages those that plans need.

A package manager compares the index with the signature and each package with the index, so that a repository with fewer
packages is as trustworthy as the whole.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import StackError
from ..io.downloads import Source
from ..io.writing import write_bytes
from ..repositories.openpgp import armour, read_keys
from . import apt, dnf
from .apt import IndexedPackage
from .dnf import IndexedRpm, ListFile
from .fetching import Shelf, Wanted
from .manifest import BundledFile
from .signing import find_gpg_fault

DIRECTORY = "repositories"
_MOST_BYTES = 256 << 20
_OPEN: Mapping[str, Callable[[bytes], bytes]] = {
    **dict.fromkeys(("", ".xml", ".yaml"), bytes),
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
}
_REPOMD = "repodata/repomd.xml"


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
    _check_key(key, part, part.row["key"])
    return (_read_dnf if part.row["manager"] == "dnf" else _read_apt)(part, source, key)


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
        _check_digest(answer.body, sha256, name, "Release", part)
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
    return Mirrored(indexes, _wanted(part, source, packages.values()), tuple(left_out))


def _read_dnf(part: RepositoryPart, source: Source, key: bytes) -> Mirrored:
    """Every list that the signed repomd.xml names: dnf asks for those that it wants."""
    repomd = _get(source, _REPOMD)
    signature = source.find(f"{source.shown}/{_REPOMD}.asc", what=f"{_REPOMD}.asc", limit=_MOST_BYTES)
    if signature is None:
        raise StackError(f"The repository {part.url} has no {_REPOMD}.asc, which is the signature of its lists.")
    check_signed(repomd, signature.body, key, what=f"{part.url}/{_REPOMD}")
    indexes = {part.row["key"]: key}
    files = dnf.read_repomd(repomd, what=f"{part.url}/{_REPOMD}")
    for file in files:
        indexes[file.path] = _get(source, file.path)
        _check_digest(indexes[file.path], file.sha256, file.path, "repomd.xml", part)
    published = source.find(f"{source.shown}/{_REPOMD}.key", what=f"{_REPOMD}.key", limit=_MOST_BYTES)
    if published is not None:
        _check_key(published.body, part, f"{_REPOMD}.key")
        indexes[f"{_REPOMD}.key"] = published.body
    # Written last: whoever sees the new one finds all that it names.
    indexes.update({f"{_REPOMD}.asc": signature.body, _REPOMD: repomd})
    primary, modules = (_open_list(files, kind, indexes, part) for kind in ("primary", "modules"))
    if primary is None:
        raise StackError(f"{part.url}/{_REPOMD} names no primary.xml, so nobody knows the packages.")
    rows = dnf.read_primary(primary, part.architecture, what=f"The primary.xml of {part.url}")
    streams = dnf.read_streams((modules or b"").decode("utf-8", "replace"), what=f"The modules.yaml of {part.url}")
    # CUDA and cuDNN are installed when the driver's stream is enabled.
    shown = dnf.show_of_stream(rows, streams, part.parts.get("driver", {}).get("stream"))
    known = {row.name for row in rows}
    packages = {
        row.path: row
        for component, one in part.parts.items()
        for row in dnf.choose_packages(shown, component, one, known=known)
    }
    requested = {row["name"] for one in part.parts.values() for row in one["packages"]}
    return Mirrored(indexes, _wanted(part, source, packages.values()), tuple(sorted(requested - known)))


def _open_list(
    files: Iterable[ListFile], kind: str, indexes: Mapping[str, bytes], part: RepositoryPart
) -> bytes | None:
    path = next((file.path for file in files if file.kind == kind), None)
    if path is None:
        return None
    packing = os.path.splitext(path)[1]
    if packing not in _OPEN:
        raise StackError(
            f"{path} of the repository {part.url} is packed as {packing}, which make bundle cannot read. Set "
            "nvidia_repository_url to a mirror that packs it with gzip (createrepo_c --compress-type=gz)."
        )
    try:
        return _OPEN[packing](indexes[path])
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise StackError(f"{path} of the repository {part.url} cannot be unpacked: {error}.") from error


def _wanted(part: RepositoryPart, source: Source, rows: Iterable[IndexedPackage | IndexedRpm]) -> tuple[Wanted, ...]:
    return tuple(
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
        for row in rows
    )


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


def _check_key(key: bytes, part: RepositoryPart, name: str) -> None:
    found = [one.fingerprint for one in read_keys(key)]
    wanted = [str(text).replace(" ", "").upper() for text in part.row["fingerprints"]]
    if not set(found) & set(wanted):
        raise StackError(
            f"The key {name} of the repository {part.url} is {' and '.join(found) or 'none'}, not "
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


def _check_digest(body: bytes, sha256: str, name: str, index: str, part: RepositoryPart) -> None:
    """`index` is the signed one that has the sha256."""
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise StackError(
            f"{name} of the repository {part.url} is not what its signed {index} says: expected sha256 {sha256}, "
            f"found {found}. The repository may just be changing: run again."
        )


def _get(source: Source, name: str) -> bytes:
    return source.get(f"{source.shown}/{name}", what=name, limit=_MOST_BYTES).body
