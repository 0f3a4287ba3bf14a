"""Pure: what dpkg and apt say, and the closure of Debian's dependencies."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from .closure import Branch, Installed, Package, Refusal, belongs, rank, upstream

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
        one, other = (int(number or 0) for number in numbers)
        if one != other:
            return 1 if one > other else -1
    return 0


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1, as `dpkg --compare-versions` has it."""

    def split(version: str) -> tuple[int, str, str]:
        epoch, colon, rest = version.partition(":")
        rest = rest if colon else version
        upstream, dash, revision = rest.rpartition("-")
        return int(epoch) if colon else 0, upstream if dash else rest, revision if dash else ""

    (epoch, upstream, revision), (other_epoch, other_upstream, other_revision) = split(left), split(right)
    if epoch != other_epoch:
        return 1 if epoch > other_epoch else -1
    return _compare_part(upstream, other_upstream) or _compare_part(revision, other_revision)


_HOLDS = {
    "=": lambda order: order == 0,
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}

# --- What the commands say ------------------------------------------------------------------------------

# Fields of dpkg-query, one package a record.
FORMAT = r"${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
_TROUBLES = {
    "H": "half installed",
    "U": "unpacked, not configured",
    "F": "half configured",
    "W": "waiting for triggers",
    "t": "with triggers pending",
}


def parse_installed(text: str, *, native: str) -> dict[str, Installed]:
    """What dpkg has, by apt's names; removed packages of which configuration is left are not among them."""
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
        found[name] = Installed(
            name=name,
            version=version,
            architecture=architecture,
            held=status[0] == "h",
            trouble="to be reinstalled" if error else trouble,
            mess=bool(error) or state == "H",
            waits=not error and state in "Wt",
            provides=tuple(re.findall(r"(?:^|, )([a-z0-9][a-z0-9+.-]*)", provides)),
            depends=depends,
        )
    return found


def parse_madison(text: str) -> dict[str, list[str]]:
    """The versions that can be fetched, the newest first."""
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
    lands: Mapping[str, Package] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)


def parse_simulation(text: str) -> Simulated:
    """`Inst name [old] (new Origin:1/suite [arch])` and `Remv name [old]` of `apt-get --simulate`."""
    lands, removed = {}, {}
    for action, name, old, new, architecture in _SIMULATED.findall(text):
        if action == "Inst":
            lands[name] = Package(name, new, architecture)
        else:
            removed[name] = old
    return Simulated(lands, removed)


# --- The closure ----------------------------------------------------------------------------------------

_ALTERNATIVE = re.compile(r"\s*([^\s:(\[]+)(?::\w+)?\s*(?:\(\s*([<>=]+)\s*([^)\s]+)\s*\))?")


@dataclass(frozen=True)
class Alternative:
    name: str
    operator: str = ""
    version: str = ""

    def holds(self, version: str) -> bool:
        return not self.operator or _HOLDS[self.operator](compare_versions(version, self.version))

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


def unmet(state: Mapping[str, Installed]) -> set[str]:
    """Names of what is installed nowhere, or at an unfitting version, and something that is installed depends on."""
    provided = {virtual for one in state.values() for virtual in one.provides}
    names = set()
    for one in state.values():
        for clause in parse_depends(one.depends):
            if not any(
                item.name in provided or (item.name in state and item.holds(state[item.name].version))
                for item in clause
            ):
                names |= {item.name for item in clause}
    return names


