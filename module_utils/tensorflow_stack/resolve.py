"""Tables + node + policy -> the stack of one release, or every reason why it cannot be.

Pure: touches no disk, starts nothing. `assess` answers for one release; `choose` for "the newest that runs here".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable

from packaging.version import InvalidVersion, Version

from .errors import RefusedError
from .tables import Release, Tables

# Where an interpreter that is there comes from, best first: what the system's own updates keep in order is
# a better base for an environment than what somebody may clean up.
_ORIGINS = ("system", "opt", "uv", "pyenv", "path")
# Where the loader looks by itself, and where much else lies that is not to be linked.
_LOADER_DIRECTORIES = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib")


@dataclass(frozen=True)
class Policy:
    """What the inventory wants beside the release; the variable of each field is beside it."""

    gpu: str = "auto"  # tensorflow_gpu: auto, required, none
    cuda_source: str = "auto"  # cuda_source: auto, found, wheels
    python: str = ""  # tensorflow_python: a minor such as 3.10, or "" for the best one
    python_source: str = "auto"  # python_source: auto, found, distro, uv


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
    code: str  # native, jit, none, unknown

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

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Cuda:
    """CUDA and cuDNN of one stack; both come from the same source."""

    version: str
    cudnn: str
    source: str  # found, wheels
    # To be linked where TensorFlow's loader looks; empty where it finds the libraries by itself.
    library_directories: tuple[str, ...]


@dataclass(frozen=True)
class Driver:
    floor: str
    installed: str | None
    loaded: str | None


@dataclass(frozen=True)
class Stack:
    release: Release
    package: str
    flavour: str  # cpu, cuda
    python: Python
    cuda: Cuda | None
    driver: Driver | None
    gpus: tuple[Gpu, ...]
    warnings: tuple[str, ...] = ()

    @property
    def lock_flavour(self) -> str:
        """`cuda` where the lock has to bring CUDA; an environment bound to the node's CUDA needs TensorFlow alone."""
        return "cuda" if self.cuda and self.cuda.source == "wheels" else "cpu"


@dataclass(frozen=True)
class Assessment:
    """The answer for one release: it runs when there are no refusals. `stack` is there as far as it could be found."""

    release: Release
    stack: Stack | None
    refusals: tuple[Refusal, ...] = ()


@dataclass
class _Findings:
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, component: str, *, found: str, wanted: str, set: str) -> None:
        self.refusals.append(Refusal(component, found, wanted, set))


def find_release(tables: Tables, version: str, *, where: str = "") -> Release:
    """The table's row of a release; RefusedError naming the nearest ones when there is none, and `where` it stands."""
    release = tables.release(version)
    if release:
        return release
    known = [row.version for row in tables.releases]
    is_minor = re.fullmatch(r"[0-9]+\.[0-9]+", version)
    hint = " (all three numbers, in quotes: YAML reads 2.10 as 2.1)" if is_minor else ""
    raise RefusedError(
        f"TensorFlow {version}{where} is not a release that is known here; nearest are "
        f"{', '.join(_nearest(version, known))}. "
        f"Set tensorflow_version to one of them{hint}.",
        asked=version,
    )


def _nearest(version: str, known: list[str]) -> list[str]:
    """Up to three known releases: those of the same minor, else the neighbours in order."""
    try:
        asked = Version(version)
    except InvalidVersion:
        return known[-3:]
    same_minor = [row for row in known if Version(row).release[:2] == asked.release[:2]]
    if same_minor:
        return same_minor[-3:]
    below = [row for row in known if Version(row) < asked]
    above = [row for row in known if Version(row) > asked]
    return below[-2:] + above[:1] or known[-3:]


def choose(
    tables: Tables, node: dict[str, Any], policy: Policy, *, accepts: Callable[[Assessment], bool]
) -> tuple[Assessment | None, list[Assessment]]:
    """The newest release that runs on the node and is accepted, or None; and the assessment of all, newest first."""
    assessments = [assess(tables, row, node, policy) for row in reversed(tables.releases)]
    return next((a for a in assessments if not a.refusals and accepts(a)), None), assessments


