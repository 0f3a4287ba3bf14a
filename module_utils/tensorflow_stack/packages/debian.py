"""What dpkg and apt print, and the closure of Debian's dependencies. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from .closure import Branch, rank, with_upstream_version_of
from .model import InstalledPackage, PackageRefusal, ResolvedPackage, matches

# --- Versions -----------------------------------------------------------------------------------------


def _is_digit(character: str) -> bool:
    # Not str.isdigit, which takes "²" for one as well.
    return "0" <= character <= "9"


def _weight(character: str) -> int:
    """The order of deb-version(7): `~` before the end, the end before letters, letters before the rest."""
    if character == "~":
        return -1
    if not character or _is_digit(character):
        return 0
    return ord(character) + (0 if character.isalpha() else 256)


def _compare_part(left: str, right: str) -> int:
    while left or right:
        while (left and not _is_digit(left[0])) or (right and not _is_digit(right[0])):
            difference = _weight(left[:1]) - _weight(right[:1])
            if difference:
                return 1 if difference > 0 else -1
            left, right = left[1:], right[1:]
        numbers = [re.match(r"[0-9]*", text).group() for text in (left, right)]  # type: ignore[union-attr]  # always
        left, right = left[len(numbers[0]) :], right[len(numbers[1]) :]
        # As numbers, of any length: Python refuses to convert thousands of digits.
        one, other = ((len(number), number) for number in (digits.lstrip("0") for digits in numbers))
        if one != other:
            return 1 if one > other else -1
    return 0


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1, as `dpkg --compare-versions` has it."""

    def split(version: str) -> tuple[int, str, str]:
        epoch, colon, rest = version.partition(":")
        # What is no number is no epoch, so that any two texts have an order.
        colon = colon if re.fullmatch("[0-9]{1,9}", epoch) else ""
        rest = rest if colon else version
        upstream, dash, revision = rest.rpartition("-")
        return int(epoch) if colon else 0, upstream if dash else rest, revision if dash else ""

    (epoch, upstream, revision), (other_epoch, other_upstream, other_revision) = split(left), split(right)
    if epoch != other_epoch:
        return 1 if epoch > other_epoch else -1
    return _compare_part(upstream, other_upstream) or _compare_part(revision, other_revision)


_OPERATORS = {
    "=": lambda order: order == 0,
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}

# --- What the commands print ----------------------------------------------------------------------------

# Fields of dpkg-query, one package a record.
FORMAT = r"${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
_TROUBLES = {
    "H": "half installed",
    "U": "unpacked, not configured",
    "F": "half configured",
    "W": "waiting for triggers",
    "t": "with triggers pending",
}


def parse_installed(text: str, *, native: str) -> dict[str, InstalledPackage]:
    """By apt's names, without removed packages of which only configuration is left."""
    found = {}
    for line in text.splitlines():
        if line.count("\t") != FORMAT.count(r"\t"):
            continue  # a warning
        package, architecture, version, status, provides, depends = line.split("\t")
        state, error = status[1], status[2:3].strip()
        if state in "nc" and not error:
            continue
        name = package if architecture in (native, "all") else f"{package}:{architecture}"
        trouble = _TROUBLES.get(state, "")
        found[name] = InstalledPackage(
            name=name,
            version=version,
            architecture=architecture,
            held=status[0] == "h",
            trouble="to be reinstalled" if error else trouble,
            needs_unpacking=bool(error) or state == "H",
            waits_for_trigger=not error and state in "Wt",
            provides=tuple(re.findall(r"(?:^|, )([a-z0-9][a-z0-9+.-]*)", provides)),
            depends=depends,
        )
    return found


