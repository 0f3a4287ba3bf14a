"""A node as the planning asks it: one frozen view of the record that `gpu_node_info` returns. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from ..errors import StackError
from ..records.additions import Addition
from ..records.component import LIBRARIES
from ..records.gpus import why_out_of_reach
from ..records.libraries import is_stub


@dataclass(frozen=True)
class NodeGpu:
    index: int
    device_id: str | None  # null for one that is on no PCI bus
    pci_address: str | None = None
    uuid: str | None = None
    bound_to: str | None = None
    device_file: str | None = None
    mig_instances: int = 0
    out_of_reach: str | None = None  # why no process of this node can use it


@dataclass(frozen=True)
class NodeKind:
    """What a node is in one aspect, and the file that tells it."""

    aspect: str  # container, platform, system, driver
    kind: str
    by: str


@dataclass(frozen=True)
class NodeDriver:
    loaded: str | None
    kind: str | None  # open, proprietary
    installed: str | None
    libcuda: str | None
    stubs: tuple[str, ...] = ()  # libraries of CUDA's toolkit that the loader may take for libcuda

    @property
    def present(self) -> str | None:
        """The version that is loaded, else the one that is installed."""
        return self.loaded or self.installed


@dataclass(frozen=True)
class Interpreter:
    version: str | None
    minor: str
    path: str
    origin: str
    distutils: bool
    public: bool  # every user may start it
    fault: str | None = None  # why it does not start, if somebody tried

    @property
    def is_usable(self) -> bool:
        """Debian packs distutils apart, and uv drives no Python older than 3.10 without it."""
        # fact: docs/cuda_libraries.md, 2026-11-22
        return self.fault is None and (self.distutils or Version(self.minor) >= Version("3.10"))

    @property
    def shown(self) -> str:
        """For a message, with what speaks against it."""
        flaw = self.fault or ("" if self.is_usable else "has no distutils")
        return f"{self.version or self.minor} ({self.path}{f', which {flaw}' if flaw else ''})"


@dataclass(frozen=True)
class NodeLibrary:
    """A CUDA or cuDNN on the node; of cuDNN there is its file, and no prefix."""

    version: str
    directory: str
    names: tuple[str, ...]  # by which the loader finds its libraries
    prefix: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class UsedLibrary:
    """The CUDA or cuDNN that an environment was built for."""

    version: str
    source: str


@dataclass(frozen=True)
class Environment:
    name: str
    release: str
    flavour: str  # cpu, cuda
    digest: str
    build: str
    python: str  # its minor
    python_path: str
    python_real_path: str | None
    libraries: Mapping[str, UsedLibrary]  # by component; empty for the CPU
    lock_sha256: str
    packages: Mapping[str, str]
    requirements: tuple[str, ...]  # lines of its lock's requirements
    inputs_sha256: str | None  # of its lock
    requirements_path: str | None  # the user's file that they were in
    is_requirements_path_recorded: bool  # an earlier version of this toolkit did not record it
    added: tuple[str, ...]  # requirements that were added to its lock
    additions: tuple[Addition, ...]  # what is in no lock
    damage: tuple[str, ...] | None  # how its files differ; None if nobody looked
    unfinished: tuple[str, ...]  # what a stopped run left to do
    also_in: tuple[str, ...]
    asked: Mapping[str, Any] | None = None  # the variables that were set for its build; None if that is unknown
    image: str | None = None  # sha256 of the image that is mounted as its build, if one is

    @classmethod
    def read(cls, row: Mapping[str, Any], asked: Mapping[str, Any] | None = None) -> Environment:
        return cls(
            name=row["name"],
            release=row["release"],
            flavour=row["flavour"],
            digest=row["digest"],
            build=row["build"],
            python=row["python"]["minor"],
            python_path=row["python"]["path"],
            python_real_path=row["python"]["real_path"],
            libraries={
                component.name: UsedLibrary(row[component.name]["version"], row[component.name]["source"])
                for component in LIBRARIES
                if row[component.name]
            },
            lock_sha256=row["lock_sha256"],
            packages=row["packages"],
            requirements=tuple(row["requirements"]["lines"]),
            inputs_sha256=row["requirements"]["inputs_sha256"],
            requirements_path=row["requirements"]["path"],
            is_requirements_path_recorded=row["requirements"]["is_recorded"],
            added=tuple(row["added"]),
            additions=tuple(Addition(**addition) for addition in row["additions"]),
            damage=None if row["damage"] is None else tuple(row["damage"]),
            unfinished=tuple(row["unfinished"]),
            also_in=tuple(row["also_in"]),
            asked=asked,
            image=row.get("image"),
        )


@dataclass(frozen=True)
class Managed:
    """What this toolkit installed of a component; empty tables for one that was installed from archives."""

    source: str
    version: str
    asked: Mapping[str, str | None]  # package -> version or pattern
    packages: Mapping[str, str | None]

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Managed:
        return cls(
            source=row["source"],
            version=row["version"],
            asked={package["name"]: package.get("version") for package in row.get("asked", {}).get("packages", ())},
            packages={package["name"]: package.get("version") for package in row.get("packages", ())},
        )


@dataclass(frozen=True)
class NodeFacts:
    architecture: str | None
    architecture_unread: str | None  # why it is unknown, if it is
    c_library: str | None  # glibc, musl; None if neither has its loader where programs from elsewhere look for it
    glibc: str | None  # its version
    os: Mapping[str, str | None]
    user_name: str
    is_root: bool
    kinds: Mapping[str, NodeKind]  # by aspect
    boot_id: str | None
    secure_boot: bool | None
    kernels: tuple[str, ...]  # releases of those that need the driver
    has_dkms: bool
    yum_repositories: tuple[str, ...]  # names of those that are enabled
    gpus: tuple[NodeGpu, ...]
    other_gpus: tuple[str, ...]  # vendors of others than NVIDIA's
    nvswitches: int
    driver: NodeDriver
    other_drivers: tuple[str, ...]  # loaded, and holding GPUs that NVIDIA's driver wants
    interpreters: tuple[Interpreter, ...]
    cuda: tuple[NodeLibrary, ...]
    cudnn: tuple[NodeLibrary, ...]
    managed: Mapping[str, Managed]
    root: str  # of the environments
    root_is_writable: bool
    root_unread: str | None  # why it cannot be read, if it cannot
    variables: Mapping[str, str]  # that decide which GPUs and libraries TensorFlow finds
    environments: tuple[Environment, ...]
    current_name: str | None
    rollback: Mapping[str, str] | None  # the environment and the build that a rollback would switch to
    checks: Mapping[str, Mapping[str, Any]]  # the last verdict of each environment that has one, as it is stored
    cached: frozenset[str] = frozenset()  # name==version of the wheels in the node's cache, if somebody looked

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> NodeFacts:
        """Raises StackError if a fact is missing, as in a record of another version of this toolkit."""
        try:
            return cls(
                architecture=record["architecture"],
                architecture_unread=_unread(record, "architecture"),
                c_library=record["c_library"],
                glibc=record["glibc"],
                os=record["os"],
                user_name=record["user"]["name"],
                is_root=record["user"]["uid"] == 0,
                kinds={row["aspect"]: NodeKind(**row) for row in record["kinds"]},
                boot_id=record["boot_id"],
                secure_boot=record["secure_boot"],
                kernels=tuple(row["release"] for row in record["kernels"] if row["needs_driver"]),
                has_dkms=record["dkms"],
                yum_repositories=tuple(record["yum_repositories"]),
                gpus=tuple(_gpu(row, record["kinds"]) for row in record["gpus"]),
                other_gpus=tuple(_VENDORS[row["vendor"]] for row in record["other_gpus"]),
                nvswitches=record["nvswitches"],
                driver=_driver(record["driver"]),
                other_drivers=tuple(name for name in ("nouveau", "nova_core") if record["modules"][name]),
                interpreters=tuple(map(_interpreter, record["pythons"])),
                cuda=tuple(map(_library, record["cuda"])),
                cudnn=tuple(map(_library, record["cudnn"])),
                managed={name: Managed.read(row) for name, row in record["managed"].items()},
                root=record["environments_root"]["path"],
                root_is_writable=record["environments_root"]["writable"],
                root_unread=_unread(record, "environments_root"),
                variables=record["variables"],
                environments=tuple(
                    Environment.read(row, _asked(record["manifest"] or {}, row)) for row in record["environments"]
                ),
                current_name=(record["manifest"] or {}).get("current"),
                rollback=(record["manifest"] or {}).get("rollback"),
                checks=_checks(record["manifest"] or {}),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise StackError(
                f"The node record is not that of gpu_node_info as it is now ({type(error).__name__}: {error}). "
                "Read the node again with the gpu_node_info of this checkout."
            ) from error

    @property
    def container(self) -> str | None:
        """What runs the container that this node is."""
        return self._kind("container")

    @property
    def platform(self) -> str | None:
        return self._kind("platform")

    def _kind(self, aspect: str) -> str | None:
        return self.kinds[aspect].kind if aspect in self.kinds else None

    @property
    def current_environment(self) -> Environment | None:
        """The one that was applied last."""
        return self.environment(self.current_name)

    def environment(self, name: str | None) -> Environment | None:
        return next((row for row in self.environments if row.name == name), None)

    def has_cuda(self, version: str, directory: str) -> bool:
        return any((row.version, row.directory) == (version, directory) for row in self.cuda)

    def has_cudnn(self, version: str, directories: Sequence[str]) -> bool:
        wanted = Version(version).release[:3]
        return any(Version(row.version).release[:3] == wanted and row.directory in directories for row in self.cudnn)


def _asked(manifest: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the manifest says of the build in use."""
    entry = manifest.get("environments", {}).get(row["name"], {})
    asked: Mapping[str, Any] | None = entry.get("asked", {}).get(row["build"])
    return asked