def assess_wish(tables: Tables, version: str, node: dict[str, Any], policy: Policy) -> Assessment:
    """`assess` for a release that was asked for by name: refusals carry the nearest release that would run."""
    assessment = assess(tables, find_release(tables, version), node, policy)
    if not assessment.refusals:
        return assessment
    nearest = _nearest_runnable(tables, assessment.release, node, policy)
    refusals = tuple(Refusal(r.component, r.found, r.wanted, r.set, nearest) for r in assessment.refusals)
    return Assessment(assessment.release, assessment.stack, refusals)


def _nearest_runnable(tables: Tables, wanted: Release, node: dict[str, Any], policy: Policy) -> str | None:
    position = tables.releases.index(wanted)
    by_distance = sorted(range(len(tables.releases)), key=lambda i: (abs(i - position), -i))
    for i in by_distance:
        if not assess(tables, tables.releases[i], node, policy).refusals:
            return tables.releases[i].version
    return None


def assess(tables: Tables, release: Release, node: dict[str, Any], policy: Policy) -> Assessment:
    """Can this release run on this node, and with which versions under it?"""
    findings = _Findings()
    flavour = _flavour(node, policy, findings)
    package = release.package if flavour == "cuda" else _cpu_package(release)
    python = _python(tables, release, node, policy, findings)
    gpus: tuple[Gpu, ...] = ()
    cuda = driver = None
    if flavour == "cuda" and release.pythons.get("x86_64") and node["architecture"] != "x86_64":
        findings.refuse(
            "gpu",
            found=f"a GPU on {node['architecture']}",
            wanted=f"x86_64, the only architecture for which TensorFlow {release.version} is built with CUDA",
            set="Set tensorflow_gpu to none for a CPU environment.",
        )
    elif flavour == "cuda":
        gpus = tuple(_gpu(tables, release, row) for row in node["gpus"])
        cuda = _cuda(tables, release, node, policy, findings)
        _check_gpus(tables, release, node, cuda, findings)
        driver = _driver(tables, node, gpus, cuda, findings)
    if python and not python.public and node["user"]["uid"] == 0:
        findings.warnings.append(
            f"Only root can use this environment: its interpreter {python.path} lies where others may not enter. "
            "Install one for all, or set python_source to uv."
        )
    stack = None
    if python and (flavour == "cpu" or (cuda and driver)):
        stack = Stack(release, package, flavour, python, cuda, driver, gpus, tuple(findings.warnings))
    return Assessment(release, stack, tuple(findings.refusals))


def _flavour(node: dict[str, Any], policy: Policy, findings: _Findings) -> str:
    if policy.gpu == "none":
        return "cpu"
    if not node["gpus"]:
        if policy.gpu == "required":
            findings.refuse(
                "gpu",
                found="no NVIDIA GPU on the PCI bus",
                wanted="a GPU (tensorflow_gpu is required)",
                set="Set tensorflow_gpu to auto for a CPU environment.",
            )
        return "cpu"
    return "cuda"


def _cpu_package(release: Release) -> str:
    return "tensorflow" if "tensorflow" in release.packages else release.package


# ------------------------------------------------------------------------------------------------- Python


