"""Pure: which package is wanted at which version, and what a transaction must not do.

A package is named as apt names it: `libcuda1`, and `libcuda1:i386` where it is of another architecture than the node.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from ..errors import RefusedError

Compare = Callable[[str, str], int]


@dataclass(frozen=True)
class Wanted:
    """`version` is a version, a pattern of fnmatch, or None for any."""

    name: str
    version: str | None = None


@dataclass(frozen=True)
class Request:
    component: str
    source: str
    packages: tuple[Wanted, ...]
    belongs: tuple[str, ...]
    branch: str | None = None
    allow_downgrade: bool = False


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    architecture: str


@dataclass(frozen=True)
class Installed(Package):
    """`trouble` is empty, or says in what state its installation was left.

    A `mess` has to be unpacked anew. What only `waits` is whole, and the trigger of another package has still to run.
    """

    held: bool = False
    trouble: str = ""
    mess: bool = False
    waits: bool = False
    provides: tuple[str, ...] = ()
    depends: str = ""


@dataclass(frozen=True)
class Transaction:
    """Names with their versions; of what is removed, the version that was there."""

    install: Mapping[str, str] = field(default_factory=dict)
    upgrade: Mapping[str, str] = field(default_factory=dict)
    downgrade: Mapping[str, str] = field(default_factory=dict)
    remove: Mapping[str, str] = field(default_factory=dict)
    reinstall: Mapping[str, str] = field(default_factory=dict)

    @property
    def lands(self) -> dict[str, str]:
        """What is there at which version afterwards and was not, or not whole, before."""
        return {**self.install, **self.upgrade, **self.downgrade, **self.reinstall}

    def __bool__(self) -> bool:
        return bool(self.lands or self.remove)

    def texts(self) -> dict[str, list[str]]:
        kinds = ("install", "upgrade", "downgrade", "remove", "reinstall")
        return {kind: sorted(f"{name}={version}" for name, version in getattr(self, kind).items()) for kind in kinds}


@dataclass(frozen=True)
class Plan:
    """`closure` has every package that belongs and that what was asked for needs, sorted by name."""

    closure: tuple[Package, ...]
    transaction: Transaction


@dataclass(frozen=True)
class Refusal:
    reason: str
    packages: tuple[str, ...]
    message: str


def refuse(component: str, refusals: Sequence[Refusal]) -> None:
    if refusals:
        raise refused(component, refusals)


def refused(component: str, refusals: Sequence[Refusal]) -> RefusedError:
    rows = [
        {"component": component, "reason": row.reason, "packages": list(row.packages), "message": row.message}
        for row in refusals
    ]
    return RefusedError(" ".join(row.message for row in refusals) + " Nothing was changed.", refusals=rows)


def bare(name: str) -> str:
    return name.partition(":")[0]


def belongs(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(bare(name), pattern) for pattern in patterns)


def fits(version: str, pattern: str | None) -> bool:
    """Whether a version is the one asked for; an epoch need not be named."""
    if pattern is None:
        return True
    return any(
        text == pattern or fnmatch.fnmatchcase(text, pattern)
        for text in (version, version.partition(":")[2] or version)
    )


def upstream(version: str) -> str:
    """What the packaged software calls itself: without the epoch and the packager's revision."""
    return re.sub(r"^\d+:", "", version).rpartition("-")[0] or re.sub(r"^\d+:", "", version)


