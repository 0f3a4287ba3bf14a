"""Which packages of an index of apt a node needs that has none of them, and what the index says of them. Pure.

The code that chooses the closure on a node chooses it here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import StackError
from ..packages.closure import Branch, choose_requested
from ..packages.debian import Index, close, compare_versions, parse_stanzas
from ..packages.model import PackageRefusal, PackageRequest, WantedPackage

# Debian's names of architectures.
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}
_HASHES = re.compile(r"^ (?P<sha256>[0-9a-f]{64}) +(?P<bytes>\d+) +(?P<name>\S+)$", re.MULTILINE)
_FIELDS = re.compile(r"^(Package|Version|Architecture|Filename|SHA256|Size|Provides): *(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class IndexedPackage:
    """A package of a repository: where it is below it, and by which sha256 the signed index knows it."""

    name: str
    version: str
    path: str
    sha256: str
    bytes: int
    provides: frozenset[str] = frozenset()


def read_release(text: str) -> dict[str, tuple[str, int]]:
    """Of each index that a Release file lists, the sha256 and the size."""
    part = text.partition("\nSHA256:\n")[2]
    return {
        row["name"].removeprefix("./"): (row["sha256"], int(row["bytes"]))
        for row in _HASHES.finditer(part.split("\n-----BEGIN")[0])
    }


def read_packages(text: str, architecture: str) -> dict[tuple[str, str], IndexedPackage]:
    """By name and version."""
    found = {}
    for part in text.split("\n\n"):
        fields = dict(_FIELDS.findall(part))
        if fields.get("Architecture") in (NATIVE[architecture], "all") and fields.keys() >= {"Filename", "SHA256"}:
            one = IndexedPackage(
                fields["Package"],
                fields["Version"],
                fields["Filename"].removeprefix("./"),
                fields["SHA256"],
                int(fields["Size"]),
                frozenset(re.findall(r"(?:^|,)\s*([^\s,(]+)", fields.get("Provides", ""))),
            )
            found[one.name, one.version] = one
    return found


def choose_packages(text: str, component: str, part: Mapping[str, Any], architecture: str) -> list[IndexedPackage]:
    """The closure of one component of a plan, and what apt may choose for virtual packages of it."""
    stanzas = parse_stanzas(text, native=NATIVE[architecture])
    available: dict[str, list[str]] = {}
    for name, version in stanzas:
        available.setdefault(name, []).append(version)
    for versions in available.values():
        _sort(versions)
    request = PackageRequest(
        component=component,
        source=part["source"],
        packages=tuple(WantedPackage(row["name"], row["version"]) for row in part["packages"]),
        name_patterns=tuple(part["belongs"]),
        branch=part.get("branch"),
    )
    # Those that a repository does not have are the distribution's.
    own = tuple(one for one in request.packages if one.name in available)
    if not own:
        return []
    request = PackageRequest(**{**request.__dict__, "packages": own})
    requested = choose_requested(request, {}, available=available, recorded={})
    index = Index(
        available=available,
        installed={},
        stanza=lambda name, version: stanzas[name, version],
        # Whatever this repository has of what is needed comes from it.
        name_patterns=("*",),
        branch=Branch.of(request.branch, requested=requested.values(), available=available),
        recorded={},
    )
    rows = read_packages(text, architecture)
    also: set[str] = set()
    while True:
        closure = close(requested, index, sorted(also))
        if isinstance(closure, PackageRefusal):
            raise StackError(f"The packages of {component} cannot be bundled: {closure.message}")
        further = _providers(closure, index, rows, requested.values()) - closure.keys()
        if not further:
            return [rows[name, version] for name, version in sorted(closure.items())]
        also |= further


def _providers(
    closure: Mapping[str, str], index: Index, rows: Mapping[tuple[str, str], IndexedPackage], requested: Iterable[str]
) -> set[str]:
    """What apt may choose for virtual packages: all at the version of the requested packages that provide them."""
    virtual = {
        one.name
        for name, version in closure.items()
        for clause in index.depends(name, version)
        if index.alternative(clause, closure) is None
        for one in clause
    }
    return {name for name, version in index.matching(requested).items() if rows[name, version].provides & virtual}


def _sort(versions: list[str]) -> None:
    """The newest first."""
    versions.sort(key=functools.cmp_to_key(compare_versions), reverse=True)


def missing_packages(text: str, part: Mapping[str, Any], architecture: str) -> Sequence[str]:
    """Requested packages that are of another repository."""
    known = {name for name, _ in parse_stanzas(text, native=NATIVE[architecture])}
    return sorted(row["name"] for row in part["packages"] if row["name"] not in known)