def _python(
    tables: Tables, release: Release, node: dict[str, Any], policy: Policy, findings: _Findings
) -> Python | None:
    architecture = node["architecture"] or "an unknown architecture"
    minors = list(release.pythons.get(architecture, ()))
    if not minors:
        built = ", ".join(sorted(name for name, pythons in release.pythons.items() if pythons))
        findings.refuse(
            "package",
            found=f"a node of {architecture}",
            wanted=f"a wheel of TensorFlow {release.version}, which exists for {built or 'no Linux architecture'}",
            set="Set tensorflow_version to a release with a wheel for this architecture.",
        )
        return None
    if policy.python:
        if policy.python not in minors:
            findings.refuse(
                "python",
                found=f"tensorflow_python is {policy.python}",
                wanted=f"one of {', '.join(minors)}, for which TensorFlow {release.version} has wheels",
                set="Set tensorflow_python to one of them, or leave it empty.",
            )
            return None
        minors = [policy.python]
    sources = ("found", "distro", "uv") if policy.python_source == "auto" else (policy.python_source,)
    # The newest has the longest life; but an environment that is there keeps its minor.
    own = {e["python"]["minor"] for e in node["environments"] if e["release"] == release.version}
    newest_first = sorted(sorted(minors, key=Version, reverse=True), key=lambda minor: minor not in own)
    for source in sources:
        for minor in newest_first:
            python = _python_from(source, tables, release, node, minor)
            if python:
                return python
    findings.refuse(
        "python",
        found=_pythons_found(node),
        wanted=f"Python {' or '.join(minors)} for TensorFlow {release.version} (looked for by: {', '.join(sources)})",
        set=(
            "Install one of these (PATH, /usr/bin, pyenv, /opt and uv's directory are searched), allow more with "
            "python_source: auto, or run as root where the distribution has a package."
        ),
    )
    return None


def _python_from(source: str, tables: Tables, release: Release, node: dict[str, Any], minor: str) -> Python | None:
    is_fitting: Callable[[dict[str, Any]], bool] = {
        "found": lambda row: True,
        "distro": lambda row: row["path"] == f"/usr/bin/python{minor}",
        "uv": lambda row: row["origin"] == "uv",
    }[source]
    there = [row for row in node["pythons"] if row["minor"] == minor and is_fitting(row)]
    if there:
        return _found_python(there, release, node)
    if source == "distro":
        package = tables.python_package(node["os"]["id"], node["os"]["version_id"], minor)
        if package is None or node["user"]["uid"] != 0:
            return None
        return Python(minor, None, "distro", f"/usr/bin/python{minor}", package.package)
    if source == "uv" and minor in tables.uv_pythons:
        # The link that uv keeps to the newest patch of a minor.
        directory = f"cpython-{minor}-linux-{node['architecture']}-gnu"
        path = f"{node['environments_root']['path']}/.pythons/{directory}/bin/python{minor}"
        return Python(minor, None, "uv", path)
    return None


def _found_python(rows: list[dict[str, Any]], release: Release, node: dict[str, Any]) -> Python:
    """The best of some interpreters. An environment keeps its own: a better one is no reason to rebuild it."""
    own = {
        e["python"]["real_path"]: e["python"]["path"] for e in node["environments"] if e["release"] == release.version
    }
    best = min(
        rows,
        key=lambda row: (row["path"] not in own, not row["public"], _ORIGINS.index(row["origin"]), row["path"]),
    )
    return Python(best["minor"], best["version"], "found", own.get(best["path"], best["path"]), public=best["public"])


def _pythons_found(node: dict[str, Any]) -> str:
    found = [f"{row['version'] or row['minor']} ({row['path']})" for row in node["pythons"]]
    return ", ".join(found) or "no Python"


# --------------------------------------------------------------------------------------------------- GPUs


def _gpu(tables: Tables, release: Release, row: dict[str, Any]) -> Gpu:
    known = tables.chip(row["device_id"])
    if known is None:
        return Gpu(row["index"], f"NVIDIA device {row['device_id']}", None, None, "unknown")
    chip, name = known
    code = kernel_code(release.gpu_code, chip.compute_capability)
    return Gpu(row["index"], name, chip.architecture, chip.compute_capability, code)


def kernel_code(gpu_code: tuple[str, ...] | None, compute_capability: str) -> str:
    """What a wheel built for `gpu_code` (sm_70, compute_80 ...) has for a GPU: native, jit, none or unknown.

    Machine code runs on its own major, at the same or a higher minor; PTX (compute_XY) is compiled at the
    first start for anything newer, which takes minutes.
    """
    if gpu_code is None:
        return "unknown"
    wanted = tuple(int(part) for part in compute_capability.split("."))
    jit = False
    for entry in gpu_code:
        kind, _, digits = entry.partition("_")
        built = int(digits[:-1]), int(digits[-1])
        if built[0] == wanted[0] and built[1] <= wanted[1]:
            return "native"
        jit = jit or (kind == "compute" and built <= wanted)
    return "jit" if jit else "none"