@dataclass(frozen=True)
class Branch:
    """`versions` are the driver's own, of all branches.

    Debian builds tools from sources of their own (nvidia-modprobe 570 beside the driver 550): these have the shape of
    another branch's version, but there is no driver of that version.
    """

    number: str | None
    versions: frozenset[str] = frozenset()

    @classmethod
    def of(cls, number: str | None, *, asked: Iterable[str], available: Mapping[str, Sequence[str]]) -> Branch:
        """From the versions of all packages that come in a version that was asked for."""
        wanted = {upstream(version) for version in asked}
        rows = [{upstream(version) for version in versions} for versions in available.values()]
        return cls(number, frozenset().union(*(row for row in rows if row & wanted)))

    def is_other(self, version: str) -> bool:
        """`20220217` is no branch's version, nor is `1.2.2`: a branch has as many digits."""
        leading = re.match(r"\d*", upstream(version)).group()  # type: ignore[union-attr]  # matches always
        return self.number is not None and len(leading) == len(self.number) and leading != self.number

    def is_left_by(self, name: str, version: str) -> bool:
        named = re.findall(r"(?<=-)\d{3}(?=-|$)", bare(name))
        if self.number is not None and named and self.number not in named:
            return True
        return self.is_other(version) and upstream(version) in self.versions


def choose_asked(
    wanted: Wanted, *, available: Sequence[str], recorded: str | None, installed: str | None
) -> str | Refusal:
    """One exact version. What is recorded or installed stays where it fits, so that a newer one changes nothing."""
    for version in (recorded, installed):
        if version is not None and fits(version, wanted.version) and version in (*available, installed):
            return version
    for version in available:
        if fits(version, wanted.version):
            return version
    there = ", ".join(available) or "none"
    asked = f"{wanted.name} {wanted.version}" if wanted.version else wanted.name
    return Refusal(
        "vanished",
        (wanted.name,),
        f"The package repositories of this node do not have {asked}; versions there are: {there}. "
        "Ask for one of these, or provide a repository that has it.",
    )


def choose_all_asked(
    request: Request,
    state: Mapping[str, Installed],
    *,
    available: Mapping[str, Sequence[str]],
    recorded: Mapping[str, str],
) -> dict[str, str]:
    """`choose_asked` for every package of a request. Raises RefusedError with all that cannot be had."""
    asked, refusals = {}, []
    chosen = _choose_driver(request, state, available=available, recorded=recorded) if request.branch else {}
    for one in request.packages:
        there = state.get(one.name)
        version = chosen.get(one.name) or choose_asked(
            one,
            available=available.get(one.name, ()),
            recorded=recorded.get(one.name),
            installed=there.version if there else None,
        )
        if isinstance(version, Refusal):
            refusals.append(version)
        else:
            asked[one.name] = version
    refuse(request.component, refusals)
    return asked


def _choose_driver(
    request: Request,
    state: Mapping[str, Installed],
    *,
    available: Mapping[str, Sequence[str]],
    recorded: Mapping[str, str],
) -> dict[str, str]:
    """One version of the driver for all that come in its versions: no package, nor Fabric Manager, works with another.

    What has numbers of its own is not among them. Raises RefusedError where they have none in common.
    """
    fitting: dict[str, dict[str, str]] = {}  # by name: what the driver calls it, the package's version
    for one in request.packages:
        there = state.get(one.name)
        versions = [recorded.get(one.name), there.version if there else None, *available.get(one.name, ())]
        known = {*available.get(one.name, ()), *([there.version] if there else [])}
        found = fitting.setdefault(one.name, {})
        for version in versions:
            if version in known and version is not None and fits(version, one.version):
                found.setdefault(upstream(version), version)
    first = fitting[request.packages[0].name]
    together = {name: found for name, found in fitting.items() if found.keys() & first.keys()}
    for number in first:
        if all(number in found for found in together.values()):
            return {name: found[number] for name, found in together.items()}
    if first:
        said = "; ".join(f"{name} has {', '.join(found.values())}" for name, found in together.items())
        refusal = Refusal(
            "vanished",
            tuple(together),
            f"The packages of the driver have to be of one version, and the repositories of this node have none that "
            f"fits {describe_asked(request)}: {said}. Ask for another one, or provide a repository that has it whole.",
        )
        raise refused(request.component, [refusal])
    return {}