def _unread(record: Mapping[str, Any], fact: str) -> str | None:
    return next((row["reason"] for row in record["unread"] if row["fact"] == fact), None)


def _checks(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    entries = manifest.get("environments", {})
    return {name: entry["check"] for name, entry in entries.items() if entry.get("check")}


_VENDORS = {"1002": "AMD", "8086": "Intel"}


def _gpu(row: Mapping[str, Any], kinds: Sequence[Mapping[str, str]]) -> NodeGpu:
    return NodeGpu(
        index=row["index"],
        device_id=row["device_id"],
        pci_address=row["pci_address"],
        uuid=row["uuid"],
        bound_to=row["bound_to"],
        device_file=row["device_file"],
        mig_instances=row["mig_instances"],
        out_of_reach=why_out_of_reach(row, is_in_container=any(kind["aspect"] == "container" for kind in kinds)),
    )


def _driver(row: Mapping[str, Any]) -> NodeDriver:
    # A container is given the library of its host's driver, in Apptainer under a name without the version.
    installed = row["installed"] or (row["loaded"] if row["libcuda"] else None)
    stubs = tuple(path for path in row["other_libcuda"] if is_stub(path))
    return NodeDriver(row["loaded"], row["kind"], installed, row["libcuda"], stubs)


def _interpreter(row: Mapping[str, Any]) -> Interpreter:
    return Interpreter(
        row["version"],
        row["minor"],
        row["path"],
        row["origin"],
        row["distutils"],
        row["public"],
        row.get("fault"),
    )


def _library(row: Mapping[str, Any]) -> NodeLibrary:
    names = tuple(row["libraries"])
    return NodeLibrary(row["version"], row["library_directory"], names, row.get("prefix"), row.get("library"))