def _check_gpus(tables: Tables, release: Release, node: dict[str, Any], cuda: Cuda | None, findings: _Findings) -> None:
    indices: dict[str, list[str]] = {}
    for row in node["gpus"]:
        indices.setdefault(row["device_id"], []).append(str(row["index"]))
    for device_id, same in indices.items():
        known = tables.chip(device_id)
        if known is None:
            findings.warnings.append(
                f"GPU {', '.join(same)} is not in the table of GPUs (device {device_id}): whether this release has "
                "code for it will show in the check."
            )
            continue
        chip, name = known
        label = f"GPU {', '.join(same)} ({name}, {chip.architecture}, compute capability {chip.compute_capability})"
        code = kernel_code(release.gpu_code, chip.compute_capability)
        if code == "none":
            findings.refuse(
                "gpu",
                found=label,
                wanted=f"one that TensorFlow {release.version} has code for ({' '.join(release.gpu_code or ())})",
                set="Set tensorflow_version to a release that has code for this GPU, or tensorflow_gpu to none.",
            )
        elif code == "jit":
            findings.warnings.append(
                f"{label}: TensorFlow {release.version} has no machine code for it and compiles PTX at the first "
                "start, which takes up to 30 minutes, once for each user."
            )
        if cuda is None:
            continue
        if Version(cuda.version) < Version(chip.first_cuda):
            findings.refuse(
                "cuda",
                found=f"{label}, which needs CUDA {chip.first_cuda} or newer",
                wanted=f"CUDA {cuda.version}, the newest that TensorFlow {release.version} can use",
                set="Set tensorflow_version to a release on a newer CUDA, or tensorflow_gpu to none.",
            )
        if chip.last_cuda and Version(cuda.version) > Version(chip.last_cuda):
            findings.refuse(
                "cuda",
                found=f"{label}, which CUDA supports up to {chip.last_cuda}",
                wanted=f"CUDA {cuda.version} for TensorFlow {release.version}",
                set="Set tensorflow_version to a release on an older CUDA, or tensorflow_gpu to none.",
            )


# ------------------------------------------------------------------------------------------ CUDA and driver


def _cuda(tables: Tables, release: Release, node: dict[str, Any], policy: Policy, findings: _Findings) -> Cuda | None:
    sources = ("found", "wheels") if policy.cuda_source == "auto" else (policy.cuda_source,)
    reasons = []
    for source in sources:
        cuda, reason = (_found_cuda if source == "found" else _wheel_cuda)(tables, release, node)
        if cuda:
            return cuda
        reasons.append(reason)
    findings.refuse(
        "cuda",
        found="; ".join(reasons),
        wanted=f"CUDA {release.cuda} and cuDNN {release.cudnn} for TensorFlow {release.version}",
        set="Install them beside what is there and run again, or set cuda_source to auto.",
    )
    return None


def _found_cuda(tables: Tables, release: Release, node: dict[str, Any]) -> tuple[Cuda | None, str]:
    """CUDA of the very version and a cuDNN of the same major and at least the floor, both on the node."""
    cuda = next((row for row in node["cuda"] if row["version"] == release.cuda), None)
    if _cpu_package(release) != release.package:
        return None, f"a CUDA of the node cannot be used, there are no locks of {release.package} without CUDA"
    floor = Version(release.cudnn_floor)
    fitting = [
        row
        for row in node["cudnn"]
        if Version(row["version"]).major == floor.major and Version(row["version"]) >= floor
    ]
    if cuda is None or not fitting:
        there = [f"CUDA {row['version']}" for row in node["cuda"]] + [
            f"cuDNN {row['version']}" for row in node["cudnn"]
        ]
        return None, f"the node has {', '.join(there) or 'neither'}"
    cudnn = fitting[0]
    directories = dict.fromkeys([cuda["library_directory"], cudnn["library_directory"]])
    to_link = tuple(directory for directory in directories if directory not in _LOADER_DIRECTORIES)
    return Cuda(str(cuda["version"]), str(cudnn["version"]), "found", to_link), ""


