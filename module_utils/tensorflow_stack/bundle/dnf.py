"""Which packages of a repository of dnf a node needs that has none of them, and what its lists say of them. Pure.

dnf itself decides on a node. Here is the same rule for versions, and if several packages provide what one requires, all
of them are taken, so that dnf finds the one that it prefers.
"""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..errors import StackError
from ..packages.closure import Branch, choose_requested, rank, with_upstream_version_of
from ..packages.model import PackageRequest, WantedPackage, matches
from .manifest import is_inside
from .rpm_versions import Relation, compare_versions

# fact: the names of createrepo's formats, 2026-11-27
_REPO, _COMMON, _RPM = (f"{{http://linux.duke.edu/metadata/{name}}}" for name in ("repo", "common", "rpm"))
_BLOCK = 1 << 20
_OPERATORS = {"EQ": "=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}


@dataclass(frozen=True)
class ListFile:
    """A list of a repository that repomd.xml names."""

    kind: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class IndexedRpm:
    """A package of a repository; `version` has the epoch if it is not 0, as everywhere in this toolkit."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str
    bytes: int
    provides: tuple[Relation, ...] = ()
    requires: tuple[Relation, ...] = ()

    @property
    def artifact(self) -> str:
        """As a module names its packages."""
        version = self.version if ":" in self.version else f"0:{self.version}"
        return f"{self.name}-{version}.{self.architecture}"


@dataclass(frozen=True)
class Stream:
    """Of a module: which packages are only for those who enable this stream."""

    module: str
    name: str
    artifacts: frozenset[str]


# --- Reading the lists ----------------------------------------------------------------------------


def read_repomd(body: bytes, *, what: str) -> list[ListFile]:
    """The lists, each once."""
    found = {}
    try:
        for data in ElementTree.fromstring(body).iter(f"{_REPO}data"):
            location, checksum = data.find(f"{_REPO}location"), data.find(f"{_REPO}checksum")
            path = _path(location, what)
            sha256 = _sha256(checksum, path, what)
            found[path] = ListFile(
                data.get("type", ""), path, sha256, int(data.findtext(f"{_REPO}size", "0").strip() or 0)
            )
    except (ElementTree.ParseError, ValueError) as error:
        raise StackError(f"{what} cannot be read: {error}.") from error
    return list(found.values())


def read_primary(body: bytes, architecture: str, *, what: str) -> list[IndexedRpm]:
    """The packages for an architecture."""
    try:
        return [
            _read_package(element, what)
            for element in _packages(body)
            if element.findtext(f"{_COMMON}arch") in (architecture, "noarch")
        ]
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise StackError(f"{what} cannot be read: {error}.") from error


def _packages(body: bytes) -> Iterator[ElementTree.Element]:
    """Read in blocks and emptied again: all elements of NVIDIA's lists at once take hundreds of megabytes."""
    parser: Any = ElementTree.XMLPullParser(["end"])
    for start in range(0, len(body), _BLOCK):
        parser.feed(body[start : start + _BLOCK])
        for _, element in parser.read_events():
            if element.tag == f"{_COMMON}package":
                yield element
                element.clear()
    parser.close()


def _read_package(element: ElementTree.Element, what: str) -> IndexedRpm:
    name = element.findtext(f"{_COMMON}name", "")
    version, location = element.find(f"{_COMMON}version"), element.find(f"{_COMMON}location")
    size = element.find(f"{_COMMON}size")
    if not name or version is None or size is None:
        raise ValueError(f"a package {name!r} without name, version or size")
    parts = element.find(f"{_COMMON}format")
    files = [Relation(one.text or "") for one in parts.iter(f"{_COMMON}file")] if parts is not None else []
    return IndexedRpm(
        name,
        _version(version.attrib),
        element.findtext(f"{_COMMON}arch", ""),
        _path(location, what),
        _sha256(element.find(f"{_COMMON}checksum"), name, what),
        int(size.get("package", "")),
        (*_relations(parts, "provides"), *files),
        tuple(_relations(parts, "requires")),
    )


def _relations(parts: ElementTree.Element | None, kind: str) -> Iterator[Relation]:
    entries = parts.iterfind(f"{_RPM}{kind}/{_RPM}entry") if parts is not None else ()
    for entry in entries:
        name, flags = entry.get("name", ""), entry.get("flags")
        if name.startswith("("):
            yield from read_rich(name)
        elif not name.startswith("rpmlib("):
            yield Relation(name, _OPERATORS[flags], _version(entry.attrib)) if flags in _OPERATORS else Relation(name)


def read_rich(text: str) -> list[Relation]:
    """What `(a or b >= 1 if c else d)` may need: a, b and d, but not the condition."""
    found: list[Relation] = []
    depth, condition = 0, 0  # the depth of the parenthesis that has the condition
    words = iter(text.split())
    for word in words:
        name = word.lstrip("(")
        depth += len(word) - len(name)
        closing = max(0, name.count(")") - name.count("("))
        name = name[: len(name) - closing]
        if name in ("if", "unless", "without"):
            condition = condition or depth
        elif name == "else":
            condition = 0 if condition == depth else condition
        elif name in _OPERATORS.values():
            version = next(words, "")
            closing = version.count(")")
            if found and not condition:
                found[-1] = Relation(found[-1].name, name, version.rstrip(")"))
        elif name not in ("and", "or", "with") and not condition:
            found.append(Relation(name))
        depth -= closing
        condition = condition if depth >= condition else 0
    return found


def _version(values: Mapping[str, str]) -> str:
    epoch, release = values.get("epoch") or "0", values.get("rel")
    return (f"{epoch}:" if epoch != "0" else "") + values["ver"] + (f"-{release}" if release else "")


def _path(location: ElementTree.Element | None, what: str) -> str:
    path = location.get("href", "") if location is not None else ""
    elsewhere = location is not None and any(name.endswith("}base") for name in location.attrib)
    if not is_inside(path) or elsewhere:
        raise StackError(f"{what} names {path!r}, which is no place below the repository, so it cannot be bundled.")
    return path


def _sha256(checksum: ElementTree.Element | None, name: str, what: str) -> str:
    digest = (checksum.text or "").strip() if checksum is not None and checksum.get("type") == "sha256" else ""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise StackError(f"{what} has no sha256 of {name}, so it cannot be bundled.")
    return digest


def read_streams(text: str, *, what: str) -> list[Stream]:
    """The streams of all modules."""
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        rows = [one["data"] for one in documents if one and one.get("document") == "modulemd"]
        return [
            Stream(str(row["name"]), str(row["stream"]), frozenset((row.get("artifacts") or {}).get("rpms") or ()))
            for row in rows
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise StackError(f"{what} cannot be read: {' '.join(str(error).split())}.") from error


# --- Choosing -------------------------------------------------------------------------------------


def show_of_stream(rows: Sequence[IndexedRpm], streams: Sequence[Stream], wanted: str | None) -> list[IndexedRpm]:
    """What dnf sees of the packages once the stream `module:name` is enabled; all of them without one."""
    if not wanted:
        return list(rows)
    module, _, name = wanted.partition(":")
    of_module = [stream for stream in streams if stream.module == module]
    enabled = frozenset().union(*(stream.artifacts for stream in of_module if stream.name == name))
    if not any(stream.name == name for stream in of_module):
        others = ", ".join(sorted({stream.name for stream in of_module})) or "none"
        raise StackError(
            f"The repository has no module stream {wanted}, so its packages cannot be bundled. Its streams of {module} "
            f"are: {others}. Request another branch of the driver."
        )
    # A name in the enabled stream is hidden outside of it, also in packages of no module.
    names = {row.name for row in rows if row.artifact in enabled}
    modular = frozenset().union(*(stream.artifacts for stream in of_module))
    return [row for row in rows if row.artifact in enabled or (row.name not in names and row.artifact not in modular)]


def choose_packages(
    rows: Iterable[IndexedRpm], component: str, part: Mapping[str, Any], *, known: Iterable[str]
) -> list[IndexedRpm]:
    """What one component of a plan installs of the packages that dnf sees. `known` are the names in the repository."""
    by_name: dict[str, list[IndexedRpm]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    for same_name in by_name.values():
        same_name.sort(key=functools.cmp_to_key(lambda one, other: compare_versions(other.version, one.version)))
    known = set(known)
    request = PackageRequest(
        component=component,
        source=part["source"],
        # Those that a repository does not have are the distribution's.
        packages=tuple(WantedPackage(row["name"], row["version"]) for row in part["packages"] if row["name"] in known),
        name_patterns=tuple(part["belongs"]),
        branch=part.get("branch"),
    )
    if not request.packages:
        return []
    available = {name: list(dict.fromkeys(row.version for row in found)) for name, found in by_name.items()}
    requested = choose_requested(request, {}, available=available, recorded={})
    branch = Branch.of(request.branch, requested=requested.values(), available=available)
    allowed = []
    for name, found in by_name.items():
        versions = _allowed_versions(name, available[name], request, requested, branch)
        allowed += [row for row in found if row.version in versions]
    closure = _Closure(allowed, {name for name in known if matches(name, request.name_patterns)})
    return closure.of([row for row in allowed if requested.get(row.name) == row.version])


def _allowed_versions(
    name: str, available: Sequence[str], request: PackageRequest, requested: Mapping[str, str], branch: Branch
) -> Sequence[str]:
    """The rule of nvidia_packages on a node of dnf: one version for the component, any for what it needs besides."""
    if name in requested:
        return [requested[name]]
    if not matches(name, request.name_patterns):
        return available
    ranked = rank(name, available, requested=requested.values(), recorded=None, installed=None, branch=branch)
    return with_upstream_version_of(requested.values(), ranked)[:1] or ranked


@dataclass
class _Closure:
    """Packages with all that they require of `rows`; of `component`, the names of the component's packages."""

    rows: Sequence[IndexedRpm]
    component: set[str]
    chosen: dict[str, IndexedRpm] = field(default_factory=dict)  # by path

    def of(self, requested: Sequence[IndexedRpm]) -> list[IndexedRpm]:
        providers: dict[str, list[tuple[Relation, IndexedRpm]]] = {}
        for row in self.rows:
            for provided in row.provides:
                providers.setdefault(provided.name, []).append((provided, row))
        waiting = list(requested)
        self.chosen.update({row.path: row for row in waiting})
        unclear: list[dict[str, IndexedRpm]] = []
        while waiting or unclear:
            if not waiting:
                # Nothing else brings one of them along, so that dnf chooses: any name, in its newest version.
                waiting = [row for row in unclear.pop().values() if row.path not in self.chosen]
                self.chosen.update({row.path: row for row in waiting})
                continue
            needing = waiting.pop()
            for required in needing.requires:
                best = self._best(required, providers.get(required.name, ()), needing)
                if len(best) > 1:
                    unclear.append(best)
                elif best:
                    waiting += best.values()
                    self.chosen.update({row.path: row for row in best.values()})
            unclear = [best for best in unclear if not any(row.path in self.chosen for row in best.values())]
        return sorted(self.chosen.values(), key=lambda row: row.path)

    def _best(
        self, required: Relation, providers: Iterable[tuple[Relation, IndexedRpm]], needing: IndexedRpm
    ) -> dict[str, IndexedRpm]:
        """Of each name that provides it, the newest; none if the closure has it, or if it is the distribution's."""
        fitting = [row for provided, row in providers if required.is_met_by(provided)]
        if any(row.path in self.chosen for row in fitting):
            return {}
        if not fitting and required.name in self.component:
            raise StackError(
                f"{needing.name} {needing.version} requires {required}, which the repository does not have at a "
                "version that goes with it, so these packages cannot be bundled. Request another version."
            )
        best: dict[str, IndexedRpm] = {}
        for row in fitting:  # the newest first
            best.setdefault(row.name, row)
        return best
