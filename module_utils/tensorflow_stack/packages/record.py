"""`/etc/tensorflow-gpu-stack/<component>.json`: what this toolkit installed and holds of a component."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import StackError
from ..io.reading import parse_object, read_whole
from ..records.component import COMPONENTS, PACKAGES, STATE_DIRECTORY, kind_of, record_path
from .closure import Installed, Package, Plan, Request, belongs, upstream

SCHEMA = 1
_MOST_BYTES = 4 << 20
DIRECTORY = STATE_DIRECTORY


@dataclass(frozen=True)
class Record:
    """`brought` were not there before, those of earlier closures among them; `held_before` had a hold of others."""

    component: str
    source: str
    version: str
    asked: dict[str, Any]
    packages: tuple[Package, ...]
    brought: tuple[str, ...] = ()
    held_before: tuple[str, ...] = ()
    complete: bool = True

    @property
    def versions(self) -> dict[str, str]:
        return {package.name: package.version for package in self.packages}

    @property
    def held(self) -> dict[str, str]:
        """What is pinned and held. What does not belong, such as a kernel's headers, follows its own updates."""
        return {name: version for name, version in self.versions.items() if belongs(name, self.asked["belongs"])}

    def text(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, sort_keys=True) + "\n"


def read_records(directory: str = DIRECTORY) -> dict[str, Record]:
    """By component. What was laid as archives has a record of another kind, which is not among them."""
    records = {}
    for component in COMPONENTS:
        path = record_path(component.name, directory)
        try:
            content = parse_object(read_whole(path, _MOST_BYTES))
            if content.pop("schema") > SCHEMA:
                raise StackError(f"{path} was written by a newer version of this toolkit: use that one.", path=path)
            if kind_of(content) == PACKAGES:
                packages = tuple(Package(**package) for package in content.pop("packages"))
                brought, held_before = (tuple(content.pop(name)) for name in ("brought", "held_before"))
                records[component.name] = Record(packages=packages, brought=brought, held_before=held_before, **content)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackError(
                f"{path} is not a record of this toolkit ({type(error).__name__}: {error}). "
                "Move it away and run again, which writes it anew.",
                path=path,
            ) from error
    return records


def asked_of(request: Request) -> dict[str, Any]:
    return {
        "packages": [{"name": one.name, "version": one.version} for one in request.packages],
        "belongs": list(request.belongs),
        "branch": request.branch,
    }


def make_record(
    request: Request, plan: Plan, *, before: Record | None, state: Mapping[str, Installed], others: Iterable[str]
) -> Record:
    """The record of a closure, as it is once the plan has been done."""
    versions = {package.name: package.version for package in plan.closure}
    gone = set(plan.transaction.remove)
    brought = {name for name in versions if name not in state}
    if before:
        brought |= {name for name in before.brought if name in state and name not in gone}
    mine = set(before.held) - set(before.held_before) if before else set()
    return Record(
        component=request.component,
        source=request.source,
        version=upstream(versions[request.packages[0].name]),
        asked=asked_of(request),
        packages=plan.closure,
        brought=tuple(sorted(brought)),
        held_before=tuple(sorted(name for name in others if name in versions and name not in mine)),
    )


def moved_along(record: Record, lands: Mapping[str, str]) -> Record:
    """The record of another component that shares packages with one whose closure moved them."""
    packages = tuple(replace(package, version=lands.get(package.name, package.version)) for package in record.packages)
    return replace(record, packages=packages)


def find_drift(
    record: Record, state: Mapping[str, Installed], files: Mapping[str, tuple[str | None, str | None]]
) -> list[dict[str, str | None]]:
    """How the node differs from a record. `files` have what is there and what should be."""
    rows: list[dict[str, str | None]] = []
    for package in record.packages:
        there = state.get(package.name)
        found = there.version if there else None
        if found != package.version and (not there or package.name in record.held):
            problem = "moved" if there else "missing"
            rows.append({"name": package.name, "problem": problem, "recorded": package.version, "found": found})
        elif there and not there.held and package.name in record.held:
            rows.append({"name": package.name, "problem": "not held", "recorded": package.version, "found": found})
    for path, (found, meant) in sorted(files.items()):
        if found != meant:
            problem = "changed" if found is not None else "missing"
            rows.append({"name": path, "problem": problem, "recorded": None, "found": None})
    return rows