@dataclass(frozen=True)
class Index:
    """What there is to choose from: versions that can be fetched, what they need, and what is installed."""

    available: Mapping[str, Sequence[str]]
    installed: Mapping[str, Installed]
    stanza: Callable[[str, str], Stanza]
    patterns: Sequence[str]
    branch: Branch
    recorded: Mapping[str, str]

    def depends(self, name: str, version: str) -> list[list[Alternative]]:
        there = self.installed.get(name)
        same = there is not None and there.version == version and not there.mess
        return parse_depends(there.depends if same and there else self.stanza(name, version).depends)

    def versions(self, name: str) -> list[str]:
        there = self.installed.get(name)
        return list(dict.fromkeys([*self.available.get(name, ()), *([there.version] if there else [])]))

    def alternative(self, clause: list[Alternative], chosen: Iterable[str]) -> Alternative | None:
        """Which of them it will be, if it is one that belongs: one chosen, one installed, the first that there is."""
        ours = [one for one in clause if belongs(one.name, self.patterns)]
        chosen = set(chosen)
        for names in (chosen, set(self.installed)):
            for one in ours:
                if one.name in names:
                    return one
                provider = self._provider(one.name, names)
                if provider:
                    return Alternative(provider)
        possible = [one for one in clause if any(one.holds(version) for version in self.versions(one.name))]
        if not possible and len(clause) > 1:
            return None  # something virtual, which apt knows
        first = (possible or clause)[0]
        return first if first in ours and self.versions(first.name) else None

    def alike(self, asked: Iterable[str]) -> dict[str, str]:
        """What goes with what was asked for, of everything that belongs: virtual packages lead apt to any of these."""
        asked = list(asked)
        found = {}
        for name, versions in self.available.items():
            first = rank(name, versions, asked=asked, recorded=None, installed=None, branch=self.branch)[:1]
            if first and upstream(first[0]) in {upstream(version) for version in asked}:
                found[name] = first[0]
        return found

    def _provider(self, virtual: str, names: Iterable[str]) -> str | None:
        for name in sorted(names):
            there = self.installed.get(name)
            if there and virtual in there.provides and belongs(name, self.patterns):
                return name
        return None


def close(asked: Mapping[str, str], index: Index, further: Iterable[str] = ()) -> dict[str, str] | Refusal:
    """Every package that belongs and that what was asked for needs, each at one version.

    Choices are only ever narrowed by what the chosen need, so this ends. `further` are names to be in it as well.
    """
    limits: dict[str, list[tuple[str, Alternative]]] = {}
    while True:
        chosen = dict(asked)
        waiting = [*asked, *further]
        narrowed = False
        while waiting and not narrowed:
            name = waiting.pop(0)
            if name not in chosen:
                version = _choose(name, asked, limits.get(name, ()), index)
                if isinstance(version, Refusal):
                    return version
                chosen[name] = version
            for clause in index.depends(name, chosen[name]):
                one = index.alternative(clause, chosen)
                if one is None:
                    continue
                limit = (name, one)
                if limit not in limits.setdefault(one.name, []):
                    limits[one.name].append(limit)
                    if one.name in asked and not one.holds(asked[one.name]):
                        return _contradiction(one.name, asked[one.name], limit, chosen)
                    narrowed = one.name in chosen and not one.holds(chosen[one.name])
                if one.name not in chosen and one.name not in waiting:
                    waiting.append(one.name)
                if narrowed:
                    break
        if not narrowed:
            return chosen


def _choose(
    name: str, asked: Mapping[str, str], limits: Sequence[tuple[str, Alternative]], index: Index
) -> str | Refusal:
    versions = index.versions(name)
    there = index.installed.get(name)
    ranked = rank(
        name,
        index.available.get(name, ()),
        asked=asked.values(),
        recorded=index.recorded.get(name),
        installed=there.version if there else None,
        branch=index.branch,
    )
    for version in ranked:
        if all(one.holds(version) for _, one in limits):
            return version
    needed = "; ".join(f"{parent} needs {one}" for parent, one in limits) or f"{name} is needed"
    outside = [version for version in versions if all(one.holds(version) for _, one in limits)]
    if not outside:
        return Refusal(
            "vanished",
            (name,),
            f"{needed}, but the package repositories of this node have of {name} only {', '.join(versions) or 'none'}.",
        )
    parents = [parent for parent, _ in limits if parent in asked]
    number = index.branch.number
    if any(index.stanza(parent, asked[parent]).transitional for parent in parents if parent in asked):
        said = ", ".join(f"{parent} {asked[parent]}" for parent in parents)
        return Refusal(
            "transitional",
            (*parents, name),
            f"{said} is a transitional package: it only pulls {name} {outside[0]}, which is not of branch {number}. "
            f"Ask for the branch that {name} is of, or for a version that is still a driver itself.",
        )
    return Refusal(
        "leaves_branch",
        (name,),
        f"{needed}, which leaves branch {number}: there is only {name} {', '.join(outside)}. "
        "Ask for another version, or provide a repository that has the whole branch.",
    )


def _contradiction(name: str, version: str, limit: tuple[str, Alternative], chosen: Mapping[str, str]) -> Refusal:
    parent, one = limit
    return Refusal(
        "unsolvable",
        (parent, name),
        f"{name} {version} was asked for, but {parent} {chosen[parent]} needs {one}. "
        "Ask for versions that go together.",
    )


by_version = functools.cmp_to_key(compare_versions)
