"""The rows of the tables, a class for each table. A named tuple is made in a third of the time of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Release(NamedTuple):
    """One TensorFlow release. `package` is the project with its GPU build."""

    version: str
    package: str
    packages: Mapping[str, str]  # project -> gpu, cpu
    pythons: Mapping[str, tuple[str, ...]]  # architecture -> CPython minors that have a wheel, oldest first
    aarch64: str  # none, cpu_stub (a wheel that only requires tensorflow-cpu-aws), cpu
    cuda: str
    cudnn: str
    cudnn_floor: str
    gpu_code: tuple[str, ...] | None  # None: the wheel does not say
    source: tuple[str, ...]

    @property
    def cpu_package(self) -> str:
        return "tensorflow" if "tensorflow" in self.packages else self.package

    @property
    def has_project_for_gpu(self) -> bool:
        """Is the GPU build a project of its own, next to a `tensorflow` for the CPU?"""
        return self.cpu_package != self.package


class Constraint(NamedTuple):
    """A requirement that a release needs today and its metadata lack; `symptom` is what is seen without it."""

    releases: str
    requirement: str
    kind: str  # constraint (a limit on what is installed anyway), add (is installed too)
    symptom: str
    source: tuple[str, ...]


class Companion(NamedTuple):
    """A bound of `project`, which is for TensorFlow, that its metadata lack; `symptom` is what is seen without it."""

    releases: str
    project: str
    requirement: str
    # constraint (a limit on the project), prefer (one that a version which the user names overrules), add (what its
    # import needs)
    kind: str
    symptom: str
    source: tuple[str, ...]


class CompanionProof(NamedTuple):
    """`version` of `project` was installed next to a release from the lock with this digest, and worked."""

    release: str
    python: str
    project: str
    version: str
    lock_sha256: str
    date: str
    source: tuple[str, ...]


class TorchRelease(NamedTuple):
    """The newest torch that fits next to a release with CUDA as wheels, on the newest Python that has one."""

    release: str
    python: str
    torch: str
    source: tuple[str, ...]


class SourceDistribution(NamedTuple):
    """A project without a wheel in a version that a release needs; `requirement` is its name, perhaps with a marker."""

    releases: str
    requirement: str
    source: tuple[str, ...]


class Proof(NamedTuple):
    """A release was built from the lock with this digest, and did what scripts/prove.py asks of it."""

    release: str
    python: str
    flavour: str  # cpu, or cuda, of which `libraries` were opened
    lock_sha256: str
    date: str
    libraries: tuple[str, ...]
    source: tuple[str, ...]


class GpuProof(NamedTuple):
    """A release computed on a real GPU; `verdicts` are those of the cases of tests/gpu/run.py."""

    release: str
    gpu: str
    driver: str
    cuda: str
    cudnn: str
    python: str
    date: str
    verdicts: Mapping[str, str]
    seconds: int  # of the whole check, at its first run
    source: tuple[str, ...]


class CudaWheels(NamedTuple):
    """The nvidia-* wheels for some releases; `cuda` and `cudnn` are what these wheels bring.

    `link`: TensorFlow's RUNPATH does not reach all of them, so they have to be linked into its directory.
    """

    releases: str
    cuda: str
    cudnn: str
    architecture: str
    requirements: tuple[str, ...]
    cudnn_requirements: tuple[str, ...]  # those of them for cuDNN beside a CUDA that comes from elsewhere
    link: bool
    source: tuple[str, ...]


class Kernels(NamedTuple):
    """Kinds of kernels in the wheels of some releases, each {count, machine_code, ptx: {target, version}}."""

    releases: str
    kernels: tuple[Mapping[str, Any], ...]
    source: tuple[str, ...]


class OpenedLibraries(NamedTuple):
    """The names by which some releases open CUDA or cuDNN, with those of cuDNN's own parts."""

    releases: str
    component: str  # cuda, cudnn
    libraries: tuple[str, ...]
    source: tuple[str, ...]


class CudaDriver(NamedTuple):
    """`driver` comes with the toolkit; the older `minor_compatibility_driver` runs machine code, but no newer PTX."""

    cuda: str
    takes_newer: bool  # what was built with it runs with a newer one of the same major
    driver: str
    minor_compatibility_driver: str | None
    ptx: str  # the newest version that this CUDA and its driver compile
    lazy_loading: str  # none, possible (its runtime can), default (its driver does so unasked)
    source: tuple[str, ...]


class GpuChip(NamedTuple):
    """`first_` and `last_`: None where every version that a release of TensorFlow takes will do."""

    chip: str
    architecture: str
    compute_capability: str
    first_cuda: str
    last_cuda: str | None
    first_cudnn: str | None
    last_cudnn: str | None
    last_driver_branch: int | None
    open_modules: bool
    proprietary_modules: bool
    source: tuple[str, ...]

    def is_driven_by(self, kernel_modules: str) -> bool:
        """By the driver's kernel modules of a kind: open or proprietary."""
        return self.open_modules if kernel_modules == "open" else self.proprietary_modules


class SmallGpu(NamedTuple):
    """A chip with fewer multiprocessors than TensorFlow wants of a GPU next to larger ones."""

    chip: str
    names: str | None  # a regular expression for the names of the variants; None: all
    multiprocessors: int
    source: tuple[str, ...]


