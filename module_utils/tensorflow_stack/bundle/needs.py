"""What plans need from outside of a node, and what of it a bundle lacks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..packages.closure import fits
from ..packages.model import matches
from ..records.lockfile import Lock
from .manifest import BundledFile, BundleManifest

_CHANGES = ("install", "change")


@dataclass(frozen=True)
class BundleNeed:
    """One file that a plan needs, or of several with these digests at least one.

    `kind` is one of a bundle's file. A Python is needed in any patch of its minor version, a package at a version or a
    pattern, from `repository`.
    """

    kind: str
    name: str
    version: str | None = None
    sha256s: tuple[str, ...] = ()
    bytes: int = 0
    url: str | None = None
    path: str = ""
    architecture: str = ""
    repository: str = ""
    component: str = "environment"

    @property
    def shown(self) -> str:
        name = {"python": "Python"}.get(self.kind, self.name)
        return f"{name} {self.version}" if self.version else name


def needs_of_lock(lock: Lock) -> list[BundleNeed]:
    rows = [*lock.distributions, *lock.built_with]
    return [
        BundleNeed("source" if row.from_source else "wheel", row.name, row.version, row.hashes, row.bytes)
        for row in rows
    ]


def need_of_uv(plan: Mapping[str, Any]) -> list[BundleNeed]:
    uv = plan["uv"]
    return [BundleNeed("wheel", "uv", uv["version"], (uv["sha256"],), uv["bytes"])] if uv else []


def needs_of_python(plan: Mapping[str, Any]) -> list[BundleNeed]:
    """Also of a Python that uv installed for the environment before: another node of this kind has none."""
    python = plan["python"]
    if python["source"] != "uv" and "/.pythons/" not in (python["path"] or ""):
        return []
    return [BundleNeed("python", "cpython", python["minor"], architecture=_architecture(plan), component="python")]


def needs_of_archives(plan: Mapping[str, Any], component: str) -> list[BundleNeed]:
    part = plan[component]
    if not part or part["source"] != "redist":
        return []
    return [
        BundleNeed(
            "archive",
            row["component"],
            row["version"],
            (row["sha256"],),
            row["bytes"] or 0,
            part["url"].rstrip("/") + "/" + row["relative_path"],
            row["relative_path"],
            component=component,
        )
        for row in part["archives"]
    ]


def needs_of_packages(plan: Mapping[str, Any], component: str) -> list[BundleNeed]:
    """Of NVIDIA's repository: what a component requests there by the names of its own packages."""
    part = plan[component]
    if not part or part["source"] != "nvidia_repo":
        return []
    names = [row["name"] for row in plan["repositories"] if row["kind"] == "nvidia"]
    return [
        BundleNeed("package", row["name"], row["version"], repository=name, component=component)
        for name in names
        for row in part["packages"]
        if matches(row["name"], part["belongs"])
    ]


def needs_of_plan(plan: Mapping[str, Any], lock: Lock | None, *, all_of_it: bool) -> list[BundleNeed]:
    """Of the steps that change something, or with `all_of_it` of all: for a node that has nothing yet."""
    changing = {step["component"] for step in plan["steps"] if all_of_it or step["action"] in _CHANGES}
    needs = []
    # What nodes mount is in no bundle; a bundle is made for those that build, too.
    is_mounted = not all_of_it and any(step.get("source") == "image" for step in plan["steps"])
    if "environment" in changing and lock is not None and not is_mounted:
        needs += [*need_of_uv(plan), *needs_of_lock(lock)]
    if "python" in changing:
        needs += needs_of_python(plan)
    for component in ("cuda", "cudnn"):
        if component in changing:
            needs += needs_of_archives(plan, component)
    for component in ("driver", "cuda", "cudnn"):
        if component in changing:
            needs += needs_of_packages(plan, component)
    return needs


def find_files(manifest: BundleManifest, needs: Iterable[BundleNeed]) -> tuple[list[BundledFile], list[BundleNeed]]:
    """The files of a bundle that are needed, and what it does not have."""
    by_sha256 = manifest.by_sha256
    found: dict[str, BundledFile] = {}
    missing = []
    for need in needs:
        files = [by_sha256[digest] for digest in need.sha256s if digest in by_sha256]
        if need.kind == "python":
            files = [file for file in manifest.of_kind("python") if is_python(file, need)]
        elif need.kind == "package":
            files = [file for file in manifest.of_kind("package") if is_package(file, need)]
        if not files:
            missing.append(need)
        found.update({file.path: file for file in files})
    return list(found.values()), missing


def is_python(file: BundledFile, need: BundleNeed) -> bool:
    minor = ".".join((file.version or "").split(".")[:2])
    return minor == need.version and f"-{need.architecture}-" in file.path


def is_package(file: BundledFile, need: BundleNeed) -> bool:
    inside = file.path.startswith(f"repositories/{need.repository}/")
    return inside and file.name == need.name and fits(file.version or "", need.version)


def _architecture(plan: Mapping[str, Any]) -> str:
    return str(plan["lock"]["architecture"])


def unique(needs: Iterable[BundleNeed]) -> list[BundleNeed]:
    return list(dict.fromkeys(needs))


def describe(needs: Sequence[BundleNeed], most: int = 5) -> str:
    """Names for a message."""
    shown = [need.shown for need in needs[:most]]
    return ", ".join(shown) + (f" and {len(needs) - most} more" if len(needs) > most else "")


def project_of(filename: str) -> str:
    """The normalised name of the project that a wheel or source archive is of."""
    stem = re.sub(r"\.(tar\.gz|zip)$", "", filename)
    name = stem.split("-")[0] if filename.endswith(".whl") else stem.rpartition("-")[0]
    return re.sub(r"[-_.]+", "-", name).lower()
