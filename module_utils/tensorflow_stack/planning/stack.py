"""What is wanted of a node and what was found for it: the words that the parts of the resolution share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..locking.added import Added
from ..records.lockfile import Lock
from ..tables.rows import Release
from .node import UsedLibrary


@dataclass(frozen=True)
class Policy:
    """What the inventory wants beside the release; the variable of each field is beside it."""

    gpu: str = "auto"  # tensorflow_gpu: auto, required, none
    driver_source: str = "auto"  # nvidia_driver_source: auto, found, distro, nvidia_repo
    driver_version: str = ""  # nvidia_driver_version: a branch, a whole version, or "" for the best one
    kernel_modules: str = "auto"  # nvidia_driver_kernel_modules: auto, open, proprietary
    allow_downgrade: bool = False  # nvidia_driver_allow_downgrade
    cuda_source: str = "auto"  # cuda_source: auto, found, wheels, nvidia_repo, distro, redist
    cudnn_source: str = "auto"  # cudnn_source: auto, found, wheels, nvidia_repo, redist
    python: str = ""  # tensorflow_python: a minor such as 3.10, or "" for the best one
    python_source: str = "auto"  # python_source: auto, found, distro, uv
    python_mirror: str = ""  # python_mirror or python_downloads: where uv downloads a Python, "" for its own places
    additions: str = "keep"  # tensorflow_additions: keep, stop, drop
    ignored_gpus: tuple[str, ...] = ()  # tensorflow_ignored_gpus: indices, PCI addresses, UUIDs
    source_builds: tuple[str, ...] = ()  # tensorflow_source_builds: projects that may be built from source
    today: str = ""  # such as 2026-11-22; "" where nothing is to count as ended

    @property
    def asked(self) -> dict[str, Any]:
        """The variables that are not as they are by default, of those that decide what is built."""
        unset = Policy()
        values = {name: getattr(self, name) for name in _VARIABLES if getattr(self, name) != getattr(unset, name)}
        # As JSON has them.
        return {_VARIABLES[name]: list(it) if isinstance(it, tuple) else it for name, it in values.items()}

    def with_asked(self, asked: Mapping[str, Any]) -> Policy:
        """This policy; whatever is as by default is as these variables say, of an earlier run."""
        unset = Policy()
        changes = {}
        for name, variable in _VARIABLES.items():
            default = getattr(unset, name)
            value = tuple(map(str, asked[variable])) if isinstance(asked.get(variable), list) else asked.get(variable)
            if getattr(self, name) == default and isinstance(value, type(default)):
                changes[name] = value
        return replace(self, **changes)


_VARIABLES = {
    "gpu": "tensorflow_gpu",
    "driver_source": "nvidia_driver_source",
    "driver_version": "nvidia_driver_version",
    "kernel_modules": "nvidia_driver_kernel_modules",
    "allow_downgrade": "nvidia_driver_allow_downgrade",
    "cuda_source": "cuda_source",
    "cudnn_source": "cudnn_source",
    "python": "tensorflow_python",
    "python_source": "python_source",
    "ignored_gpus": "tensorflow_ignored_gpus",
    "source_builds": "tensorflow_source_builds",
}
# Of what was asked for, everything that decides what is planned; the manifest has more.
PLANNED_VARIABLES = frozenset({"tensorflow_version", "tensorflow_environment", *_VARIABLES.values()})


@dataclass(frozen=True)
class Refusal:
    """One reason why a release cannot run on a node."""

    component: str
    found: str
    wanted: str
    set: str
    nearest_release: str | None = None

    @property
    def message(self) -> str:
        return f"{self.component}: wanted {self.wanted}; found {self.found}. {self.set}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "message": self.message}


@dataclass(frozen=True)
class Gpu:
    index: int
    name: str
    architecture: str | None
    compute_capability: str | None
    code: str  # native, partly, jit, none, unknown
    pci_address: str | None = None  # None for one on no PCI bus

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class OtherGpu:
    """A GPU of the node that the environment does not use."""

    index: int
    name: str
    pci_address: str | None
    why: str

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Python:
    minor: str
    version: str | None
    source: str  # found, distro, uv
    path: str
    package: str | None = None
    public: bool = True  # every user may start it
    places: tuple[str, ...] = ()  # that uv downloads it from
    bytes: int = 0  # to download


@dataclass(frozen=True)
class Package:
    """What the package manager is asked for: a version, a pattern (fnmatch), or None for any."""

    name: str
    version: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Library:
    """CUDA or cuDNN of one stack: where it comes from, and what has to be installed for it."""

    version: str
    source: str  # found, wheels, nvidia_repo, distro, redist
    # To be linked where TensorFlow's loader looks; empty where it finds the libraries by itself.
    library_directories: tuple[str, ...] = ()
    prefix: str | None = None
    packages: tuple[Package, ...] = ()
    belongs: tuple[str, ...] = ()
    archives: tuple[Mapping[str, Any], ...] = ()
    url: str | None = None  # that the paths of the archives are below
    is_there: bool = False  # on the node already, whoever installed it
    floor: str | None = None  # the oldest version that the release runs with, if it names one

    @property
    def is_of_system(self) -> bool:
        """Installed on the node by this toolkit, for all its environments."""
        return self.source not in ("found", "wheels")


@dataclass(frozen=True)
class Driver:
    floor: str
    installed: str | None
    loaded: str | None
    source: str = "found"  # found, distro, nvidia_repo
    branch: str | None = None
    version: str | None = None
    kernel_modules: str | None = None  # open, proprietary, none
    kernels: tuple[str, ...] = ()  # releases of those that get modules
    fabric_manager: bool = False
    stream: str | None = None
    packages: tuple[Package, ...] = ()
    belongs: tuple[str, ...] = ()
    action: str = "keep"  # keep, install, change
    direction: str = "same"  # up, down, same, none
    needs_reboot: bool = False
    why: str = ""

    @property
    def is_of_system(self) -> bool:
        """Installed on the node by this toolkit."""
        return self.source != "found"

    @property
    def present(self) -> str | None:
        """The version that is loaded, else the one that is installed."""
        return self.loaded or self.installed


@dataclass(frozen=True)
class Stack:
    release: Release
    flavour: str  # cpu, cuda
    python: Python
    driver: Driver | None
    libraries: Mapping[str, Library]  # by component; empty for the CPU
    gpus: tuple[Gpu, ...]
    check_seconds: int  # that the check may take
    repositories: tuple[Mapping[str, Any], ...] = ()  # that the packages of driver, CUDA and cuDNN come from
    warnings: tuple[str, ...] = ()
    other_gpus: tuple[OtherGpu, ...] = ()
    visible_gpus: str | None = None  # CUDA_VISIBLE_DEVICES for the environment, if GPUs have to be hidden from it
    unused_gpu: str | None = None  # what speaks for a GPU, where the environment is for the CPU unasked

    @property
    def parts(self) -> dict[str, Driver | Library]:
        """What there is of each component of the system."""
        return {**({"driver": self.driver} if self.driver else {}), **self.libraries}

    @property
    def lock_flavour(self) -> str:
        return lock_flavour(self.release, self.libraries)

    @property
    def library_directories(self) -> tuple[str, ...]:
        paths = (path for library in self.libraries.values() for path in library.library_directories)
        return tuple(dict.fromkeys(paths))


def lock_flavour(release: Release, libraries: Mapping[str, Library | UsedLibrary]) -> str:
    """Which lock an environment with these libraries is built from; none of them: for the CPU.

    `cuda` contains CUDA and cuDNN, `cudnn` cuDNN alone, and `gpu` neither, but TensorFlow from its project for the GPU.
    """
    from_wheels = (name for name in ("cuda", "cudnn") if name in libraries and libraries[name].source == "wheels")
    return next(from_wheels, "gpu" if libraries and release.has_project_for_gpu else "cpu")


@dataclass(frozen=True)
class LockState:
    """The lock that the environment is built from, as it is on the controller."""

    path: str
    directory: str  # where it is made, if it has to be
    state: str  # ready, missing, stale; applied: it lies in the build on the node
    lock: Lock | None
    requirements: str | None = None  # the user's file that goes into it
    applied_sha256: str | None = None
    lines: tuple[str, ...] = ()  # requirements in it beside those of the release and the file
    added: Added | None = None  # what it takes to make it with these lines, if it has to be made

    @property
    def sha256(self) -> str | None:
        return self.lock.sha256 if self.lock else self.applied_sha256


@dataclass(frozen=True)
class Assessment:
    """The answer for one release: it runs when there are no refusals. `stack` is there as far as it could be found."""

    release: Release
    stack: Stack | None
    refusals: tuple[Refusal, ...] = ()


@dataclass
class Findings:
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, component: str, *, found: str, wanted: str, set: str) -> None:
        self.refusals.append(Refusal(component, found, wanted, set))
