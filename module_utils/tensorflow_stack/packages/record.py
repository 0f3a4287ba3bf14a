"""`/etc/tensorflow-gpu-stack/<component>.json`: what this toolkit installed and holds of a component."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import StackError
from ..io.reading import parse_object, read_whole
from ..records.component import COMPONENTS, PACKAGES, STATE_DIRECTORY, kind_of, record_path, upstream_version
from .model import (
    ClosurePlan,
    InstalledPackage,
    PackageRequest,
    ResolvedPackage,
    StreamChange,
    matches,
)

SCHEMA = 1
_MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class PackagesRecord:
    """`newly_installed` were not installed before the toolkit's first run, `held_before` had a hold of somebody else.

    `stream` has the stream of a module of dnf that was enabled before the toolkit's first run.
    """

    component: str
    source: str
    version: str
    asked: dict[str, Any]
    packages: tuple[ResolvedPackage, ...]
    newly_installed: tuple[str, ...] = ()
    held_before: tuple[str, ...] = ()
    stream: StreamChange | None = None
    complete: bool = True

    @property
    def versions(self) -> dict[str, str]:
        return {package.name: package.version for package in self.packages}

    @property
    def held(self) -> dict[str, str]:
        """What is pinned and held. Other packages, such as a kernel's headers, follow their own updates."""
        return {name: version for name, version in self.versions.items() if matches(name, self.asked["name_patterns"])}

    def text(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, sort_keys=True) + "\n"


def read_records(directory: str = STATE_DIRECTORY) -> dict[str, PackagesRecord]:
    """By component. A component that was installed as archives has a record of another kind and is not among them."""
    records = {}
    for component in COMPONENTS:
        path = record_path(component.name, directory)
        try:
            content = parse_object(read_whole(path, _MOST_BYTES))
            if content.pop("schema") > SCHEMA:
                raise StackError(f"{path} was written by a newer version of this toolkit: use that one.", path=path)
            if kind_of(content) == PACKAGES:
                records[component.name] = _parse(content)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackError(
                f"{path} is not a record of this toolkit ({type(error).__name__}: {error}). "
                "Move it away and run again, which writes a new one.",
                path=path,
            ) from error
    return records


def _parse(content: dict[str, Any]) -> PackagesRecord:
    stream = content.pop("stream")
    return PackagesRecord(
        packages=tuple(ResolvedPackage(**package) for package in content.pop("packages")),
        newly_installed=tuple(content.pop("newly_installed")),
        held_before=tuple(content.pop("held_before")),
        stream=StreamChange(**stream) if stream else None,
        **content,
    )


def asked_of(request: PackageRequest) -> dict[str, Any]:
    return {
        "packages": [{"name": one.name, "version": one.version} for one in request.packages],
        "name_patterns": list(request.name_patterns),
        "branch": request.branch,
        "stream": request.stream,
    }


def make_record(
    request: PackageRequest,
    plan: ClosurePlan,
    *,
    before: PackagesRecord | None,
    state: Mapping[str, InstalledPackage],
    foreign_holds: Iterable[str],
) -> PackagesRecord:
    """The record of a closure, as it is once the plan has been done."""
    versions = {package.name: package.version for package in plan.closure}
    newly_installed = {name for name in versions if name not in state}
    our_holds: set[str] = set()
    if before:
        newly_installed |= {name for name in before.newly_installed if name in state} - set(plan.transaction.remove)
        our_holds = set(before.held) - set(before.held_before)
    return PackagesRecord(
        component=request.component,
        source=request.source,
        version=upstream_version(versions[request.packages[0].name]),
        asked=asked_of(request),
        packages=plan.closure,
        newly_installed=tuple(sorted(newly_installed)),
        held_before=tuple(sorted(name for name in foreign_holds if name in versions and name not in our_holds)),
        stream=_first_change(before.stream if before else None, plan.stream),
    )


def _first_change(earlier: StreamChange | None, change: StreamChange | None) -> StreamChange | None:
    """Both as one, so that a removal knows whether a stream was enabled before the first of them."""
    if earlier and change:
        change = replace(change, before=earlier.before)
        return change if change.before != change.after else None
    return change or earlier


def with_versions(record: PackagesRecord, versions: Mapping[str, str]) -> PackagesRecord:
    """The record of another component that shares packages with one whose closure moved them."""
    packages = tuple(replace(one, version=versions.get(one.name, one.version)) for one in record.packages)
    return replace(record, packages=packages)


def find_drift(
    record: PackagesRecord,
    state: Mapping[str, InstalledPackage],
    files: Mapping[str, tuple[str | None, str | None]],
    enabled_stream: str | None = None,
) -> list[dict[str, str | None]]:
    """How the node differs from a record. `files` have the text that they have and the one that they should have."""
    rows: list[dict[str, str | None]] = []
    for package in record.packages:
        current = state.get(package.name)
        found = current.version if current else None
        if found != package.version and (not current or package.name in record.held):
            problem = "moved" if current else "missing"
            rows.append({"name": package.name, "problem": problem, "recorded": package.version, "found": found})
        elif current and not current.held and package.name in record.held:
            rows.append({"name": package.name, "problem": "not held", "recorded": package.version, "found": found})
    if record.asked["stream"]:
        module, _, stream = record.asked["stream"].partition(":")
        if enabled_stream != stream:
            rows.append({"name": module, "problem": "other stream", "recorded": stream, "found": enabled_stream})
    for path, (found, meant) in sorted(files.items()):
        if found != meant:
            problem = "changed" if found is not None else "missing"
            rows.append({"name": path, "problem": problem, "recorded": None, "found": None})
    return rows