class GpuDevice(NamedTuple):
    device_id: str
    chip: str
    name: str
    source: tuple[str, ...]


class DriverBranch(NamedTuple):
    """`cuda` is the newest CUDA that the branch knows by itself.

    `end_of_life` is a month, "ended" if NVIDIA names none, or None while it is open and no end is known.
    """

    branch: int
    kernel_modules: str  # open, proprietary: those that NVIDIA's installer takes if the GPU has a choice
    end_of_life: str | None
    cuda: str | None
    source: tuple[str, ...]

    def has_ended(self, today: str) -> bool:
        """Gets it no fixes any more, on a day such as 2026-11-26?"""
        if self.end_of_life == "ended":
            return True
        return bool(self.end_of_life and today and self.end_of_life < today[:7])


class PythonPackage(NamedTuple):
    """A distribution's own package of one CPython; `venv_package` is what `python -m venv` needs beside it."""

    os: str
    version_id: str
    minor: str
    package: str
    venv_package: str | None
    source: tuple[str, ...]


class Repository(NamedTuple):
    """A package repository of NVIDIA's; `os` rhel is every rebuild of it."""

    os: str
    version_id: str
    architecture: str
    manager: str  # apt, dnf
    name: str
    url: str
    key: str
    fingerprints: tuple[str, ...]
    retired_fingerprints: tuple[str, ...]
    source: tuple[str, ...]


class Components(NamedTuple):
    """Components of the distribution's own archive that its NVIDIA packages need."""

    os: str
    version_id: str
    components: tuple[str, ...]
    source: tuple[str, ...]


class CudaPackages(NamedTuple):
    """CUDA in one repository. {cuda} stands for one of `cuda` (12.5), {dashed} for the same with a dash (12-5)."""

    os: str
    version_id: str
    origin: str  # distro, nvidia_repo
    cuda: tuple[str, ...]
    packages: tuple[str, ...]
    belongs: tuple[str, ...]
    prefix: str
    library_directory: str
    source: tuple[str, ...]


class CudnnPackages(NamedTuple):
    """cuDNN in NVIDIA's repository; `cuda` is the major release that it is built for."""

    os: str
    version_id: str
    cudnn: str
    cuda: str
    packages: tuple[str, ...]
    belongs: tuple[str, ...]
    source: tuple[str, ...]


class DriverPackages(NamedTuple):
    """One branch of the driver in one repository, with one kind of kernel modules. {kernel} stands for `uname -r`."""

    os: str
    version_id: str
    origin: str  # distro, nvidia_repo
    branch: int
    kernel_modules: str  # open, proprietary
    version: str
    user_space: tuple[str, ...]  # all that a container needs
    modules: tuple[str, ...]  # built by DKMS
    headers: str
    signed_modules: str | None
    fabric_manager: str | None
    stream: str | None  # of a dnf module
    last_kernel: str | None
    dkms_repository: str | None  # has DKMS, which neither the distribution nor NVIDIA has
    belongs: tuple[str, ...]
    source: tuple[str, ...]


class Redist(NamedTuple):
    """CUDA or cuDNN as archives of NVIDIA's, each a row for the module nvidia_redist."""

    component: str  # cuda, cudnn
    version: str
    cuda: str  # of a cuDNN the major release that it is built for
    prefix: str
    library_directory: str
    archives: tuple[Mapping[str, Any], ...]
    source: tuple[str, ...]


class Address(NamedTuple):
    name: str
    url: str
    source: tuple[str, ...]


class PythonLife(NamedTuple):
    """`end_of_life` is the month after which a CPython gets no security fixes."""

    minor: str
    end_of_life: str
    source: tuple[str, ...]


class Vulnerability(NamedTuple):
    advisory: str
    releases: str
    what: str
    fixed_in: str
    source: tuple[str, ...]


class Diagnosis(NamedTuple):
    """What stops TensorFlow or its GPU; read by diagnose.py, which says what the fields mean for the order."""

    rank: int
    cause: str
    component: str
    gpu: bool  # only where a GPU is to be used
    fallback: bool  # only where nothing before it fits
    evidence: tuple[Mapping[str, Any], ...]  # {by, line} or {facts}; one of them is enough
    says: str
    do: str
    pains: tuple[int, ...]
    source: tuple[str, ...]
    warns: bool = False  # the program goes on with it, so what ends one comes first
    explains: tuple[str, ...] = ()  # causes that follow from this one, if both are found
    do_on: Mapping[str, str] = {}  # kind of node: what to do there instead
    report: Mapping[str, str] | None = None  # {url, date}: where its text was reported in public


class LogLine(NamedTuple):
    """How a line of a log is taken that has no known cause; read by log_judge.py."""

    kind: str
    by: str
    line: str
    source: tuple[str, ...]


class Uv(NamedTuple):
    version: str
    architecture: str
    filename: str
    sha256: str
    bytes: int
    program_sha256: str  # of the program in the wheel
    pythons: tuple[str, ...]  # CPython minors that this uv can download for this architecture
    python_hosts: tuple[str, ...]  # from there, in the order in which it tries
    python_megabytes: int  # of one, at most
    python_archives: Mapping[str, str]  # by minor, the sha256 of what is downloaded
    source: tuple[str, ...]
