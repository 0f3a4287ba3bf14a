"""The tables of facts that age: releases, constraints, CUDA, drivers, GPUs, packages, archives, uv.

They lie in `roles/tensorflow_release/files/tables/`; `docs/architecture.md` describes each. The JSON schemas beside
them are checked by the contract tests. Loading checks what a hand that edits a table gets wrong: a missing or
unknown field, and a version without quotes, which YAML reads as a number (3.10 becomes 3.1).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ..errors import TableError
from .node_rows import BaseSystem, Glibc, NodeKindMeaning
from .rows import (
    Address,
    Companion,
    CompanionProof,
    Components,
    Constraint,
    CudaDriver,
    CudaPackages,
    CudaWheels,
    CudnnPackages,
    Diagnosis,
    DriverBranch,
    DriverPackages,
    GpuChip,
    GpuDevice,
    GpuProof,
    Kernels,
    LogLine,
    OpenedLibraries,
    Proof,
    PythonLife,
    PythonPackage,
    Redist,
    Release,
    Repository,
    SmallGpu,
    SourceDistribution,
    TorchRelease,
    Uv,
    Vulnerability,
)

# Ten times faster, where PyYAML was built with libyaml.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The largest one, which a script writes and nobody edits, is read ten times faster still.
_AS_JSON = ("gpu_devices",)


@dataclass(frozen=True)
class Tables:
    directory: str
    releases: tuple[Release, ...]  # oldest first
    constraints: tuple[Constraint, ...]
    source_distributions: tuple[SourceDistribution, ...]
    cuda_wheels: tuple[CudaWheels, ...]
    cuda_drivers: tuple[CudaDriver, ...]
    gpu_chips: tuple[GpuChip, ...]
    driver_branches: tuple[DriverBranch, ...]
    python_packages: tuple[PythonPackage, ...]
    uvs: tuple[Uv, ...]

    # Loaded on demand, from here on: most of the bytes are here, and a node without a GPU needs none.

    @cached_property
    def addresses(self) -> Mapping[str, str]:
        """URLs by name."""
        return {row.name: row.url for row in _load(self.directory, "addresses", Address)}

    @cached_property
    def companions(self) -> tuple[Companion, ...]:
        return _load(self.directory, "companions", Companion)

    @cached_property
    def companion_proofs(self) -> tuple[CompanionProof, ...]:
        return _load(self.directory, "companion_proofs", CompanionProof)

    @cached_property
    def torch_releases(self) -> tuple[TorchRelease, ...]:
        return _load(self.directory, "torch_releases", TorchRelease)

    def torch_for(self, version: str) -> TorchRelease | None:
        """The row of the release, or of another patch of its minor: these have the same CUDA."""
        minor = Version(version).release[:2]
        return next((row for row in self.torch_releases if Version(row.release).release[:2] == minor), None)

    @cached_property
    def python_lives(self) -> tuple[PythonLife, ...]:
        return _load(self.directory, "python_lives", PythonLife)

    @cached_property
    def vulnerabilities(self) -> tuple[Vulnerability, ...]:
        return _load(self.directory, "vulnerabilities", Vulnerability)

    @cached_property
    def proofs(self) -> tuple[Proof, ...]:
        return _load(self.directory, "proofs", Proof)

    @cached_property
    def gpu_proofs(self) -> tuple[GpuProof, ...]:
        return _load(self.directory, "gpu_proofs", GpuProof)

    @cached_property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        return _load(self.directory, "diagnoses", Diagnosis)

    @cached_property
    def log_lines(self) -> tuple[LogLine, ...]:
        return _load(self.directory, "log_lines", LogLine)

    @cached_property
    def gpu_devices(self) -> Mapping[str, GpuDevice]:
        """By PCI device id."""
        return {row.device_id: row for row in _load(self.directory, "gpu_devices", GpuDevice)}

    @cached_property
    def small_gpus(self) -> tuple[SmallGpu, ...]:
        return _load(self.directory, "small_gpus", SmallGpu)

    @cached_property
    def node_kinds(self) -> tuple[NodeKindMeaning, ...]:
        return _load(self.directory, "node_kinds", NodeKindMeaning)

    @cached_property
    def base_systems(self) -> tuple[BaseSystem, ...]:
        return _load(self.directory, "base_systems", BaseSystem)

    @cached_property
    def glibc(self) -> tuple[Glibc, ...]:
        return _load(self.directory, "glibc", Glibc)

    @cached_property
    def kernels(self) -> tuple[Kernels, ...]:
        return _load(self.directory, "kernels", Kernels)

    @cached_property
    def opened_libraries(self) -> tuple[OpenedLibraries, ...]:
        return _load(self.directory, "opened_libraries", OpenedLibraries)

    @cached_property
    def repositories(self) -> tuple[Repository, ...]:
        return _load(self.directory, "repositories", Repository)

    @cached_property
    def components(self) -> tuple[Components, ...]:
        return _load(self.directory, "components", Components)

    @cached_property
    def cuda_packages(self) -> tuple[CudaPackages, ...]:
        return _load(self.directory, "cuda_packages", CudaPackages)

    @cached_property
    def cudnn_packages(self) -> tuple[CudnnPackages, ...]:
        return _load(self.directory, "cudnn_packages", CudnnPackages)

    @cached_property
    def driver_packages(self) -> tuple[DriverPackages, ...]:
        return _load(self.directory, "driver_packages", DriverPackages)

    @cached_property
    def redist(self) -> tuple[Redist, ...]:
        return _load(self.directory, "redist", Redist)

    def release(self, version: str) -> Release | None:
        try:
            wanted = Version(version)
        except ValueError:  # no version, or one of thousands of digits
            return None
        return next((row for row in self.releases if Version(row.version) == wanted), None)

    def constraints_for(self, version: str, python_minor: str) -> tuple[Constraint, ...]:
        """The rows that hold for a release on a Python; their markers are decided and gone."""
        return _holding(self.constraints, version, python_minor)

    def companions_for(self, version: str, python_minor: str) -> tuple[Companion, ...]:
        return _holding(self.companions, version, python_minor)

    def source_distributions_for(self, version: str, python_minor: str) -> tuple[str, ...]:
        """The projects that have to be built from source, for a release on a Python."""
        return tuple(row.requirement for row in _holding(self.source_distributions, version, python_minor))

    def vulnerabilities_of(self, version: str) -> tuple[Vulnerability, ...]:
        return tuple(row for row in self.vulnerabilities if _covers(row.releases, version))

    def cuda_wheels_for(self, version: str) -> CudaWheels | None:
        return next((row for row in self.cuda_wheels if _covers(row.releases, version)), None)

    def cuda_driver(self, cuda: str) -> CudaDriver:
        for row in self.cuda_drivers:
            if row.cuda == cuda:
                return row
        raise TableError(
            f"{_path(self.directory, 'cuda_drivers')} has no row for CUDA {cuda}; it knows "
            f"{', '.join(row.cuda for row in self.cuda_drivers)}. Add the row."
        )

    def driver_for_ptx(self, version: str) -> str:
        """The driver of the first CUDA that knows this version of PTX."""
        for row in self.cuda_drivers:
            if Version(row.ptx) >= Version(version):
                return row.driver
        raise TableError(f"{_path(self.directory, 'cuda_drivers')} has no row that knows PTX {version}. Add the row.")

    def glibc_for(self, version: str) -> str | None:
        """The oldest that a release runs on, if its row is known."""
        return next((row.glibc for row in self.glibc if _covers(row.releases, version)), None)

    def kernels_of(self, version: str) -> tuple[Mapping[str, Any], ...]:
        """The kinds of kernels of a release; none where its wheel was not read."""
        return next((row.kernels for row in self.kernels if _covers(row.releases, version)), ())

    def opened_by(self, version: str, component: str) -> tuple[str, ...]:
        """The libraries of CUDA or cuDNN that a release opens."""
        rows = (row for row in self.opened_libraries if row.component == component)
        return next((row.libraries for row in rows if _covers(row.releases, version)), ())

    def chip(self, device_id: str | None) -> tuple[GpuChip, str] | None:
        """The chip of a PCI device and its marketing name; None for a device newer than the table, or on no bus."""
        device = self.gpu_devices.get(device_id) if device_id else None
        if device is None:
            return None
        return next(row for row in self.gpu_chips if row.chip == device.chip), device.name

    def uv(self, architecture: str | None) -> Uv | None:
        return next((row for row in self.uvs if row.architecture == architecture), None)

    @property
    def uv_pythons(self) -> tuple[str, ...]:
        """CPython minors that the pinned uv can download, whatever the architecture."""
        return tuple(minor for minor in self.uvs[0].pythons if all(minor in row.pythons for row in self.uvs))

    def python_package(self, distribution: Mapping[str, str | None], minor: str) -> PythonPackage | None:
        """The row of a distribution's release, a node's `os`; Rocky 9.4 finds that of Rocky 9."""
        os_id, version_id = distribution["id"], distribution["version_id"] or ""
        for row in self.python_packages:
            if (row.os, row.minor) == (os_id, minor) and _same_release(version_id, row.version_id):
                return row
        return None

    def driver_branch(self, branch: int) -> DriverBranch | None:
        return next((row for row in self.driver_branches if row.branch == branch), None)


class _OfDistribution(Protocol):
    @property
    def os(self) -> str: ...
    @property
    def version_id(self) -> str: ...


_Distributed = TypeVar("_Distributed", bound=_OfDistribution)


def rows_for(rows: Sequence[_Distributed], distribution: Mapping[str, str | None]) -> list[_Distributed]:
    """The rows of a node's distribution, its `os`; a rebuild of RHEL finds those of RHEL."""
    names = {distribution["id"], "rhel" if distribution["family"] == "rhel" else None}
    version_id = distribution["version_id"] or ""
    return [row for row in rows if row.os in names and _same_release(version_id, row.version_id)]