def parse_madison(text: str) -> dict[str, list[str]]:
    """The versions that can be downloaded, the newest first."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, version, source = [*(part.strip() for part in line.split("|")), "", ""][:3]
        if version and not source.endswith(" Sources"):
            found.setdefault(name, []).append(version)
    return {name: list(dict.fromkeys(versions)) for name, versions in found.items()}


@dataclass(frozen=True)
class Stanza:
    """One version of a package in an index."""

    architecture: str
    depends: str
    transitional: bool


def parse_stanzas(text: str, *, native: str) -> dict[tuple[str, str], Stanza]:
    """By name and version."""
    found = {}
    for part in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", part, re.MULTILINE))
        if "Package" not in fields or "Version" not in fields or fields.get("Architecture") not in (native, "all"):
            continue
        description = next((value for key, value in fields.items() if key.startswith("Description")), "")
        found[fields["Package"], fields["Version"]] = Stanza(
            architecture=fields["Architecture"],
            depends=", ".join(fields[key] for key in ("Pre-Depends", "Depends") if fields.get(key)),
            transitional="transitional" in description.lower() or fields.get("Section", "").endswith("oldlibs"),
        )
    return found


_SIMULATED = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]+)\])?(?: \((\S+) [^)]*\[(\S+?)\]\))?", re.MULTILINE)


@dataclass(frozen=True)
class Simulated:
    """What apt would do: packages as they would be, and removed ones at the version that they have."""

    resulting: Mapping[str, ResolvedPackage] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)


def parse_simulation(text: str) -> Simulated:
    """`Inst name [old] (new Origin:1/suite [arch])` and `Remv name [old]` of `apt-get --simulate`."""
    resulting, removed = {}, {}
    for action, name, old, new, architecture in _SIMULATED.findall(text):
        if action == "Inst":
            resulting[name] = ResolvedPackage(name, new, architecture)
        else:
            removed[name] = old
    return Simulated(resulting, removed)


# --- The closure ----------------------------------------------------------------------------------------

_ALTERNATIVE = re.compile(r"\s*([^\s:(\[]+)(?::\w+)?\s*(?:\(\s*([<>=]+)\s*([^)\s]+)\s*\))?")


@dataclass(frozen=True)
class Alternative:
    name: str
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        return not self.operator or _OPERATORS[self.operator](compare_versions(version, self.version))

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


def parse_depends(text: str) -> list[list[Alternative]]:
    clauses = []
    for clause in text.split(","):
        found = [_ALTERNATIVE.match(part) for part in clause.split("|")]
        alternatives = [Alternative(*(group or "" for group in one.groups())) for one in found if one]
        if alternatives:
            clauses.append(alternatives)
    return clauses


def unmet(state: Mapping[str, InstalledPackage]) -> set[str]:
    """Names that an installed package depends on, and that nothing installed provides at a version that fits."""
    provided = {virtual for one in state.values() for virtual in one.provides}
    names = set()
    for one in state.values():
        for clause in parse_depends(one.depends):
            if not any(
                item.name in provided or (item.name in state and item.accepts(state[item.name].version))
                for item in clause
            ):
                names |= {item.name for item in clause}
    return names


@dataclass(frozen=True)
class Index:
    """What a closure is chosen from: available versions, what they depend on, and what is installed."""

    available: Mapping[str, Sequence[str]]
    installed: Mapping[str, InstalledPackage]
    stanza: Callable[[str, str], Stanza]
    name_patterns: Sequence[str]
    branch: Branch
    recorded: Mapping[str, str]

    def depends(self, name: str, version: str) -> list[list[Alternative]]:
        current = self.installed.get(name)
        same = current is not None and current.version == version and not current.needs_unpacking
        return parse_depends(current.depends if same and current else self.stanza(name, version).depends)

    def versions(self, name: str) -> list[str]:
        current = self.installed.get(name)
        return list(dict.fromkeys([*self.available.get(name, ()), *([current.version] if current else [])]))

    def alternative(self, clause: list[Alternative], chosen: Iterable[str]) -> Alternative | None:
        """Which of them it will be, if it is of the component: a chosen one, an installed one, the first available."""
        own = [one for one in clause if matches(one.name, self.name_patterns)]
        chosen = set(chosen)
        for names in (chosen, set(self.installed)):
            for one in own:
                if one.name in names:
                    return one
                provider = self._provider(one.name, names)
                if provider:
                    return Alternative(provider)
        possible = [one for one in clause if any(one.accepts(version) for version in self.versions(one.name))]
        if not possible and len(clause) > 1:
            return None  # something virtual, which apt knows
        first = (possible or clause)[0]
        return first if first in own and self.versions(first.name) else None

    def matching(self, requested: Iterable[str]) -> dict[str, str]:
        """Every package of the component at the upstream version of the requested ones, if it is available there.

        apt may choose any of these for a virtual package.
        """
        requested = list(requested)
        found = {}
        for name, versions in self.available.items():
            first = rank(name, versions, requested=requested, recorded=None, installed=None, branch=self.branch)[:1]
            if with_upstream_version_of(requested, first):
                found[name] = first[0]
        return found

    def _provider(self, virtual: str, names: Iterable[str]) -> str | None:
        for name in sorted(names):
            current = self.installed.get(name)
            if current and virtual in current.provides and matches(name, self.name_patterns):
                return name
        return None


def close(requested: Mapping[str, str], index: Index, also: Iterable[str] = ()) -> dict[str, str] | PackageRefusal:
    """Every package of the component that the requested ones and those in `also` need, each at one version.

    Choices are only ever narrowed by what the chosen need, so this ends.
    """
    limits: dict[str, list[tuple[str, Alternative]]] = {}
    while True:
        chosen = dict(requested)
        waiting = [*requested, *also]
        narrowed = False
        while waiting and not narrowed:
            name = waiting.pop(0)
            if name not in chosen:
                version = _choose(name, requested, limits.get(name, ()), index)
                if isinstance(version, PackageRefusal):
                    return version
                chosen[name] = version
            for clause in index.depends(name, chosen[name]):
                one = index.alternative(clause, chosen)
                if one is None:
                    continue
                limit = (name, one)
                if limit not in limits.setdefault(one.name, []):
                    limits[one.name].append(limit)
                    if one.name in requested and not one.accepts(requested[one.name]):
                        return _contradiction(one.name, requested[one.name], limit, chosen)
                    narrowed = one.name in chosen and not one.accepts(chosen[one.name])
                if one.name not in chosen and one.name not in waiting:
                    waiting.append(one.name)
                if narrowed:
                    break
        if not narrowed:
            return chosen


def _choose(
    name: str, requested: Mapping[str, str], limits: Sequence[tuple[str, Alternative]], index: Index
) -> str | PackageRefusal:
    versions = index.versions(name)
    current = index.installed.get(name)
    ranked = rank(
        name,
        index.available.get(name, ()),
        requested=requested.values(),
        recorded=index.recorded.get(name),
        installed=current.version if current else None,
        branch=index.branch,
    )
    for version in ranked:
        if all(one.accepts(version) for _, one in limits):
            return version
    needed = "; ".join(f"{parent} needs {one}" for parent, one in limits) or f"{name} is needed"
    outside = [version for version in versions if all(one.accepts(version) for _, one in limits)]
    if not outside:
        return PackageRefusal(
            "vanished",
            (name,),
            f"{needed}, but the package repositories of this node have only these versions of {name}: "
            f"{', '.join(versions) or 'none'}.",
        )
    parents = [parent for parent, _ in limits if parent in requested]
    number = index.branch.number
    if any(index.stanza(parent, requested[parent]).transitional for parent in parents if parent in requested):
        asked = ", ".join(f"{parent} {requested[parent]}" for parent in parents)
        return PackageRefusal(
            "transitional",
            (*parents, name),
            f"{asked} is a transitional package: it only installs {name} {outside[0]}, which is not of branch "
            f"{number}. Request the branch that {name} is of, or a version that is still a driver itself.",
        )
    return PackageRefusal(
        "leaves_branch",
        (name,),
        f"{needed}, which leaves branch {number}: the only versions of {name} are {', '.join(outside)}. "
        "Request another version, or add a repository that has the whole branch.",
    )


def _contradiction(
    name: str, version: str, limit: tuple[str, Alternative], chosen: Mapping[str, str]
) -> PackageRefusal:
    parent, one = limit
    return PackageRefusal(
        "unsolvable",
        (parent, name),
        f"{name} {version} was requested, but {parent} {chosen[parent]} needs {one}. "
        "Request versions that fit together.",
    )
