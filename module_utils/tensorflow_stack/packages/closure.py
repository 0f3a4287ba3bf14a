"""Which version a package of the closure gets. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..records.component import upstream_version
from .model import (
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    WantedPackage,
    refuse,
    refused,
    without_architecture,
)


def fits(version: str, pattern: str | None) -> bool:
    """Whether a version is the one asked for; an epoch need not be named."""
    if pattern is None:
        return True
    return any(
        text == pattern or fnmatch.fnmatchcase(text, pattern)
        for text in (version, version.partition(":")[2] or version)
    )


@dataclass(frozen=True)
class Branch:
    """`versions` are the driver's own, of all branches.

    Debian builds tools from sources of their own (nvidia-modprobe 570 beside the driver 550): these have the shape of
    another branch's version, but there is no driver of that version.
    """

    number: str | None
    versions: frozenset[str] = frozenset()

    @classmethod
    def of(cls, number: str | None, *, requested: Iterable[str], available: Mapping[str, Sequence[str]]) -> Branch:
        """From the versions of all packages that are available at a requested version."""
        wanted = {upstream_version(version) for version in requested}
        rows = [{upstream_version(version) for version in versions} for versions in available.values()]
        return cls(number, frozenset().union(*(row for row in rows if row & wanted)))

    def is_other(self, version: str) -> bool:
        """`20220217` is no branch's version, nor is `1.2.2`: a branch has as many digits."""
        leading = re.match(r"\d*", upstream_version(version)).group()  # type: ignore[union-attr]  # matches always
        return self.number is not None and len(leading) == len(self.number) and leading != self.number

    def is_left_by(self, name: str, version: str) -> bool:
        named = re.findall(r"(?<=-)\d{3}(?=-|$)", without_architecture(name))
        if self.number is not None and named and self.number not in named:
            return True
        return self.is_other(version) and upstream_version(version) in self.versions


def choose_version(
    wanted: WantedPackage, *, available: Sequence[str], recorded: str | None, installed: str | None
) -> str | PackageRefusal:
    """One exact version. The recorded or installed one is kept if it fits, so that a newer one changes nothing."""
    for version in (recorded, installed):
        if version is not None and fits(version, wanted.version) and version in (*available, installed):
            return version
    for version in available:
        if fits(version, wanted.version):
            return version
    found = ", ".join(available) or "none"
    asked = f"{wanted.name} {wanted.version}" if wanted.version else wanted.name
    return PackageRefusal(
        "vanished",
        (wanted.name,),
        f"The package repositories of this node do not have {asked}; they have: {found}. "
        "Request one of these, or add a repository that has it.",
    )


def choose_requested(
    request: PackageRequest,
    state: Mapping[str, InstalledPackage],
    *,
    available: Mapping[str, Sequence[str]],
    recorded: Mapping[str, str],
) -> dict[str, str]:
    """A version for every package of a request. Raises RefusedError with all that are not available."""
    requested, refusals = {}, []
    chosen = _choose_driver(request, state, available=available, recorded=recorded) if request.branch else {}
    for one in request.packages:
        installed = state.get(one.name)
        version = chosen.get(one.name) or choose_version(
            one,
            available=available.get(one.name, ()),
            recorded=recorded.get(one.name),
            installed=installed.version if installed else None,
        )
        if isinstance(version, PackageRefusal):
            refusals.append(version)
        else:
            requested[one.name] = version
    refuse(request.component, refusals)
    return requested


def _choose_driver(
    request: PackageRequest,
    state: Mapping[str, InstalledPackage],
    *,
    available: Mapping[str, Sequence[str]],
    recorded: Mapping[str, str],
) -> dict[str, str]:
    """One version for all packages that have the driver's versions: none works with another, nor does Fabric Manager.

    Packages with version numbers of their own are not among them. Raises RefusedError if they have none in common.
    """
    fitting: dict[str, dict[str, str]] = {}  # by name: the package's versions by upstream version
    for one in request.packages:
        installed = state.get(one.name)
        versions = [recorded.get(one.name), installed.version if installed else None, *available.get(one.name, ())]
        known = {*available.get(one.name, ()), *([installed.version] if installed else [])}
        found = fitting.setdefault(one.name, {})
        for version in versions:
            if version in known and version is not None and fits(version, one.version):
                found.setdefault(upstream_version(version), version)
    first = fitting[request.packages[0].name]
    of_driver = {name: found for name, found in fitting.items() if found.keys() & first.keys()}
    for number in first:
        if all(number in found for found in of_driver.values()):
            return {name: found[number] for name, found in of_driver.items()}
    if first:
        versions_found = "; ".join(f"{name} has {', '.join(found.values())}" for name, found in of_driver.items())
        refusal = PackageRefusal(
            "vanished",
            tuple(of_driver),
            f"The packages of the driver must have the same version, but the repositories of this node have none that "
            f"fits {request}: {versions_found}. Request another one, or add a repository that has all of them.",
        )
        raise refused(request.component, [refusal])
    return {}


def rank(
    name: str,
    versions: Sequence[str],
    *,
    requested: Iterable[str],
    recorded: str | None,
    installed: str | None,
    branch: Branch,
) -> list[str]:
    """The versions that a package of the closure may have, the best first.

    First that of a requested package: NVIDIA's dependencies allow newer versions (`libnvidia-ml1 (>= 535)`) although
    only the same one works. Then the recorded version, the installed one, and the newest.
    """
    known = [version for version in (recorded, installed) if version and version in (*versions, installed)]
    inside = [version for version in [*known, *versions] if not branch.is_left_by(name, version)]
    inside.sort(key=branch.is_other)  # stable: tools with version numbers of their own come last
    requested = list(requested)
    same = [version for version in inside if version in requested]
    same_upstream = with_upstream_version_of(requested, inside)
    return list(dict.fromkeys([*same, *same_upstream, *inside]))


def with_upstream_version_of(requested: Iterable[str], versions: Iterable[str]) -> list[str]:
    """Those of the versions that have the upstream version of a requested one."""
    wanted = {upstream_version(version) for version in requested}
    return [version for version in versions if upstream_version(version) in wanted]


def can_move_to(requested: Iterable[str], versions: Iterable[str], *, installed: str) -> bool:
    """Whether a package is installed at another upstream version than the requested ones, and available at theirs."""
    requested = list(requested)
    return not with_upstream_version_of(requested, [installed]) and bool(with_upstream_version_of(requested, versions))