# Read by the check and the doctor, and by no plan.
_NOT_PLANNED_FROM = ("companion_proofs", "diagnoses", "gpu_proofs", "log_lines", "proofs")


def preload_tables(directory: str) -> None:
    """Load once what plans are made from, for all processes that are forked from this one afterwards.

    A table that cannot be loaded is for whoever needs it to report.
    """
    with contextlib.suppress(TableError):
        tables = load_tables(directory)
        for name, value in vars(Tables).items():
            if isinstance(value, cached_property) and name not in _NOT_PLANNED_FROM:
                getattr(tables, name)
        _PRELOADED[os.path.realpath(directory)] = tables


_PRELOADED: dict[str, Tables] = {}


def load_tables(directory: str) -> Tables:
    """Every table of a directory. Raises TableError naming the file, and the row and field where there is one."""
    preloaded = _PRELOADED.get(os.path.realpath(directory))
    if preloaded is not None:
        return preloaded
    releases = _load(directory, "releases", Release)
    return Tables(
        directory=directory,
        releases=tuple(sorted(releases, key=lambda row: Version(row.version))),
        constraints=_load(directory, "constraints", Constraint),
        source_distributions=_load(directory, "source_distributions", SourceDistribution),
        cuda_wheels=_load(directory, "cuda_wheels", CudaWheels),
        cuda_drivers=_load(directory, "cuda_drivers", CudaDriver),
        gpu_chips=_load(directory, "gpu_chips", GpuChip),
        driver_branches=_load(directory, "driver_branches", DriverBranch),
        python_packages=_load(directory, "python_packages", PythonPackage),
        uvs=_load(directory, "uv", Uv),
    )


