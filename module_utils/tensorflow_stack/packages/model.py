"""What is asked for, what is installed, what a transaction would do, and why one is refused. Pure.

A package is named as apt names it: `libcuda1`, and `libcuda1:i386` if it is of another architecture than the node.

- component: the driver, CUDA or cuDNN. Its packages are those whose names match its patterns.
- closure: the packages of a component that the requested ones need, and these, each at one version.
- transaction: everything that the package manager does at once, from the versions that are installed to the closure.
- upstream version: what the packaged software calls itself, without the epoch and the packager's revision.
- hold: keeps a package at its version (a hold of dpkg, a lock of dnf's versionlock). Ours are those that this toolkit
  placed and has recorded, foreign ones are somebody else's.
- drift: how the node differs from what was recorded.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from ..errors import RefusedError

Compare = Callable[[str, str], int]


@dataclass(frozen=True)
class WantedPackage:
    """`version` is a version, a pattern of fnmatch, or None for any."""

    name: str
    version: str | None = None


@dataclass(frozen=True)
class PackageRequest:
    """`name_patterns` are of fnmatch, for the names of the component's packages; `stream` is `module:stream` of dnf."""

    component: str
    source: str
    packages: tuple[WantedPackage, ...]
    name_patterns: tuple[str, ...]
    branch: str | None = None
    allow_downgrade: bool = False
    stream: str | None = None

    def __str__(self) -> str:
        return ", ".join(f"{one.name} {one.version}" if one.version else one.name for one in self.packages)


@dataclass(frozen=True)
class ResolvedPackage:
    name: str
    version: str
    architecture: str


@dataclass(frozen=True)
class InstalledPackage(ResolvedPackage):
    """`trouble` is empty, or names the state in which an interrupted installation left the package.

    One that only `waits_for_trigger` is whole, and a trigger of another package has still to run.
    """

    held: bool = False
    trouble: str = ""
    needs_unpacking: bool = False
    waits_for_trigger: bool = False
    provides: tuple[str, ...] = ()
    depends: str = ""


@dataclass(frozen=True)
class Transaction:
    """Names with their versions; of what is removed, the version that was installed."""

    install: Mapping[str, str] = field(default_factory=dict)
    upgrade: Mapping[str, str] = field(default_factory=dict)
    downgrade: Mapping[str, str] = field(default_factory=dict)
    remove: Mapping[str, str] = field(default_factory=dict)
    reinstall: Mapping[str, str] = field(default_factory=dict)

    @property
    def resulting_versions(self) -> dict[str, str]:
        """Of every package that it unpacks."""
        return {**self.install, **self.upgrade, **self.downgrade, **self.reinstall}

    def __bool__(self) -> bool:
        return bool(self.resulting_versions or self.remove)

    def texts(self) -> dict[str, list[str]]:
        kinds = ("install", "upgrade", "downgrade", "remove", "reinstall")
        return {kind: sorted(f"{name}={version}" for name, version in getattr(self, kind).items()) for kind in kinds}


@dataclass(frozen=True)
class StreamChange:
    """What happens to a module of dnf: which stream is enabled before and after, None for none."""

    module: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class ClosurePlan:
    """`closure` is sorted by name; `stream` is None unless the stream of a module changes."""

    closure: tuple[ResolvedPackage, ...]
    transaction: Transaction
    stream: StreamChange | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.transaction or self.stream)


@dataclass(frozen=True)
class PackageRefusal:
    reason: str
    packages: tuple[str, ...]
    message: str


def refuse(component: str, refusals: Sequence[PackageRefusal]) -> None:
    """Raises RefusedError if there are any."""
    if refusals:
        raise refused(component, refusals)


def refused(component: str, refusals: Sequence[PackageRefusal]) -> RefusedError:
    rows = [
        {"component": component, "reason": row.reason, "packages": list(row.packages), "message": row.message}
        for row in refusals
    ]
    return RefusedError(" ".join(row.message for row in refusals) + " Nothing was changed.", refusals=rows)


def without_architecture(name: str) -> str:
    return name.partition(":")[0]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a package is one of a component, by the component's patterns."""
    return any(fnmatch.fnmatchcase(without_architecture(name), pattern) for pattern in patterns)


def sort_transaction(
    versions: Mapping[str, str], removed: Mapping[str, str], before: Mapping[str, InstalledPackage], compare: Compare
) -> Transaction:
    """The transaction that leads to these versions."""
    kinds: dict[str, dict[str, str]] = {"install": {}, "upgrade": {}, "downgrade": {}, "reinstall": {}}
    for name, version in versions.items():
        old = before.get(name)
        direction = compare(version, old.version) if old else 0
        kind = "install" if not old else {-1: "downgrade", 0: "reinstall", 1: "upgrade"}[direction]
        kinds[kind][name] = version
    return Transaction(remove=dict(removed), **kinds)