def rank(
    name: str,
    versions: Sequence[str],
    *,
    asked: Iterable[str],
    recorded: str | None,
    installed: str | None,
    branch: Branch,
) -> list[str]:
    """The versions that a package of the closure may have, the best first.

    That of a package that was asked for, since NVIDIA's dependencies float (`libnvidia-ml1 (>= 535)`) where only the
    same version works; else what is recorded, what is installed, and the newest.
    """
    known = [version for version in (recorded, installed) if version and version in (*versions, installed)]
    inside = [version for version in [*known, *versions] if not branch.is_left_by(name, version)]
    inside.sort(key=branch.is_other)  # stable: tools with numbers of their own come last
    asked = list(asked)
    same = [version for version in inside if version in asked]
    alike = [version for version in inside if upstream(version) in {upstream(one) for one in asked}]
    return list(dict.fromkeys([*same, *alike, *inside]))


def is_alike(versions: Iterable[str], asked: Iterable[str], *, besides: str) -> bool:
    """Whether there is a version like those asked for, and it is another than the one named."""
    wanted = {upstream(version) for version in asked}
    return upstream(besides) not in wanted and any(upstream(version) in wanted for version in versions)


def sort_transaction(
    lands: Mapping[str, str], removed: Mapping[str, str], before: Mapping[str, Installed], compare: Compare
) -> Transaction:
    kinds: dict[str, dict[str, str]] = {"install": {}, "upgrade": {}, "downgrade": {}, "reinstall": {}}
    for name, version in lands.items():
        old = before.get(name)
        direction = compare(version, old.version) if old else 0
        kind = "install" if not old else {-1: "downgrade", 0: "reinstall", 1: "upgrade"}[direction]
        kinds[kind][name] = version
    return Transaction(remove=dict(removed), **kinds)


def check_transaction(
    request: Request,
    plan: Plan,
    *,
    before: Mapping[str, Installed],
    ours: Iterable[str],
    others: Mapping[str, str],
    pinned_by: Mapping[str, tuple[str, str]],
) -> list[Refusal]:
    """Why a transaction that the package manager would do is not done.

    `ours` are the holds of this toolkit, `others` those that somebody else placed, with the words for how to
    lift them. `pinned_by` says for packages that another component asked for which component, at which version.
    """
    found = []
    transaction = plan.transaction
    strangers = sorted(name for name in transaction.remove if not belongs(name, request.belongs))
    if strangers:
        found.append(
            Refusal(
                "removes_others",
                tuple(strangers),
                f"Installing {describe_asked(request)} would remove {', '.join(strangers)}, which "
                f"{'does' if len(strangers) == 1 else 'do'} not belong to {request.component}. "
                "Remove that first if it may go, or ask for another version.",
            )
        )
    if transaction.downgrade and not request.allow_downgrade:
        moves = [
            f"{name} {before[name].version} to {version}" for name, version in sorted(transaction.downgrade.items())
        ]
        found.append(
            Refusal(
                "downgrade",
                tuple(sorted(transaction.downgrade)),
                f"{describe_asked(request)} is older than what is installed and would take down {', '.join(moves)}. "
                "Set allow_downgrade (of the driver: nvidia_driver_allow_downgrade), or ask for a version not older.",
            )
        )
    moved = {**transaction.upgrade, **transaction.downgrade, **{name: "removed" for name in transaction.remove}}
    mine = set(ours)
    for name, version in sorted(moved.items()):
        if name in others and name not in mine:
            at = "be removed" if version == "removed" else f"become {version}"
            found.append(
                Refusal(
                    "held_by_others",
                    (name,),
                    f"{name} is held at {before[name].version} and not by this toolkit, but has to {at} for "
                    f"{describe_asked(request)}. If that hold may go: {others[name]}.",
                )
            )
        if name in pinned_by and pinned_by[name][1] != version:
            component, there = pinned_by[name]
            found.append(
                Refusal(
                    "held_by_others",
                    (name,),
                    f"{name} was asked for at {there} as {component}, but {describe_asked(request)} needs it "
                    f"{'removed' if version == 'removed' else 'at ' + version}. Ask for versions that go together.",
                )
            )
    return found


def describe_asked(request: Request) -> str:
    return ", ".join(f"{one.name} {one.version}" if one.version else one.name for one in request.packages)