_Row = TypeVar("_Row", bound=tuple[Any, ...])


def _path(directory: str, table: str) -> str:
    return os.path.join(directory, f"{table}.json" if table in _AS_JSON else f"{table}.yml")


def _load(directory: str, table: str, row_class: type[_Row]) -> tuple[_Row, ...]:
    path = _path(directory, table)
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream) if table in _AS_JSON else yaml.load(stream, Loader=_Loader)
    except OSError as error:
        raise TableError(f"The table {path} cannot be read: {error.strerror}. Restore it.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise TableError(f"The table {path} is not {'JSON' if table in _AS_JSON else 'YAML'}: {error}") from error
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise TableError(f"The table {path} has no list `rows`; it may have been truncated. Restore it.")
    fields: tuple[str, ...] = row_class._fields  # type: ignore[attr-defined]  # all are named tuples
    required = set(fields) - row_class._field_defaults.keys()  # type: ignore[attr-defined]
    made = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise TableError(f"{path}, row {number}: expected a mapping, found {row!r}.")
        if not required <= row.keys() <= set(fields) or any(map(_holds_float, row.values())):
            raise _wrong_row(path, number, row, fields, required)
        made.append(row_class(**{field: _frozen(value) for field, value in row.items()}))
    return tuple(made)


def _wrong_row(
    path: str, number: int, row: dict[str, Any], fields: Sequence[str], required: Collection[str]
) -> TableError:
    where = f"{path}, row {number} ({', '.join(f'{k}: {v}' for k, v in list(row.items())[:3])})"
    for field in fields:
        if field not in row and field in required:
            return TableError(f"{where}: the field `{field}` is missing.")
    for field, value in row.items():
        if field not in fields:
            return TableError(f"{where}: the field `{field}` is unknown; fields are {', '.join(fields)}.")
        if _holds_float(value):
            break
    return TableError(f"{where}: `{field}` is a number, {value}. Put the version in quotes.")


def _holds_float(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return isinstance(value, float)
    return any(map(_holds_float, value))


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _same_release(version_id: str, row_version_id: str) -> bool:
    return version_id == row_version_id or version_id.startswith(row_version_id + ".")


_Conditional = TypeVar("_Conditional", Companion, Constraint, SourceDistribution)


def _holding(rows: tuple[_Conditional, ...], version: str, python_minor: str) -> tuple[_Conditional, ...]:
    environment = {"python_version": python_minor, "python_full_version": f"{python_minor}.0"}
    found = []
    for row in rows:
        requirement = Requirement(row.requirement)
        if not _covers(row.releases, version) or (requirement.marker and not requirement.marker.evaluate(environment)):
            continue
        requirement.marker = None
        found.append(row._replace(requirement=str(requirement)))
    return tuple(found)


# A plan asks this some thousand times, of a hundred specifiers.
@functools.cache
def _covers(releases: str, version: str) -> bool:
    return SpecifierSet(releases).contains(version, prereleases=True)
