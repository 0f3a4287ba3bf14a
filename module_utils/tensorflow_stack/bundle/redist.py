"""NVIDIA's archives in a bundle, and the manifests (redistrib_<version>.json) that NVIDIA publishes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import StackError
from ..io.downloads import Source
from ..io.reading import parse_object
from ..io.writing import write_bytes
from .fetching import Shelf, Wanted
from .manifest import BundledFile
from .needs import BundleNeed

DIRECTORY = "redist"
_MOST_BYTES = 16 << 20
# Of NVIDIA's paths, what a manifest's own are below.
_BELOW = "/redist/"


@dataclass(frozen=True)
class PublishedManifest:
    """As it was fetched from `url`; `path` is below the bundle."""

    path: str
    url: str
    body: bytes


def find_archives(needs: Sequence[BundleNeed], mirror: str | None) -> list[Wanted]:
    found = []
    for need in needs:
        if need.kind != "archive" or not need.url:
            continue
        source = _source(mirror or need.url.removesuffix(need.path))
        path, url = f"{DIRECTORY}/{need.path}", f"{source.shown}/{need.path}"
        found.append(Wanted(path, url, need.sha256s[0], need.bytes or None, source, "archive", need.name, need.version))
    return found


def read_manifests(plans: Sequence[Mapping[str, Any]], mirror: str | None) -> list[PublishedManifest]:
    """Those of the plans' archives that the server has; a node needs none of them, since the table has the hashes.

    Raises StackError for one that has another hash of an archive than the table.
    """
    found: dict[str, PublishedManifest] = {}
    for plan in plans:
        for part in (plan["cuda"], plan["cudnn"]):
            if not part or part["source"] != "redist":
                continue
            source = _source(mirror or part["url"])
            for above in {row["relative_path"].rpartition(_BELOW)[0] for row in part["archives"]} - {""}:
                place = f"{above}{_BELOW}redistrib_{part.get('version')}.json"
                if f"{DIRECTORY}/{place}" in found:
                    continue
                answer = source.find(f"{source.shown}/{place}", what=place, limit=_MOST_BYTES)
                if answer is not None:
                    check_manifest(answer.body, place, part["archives"], above + _BELOW)
                    url = f"{source.shown}/{place}"
                    found[f"{DIRECTORY}/{place}"] = PublishedManifest(f"{DIRECTORY}/{place}", url, answer.body)
    return list(found.values())


def write_manifests(shelf: Shelf, manifests: Sequence[PublishedManifest]) -> list[BundledFile]:
    """When the archives are there."""
    written = []
    for one in manifests:
        target = shelf.path_of(one.path)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        write_bytes(target, one.body)
        written.append(shelf.file_at(one.path, kind="index", name="nvidia-redist", source=one.url))
    return written


def check_manifest(body: bytes, name: str, archives: Sequence[Mapping[str, Any]], above: str) -> None:
    """Raises StackError unless its hashes of these archives are those of the table. Its paths are below `above`."""
    try:
        published = dict(_rows_of(parse_object(body)))
    except ValueError as error:
        raise StackError(
            f"{name} is no manifest of NVIDIA's: {error}. Set nvidia_redist_url to another mirror."
        ) from error
    for row in archives:
        sha256 = published.get(row["relative_path"].removeprefix(above), row["sha256"])
        if sha256.lower() != row["sha256"].lower():
            raise StackError(
                f"{name} has another sha256 of {row['relative_path']} than the table: {sha256}, not {row['sha256']}. "
                "Set nvidia_redist_url to another mirror."
            )


def _rows_of(content: Any) -> Iterator[tuple[str, str]]:
    """Path and sha256 of every archive, at whatever depth: cuDNN has a level more than CUDA."""
    if isinstance(content, dict):
        path, sha256 = content.get("relative_path"), content.get("sha256")
        if isinstance(path, str) and isinstance(sha256, str):
            yield path, sha256
        for value in content.values():
            yield from _rows_of(value)


def _source(url: str) -> Source:
    return Source(url.rstrip("/"), name="server of NVIDIA's archives", settings="nvidia_redist_url")
