"""What the doubles of NVIDIA's repositories hold, as contents.yml says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

PLACEHOLDER = re.compile(r"<([a-z_]+)>")


@dataclass(frozen=True)
class Package:
    name: str
    version: str  # as Debian writes it; without the epoch
    epoch: int
    architecture: str  # native, all
    section: str
    summary: str
    relations: Mapping[str, list[str]]  # depends, recommends, conflicts, provides, replaces
    files: Mapping[str, str]
    programs: Mapping[str, str]
    links: Mapping[str, str]
    libraries: Mapping[str, str]  # path: SONAME
    zeros: Mapping[str, int]
    scripts: Mapping[str, str]
    values: Mapping[str, str]  # of the row that it is made from
    newer: bool  # invented: only there when asked for
    deleted: bool  # in the index, not on the server

    @property
    def reference(self) -> str:
        return f"{self.name}={self.version}"


@dataclass(frozen=True)
class Repository:
    distribution: str
    format: str
    key: str
    sets: list[str]

    @property
    def path(self) -> str:
        return f"{self.distribution}/x86_64"


@dataclass(frozen=True)
class Contents:
    data: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls) -> Contents:
        return cls(yaml.safe_load(Path(__file__).with_name("contents.yml").read_text()))

    @cached_property
    def repositories(self) -> list[Repository]:
        return [Repository(**row) for row in self.data["repositories"]]

    def packages(self, name: str, package_format: str) -> list[Package]:
        """The packages of one set, each name and version once."""
        made: dict[str, Package] = {}
        for package in self._expand(self.data["sets"][name], self.data["formats"][package_format]):
            made.setdefault(package.reference, package)
        return list(made.values())

    def streams(self, name: str) -> list[Mapping[str, str]]:
        streams: list[Mapping[str, str]] = self.data["sets"][name].get("streams", [])
        return streams

    def _expand(self, rows: Mapping[str, Any], common: Mapping[str, str]) -> Iterator[Package]:
        for each in rows.get("each", [{}]):
            values = {**common, **{key: str(value) for key, value in each.items()}}
            for row in rows["packages"]:
                if all(values[key] in wanted for key, wanted in row.get("when", {}).items()):
                    filled = fill({"version": rows.get("version"), "epoch": rows.get("epoch", 0), **row}, values)
                    yield self._package(filled, values, newer=bool(each.get("newer")))

    def _package(self, row: Mapping[str, Any], values: Mapping[str, str], *, newer: bool) -> Package:
        scripts = self.data["scripts"]
        libraries = row.get("libraries", {"names": {}})
        links = dict(row.get("links", {}))
        for soname, name in libraries["names"].items():
            if soname != name:
                links[f"{libraries['directory']}/{soname}"] = name
        return Package(
            name=row["name"],
            version=row["version"],
            epoch=row["epoch"],
            architecture=row.get("architecture", "native"),
            section=row.get("section", "contrib/devel"),
            summary=row.get("summary", f"double of NVIDIA's {row['name']}"),
            relations={
                kind: row.get(kind, []) for kind in ("depends", "recommends", "conflicts", "provides", "replaces")
            },
            files=row.get("files", {}),
            programs={path: fill(scripts[name], values) for path, name in row.get("programs", {}).items()},
            links=links,
            libraries={f"{libraries['directory']}/{name}": soname for soname, name in libraries["names"].items()},
            zeros=row.get("zeros", {}),
            scripts={kind: fill(scripts[name], values) for kind, name in row.get("scripts", {}).items()},
            values=values,
            newer=newer,
            deleted=row.get("deleted", False),
        )


def fill(value: Any, values: Mapping[str, str]) -> Any:
    """The value with every <word> replaced; of a list, without the entries that name an empty one."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: values[match[1]], value)
    if isinstance(value, list):
        return [fill(entry, values) for entry in value if not _names_empty(entry, values)]
    if isinstance(value, dict):
        return {fill(key, values): fill(entry, values) for key, entry in value.items()}
    return value


def _names_empty(entry: Any, values: Mapping[str, str]) -> bool:
    return isinstance(entry, str) and any(not values[word] for word in PLACEHOLDER.findall(entry))