def _wheel_cuda(tables: Tables, release: Release, node: dict[str, Any]) -> tuple[Cuda | None, str]:
    row = tables.cuda_wheels_for(release.version)
    if row is None:
        return None, f"there are no wheels of CUDA {release.cuda}"
    if row.architecture != node["architecture"]:
        return None, f"the CUDA wheels for it exist for {row.architecture} alone"
    return Cuda(row.cuda, row.cudnn, "wheels", ("nvidia/*/lib",) if row.link else ()), ""


def _driver(
    tables: Tables, node: dict[str, Any], gpus: tuple[Gpu, ...], cuda: Cuda | None, findings: _Findings
) -> Driver | None:
    if cuda is None:
        return None
    row = tables.cuda_driver(cuda.version)
    # PTX is compiled by the driver, which has to know the PTX of that toolkit; minor-version compatibility
    # promises machine code only.
    jit = any(gpu.code == "jit" for gpu in gpus)
    floor = row.driver if jit or row.minor_compatibility_driver is None else row.minor_compatibility_driver
    loaded, installed = node["driver"]["loaded"], node["driver"]["installed"]
    driver = Driver(floor, installed, loaded)
    _check_driver(tables, node, gpus, cuda, driver, findings)
    return driver


def _check_driver(
    tables: Tables,
    node: dict[str, Any],
    gpus: tuple[Gpu, ...],
    cuda: Cuda,
    driver: Driver,
    findings: _Findings,
) -> None:
    wanted = f"a driver of {driver.floor} or newer for CUDA {cuda.version}"
    for row, gpu in zip(node["gpus"], gpus):
        known = tables.chip(row["device_id"])
        last = known[0].last_driver_branch if known else None
        if last is not None and Version(driver.floor).major > last:
            findings.refuse(
                "driver",
                found=f"GPU {gpu.index} ({gpu.name}), whose last driver branch is {last}",
                wanted=wanted,
                set="Set tensorflow_version to a release on an older CUDA, or tensorflow_gpu to none.",
            )
            return
        if last is not None and driver.installed and Version(driver.installed).major > last:
            findings.refuse(
                "driver",
                found=f"driver {driver.installed}, which no longer supports GPU {gpu.index} ({gpu.name})",
                wanted=f"a driver of branch {last}",
                set=f"Install a driver of branch {last} as root and run again.",
            )
            return
    version = driver.loaded or driver.installed
    by_hand = "Install it as root (this release of the toolkit leaves the driver to you), reboot, and run again; "
    otherwise = "or set tensorflow_gpu to none for a CPU environment."
    if version is None:
        nouveau = " (nouveau is loaded in its place)" if node["modules"]["nouveau"] else ""
        findings.refuse("driver", found="no NVIDIA driver" + nouveau, wanted=wanted, set=by_hand + otherwise)
    elif Version(version) < Version(driver.floor):
        findings.refuse("driver", found=f"driver {version}", wanted=wanted, set=by_hand + otherwise)
    elif driver.loaded and driver.installed and driver.loaded != driver.installed:
        findings.refuse(
            "driver",
            found=f"kernel module {driver.loaded} loaded, library {driver.installed} installed",
            wanted="the same version of both",
            set="Reboot (an update changed the library under the loaded module) and run again.",
        )
    elif driver.loaded is None:
        findings.refuse(
            "driver",
            found=f"driver {driver.installed} installed, its kernel module not loaded",
            wanted="a loaded driver",
            set="Load it (modprobe nvidia) or reboot, and run again; or set tensorflow_gpu to none.",
        )
