"""The driver under one CUDA on one node: kept where it does, else chosen among what the tables know. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from ..tables.load import Tables, rows_for
from ..tables.rows import DriverPackages, GpuChip, Release
from .gpus import ptx_needed
from .node import Managed, NodeFacts
from .node_kind import Keeper, find_keeper
from .stack import Driver, Findings, Gpu, Library, Package, Policy

_SOURCES = ("distro", "nvidia_repo")
_CPU_INSTEAD = "or set tensorflow_gpu to none for a CPU environment."


@dataclass(frozen=True)
class _Need:
    """What a driver has to be, by CUDA, GPUs and wishes."""

    cuda: str
    floor: str  # by CUDA, by the PTX that it has to compile, and by the GPUs
    ptx: str | None  # the version of PTX that the floor is for
    chips: tuple[tuple[str, GpuChip], ...]  # each with the name of its GPU

    @property
    def last(self) -> tuple[int, str] | None:
        """The newest branch that still supports every GPU, and the GPU that it is for."""
        rows = [(chip.last_driver_branch, name) for name, chip in self.chips if chip.last_driver_branch is not None]
        return min(rows, default=None)

    def __str__(self) -> str:
        until = f", of branch {self.last[0]} or older for {self.last[1]}" if self.last else ""
        ptx = f" and PTX {self.ptx}" if self.ptx else ""
        return f"a driver of {self.floor} or newer for CUDA {self.cuda}{ptx}{until}"


@dataclass(frozen=True)
class _Candidate:
    row: DriverPackages
    version: str
    packages: tuple[Package, ...]

    @property
    def label(self) -> str:
        return f"{self.row.branch} ({self.row.kernel_modules} modules, {self.row.origin})"


def resolve_driver(
    tables: Tables,
    release: Release,
    node: NodeFacts,
    gpus: tuple[Gpu, ...],
    cuda: Library,
    policy: Policy,
    findings: Findings,
) -> Driver:
    """The driver as it is or as it is to be; what speaks against it is among the findings."""
    need = _need(tables, release, node, gpus, cuda)
    why = f"new enough for CUDA {cuda.version}{_last_branch(need)}"
    kept = Driver(need.floor, node.driver.installed, node.driver.loaded, why=why)
    if need.last and Version(need.floor).major > need.last[0]:
        findings.refuse(
            "driver",
            found=f"{need.last[1]}, whose last driver branch is {need.last[0]}",
            wanted=f"a driver of {need.floor} or newer for CUDA {cuda.version}",
            set="Set tensorflow_version to a release on an older CUDA, or tensorflow_gpu to none"
            + (
                f", or set {need.last[1]} aside with tensorflow_ignored_gpus."
                if len({gpu.name for gpu in gpus}) > 1
                else "."
            ),
        )
        return kept
    managed = node.managed.get("driver") if node.is_root else None
    keeper = None if managed else find_keeper(tables, node)
    if keeper and keeper.hides_module and node.driver.libcuda and not node.driver.installed:
        return replace(kept, why=f"that of {keeper.keeper}; the check finds its version")
    problem = _problem(node, need, policy, managed)
    if node.platform == "wsl" and node.driver.installed:
        _refuse_linux_driver(node, findings)
        return kept
    if problem is None:
        return _keep_managed(tables, node, kept, managed) if managed else _check_loaded(kept, keeper, findings)
    return _choose(tables, node, need, policy, problem, keeper, kept, findings)


def _need(tables: Tables, release: Release, node: NodeFacts, gpus: tuple[Gpu, ...], cuda: Library) -> _Need:
    row = tables.cuda_driver(cuda.version)
    known = [(f"GPU {gpu.index} ({gpu.name})", tables.chip(device.device_id)) for device, gpu in zip(node.gpus, gpus)]
    chips = tuple((name, chip[0]) for name, chip in known if chip)
    # A GPU is known to the driver that comes with the first CUDA that compiles for it.
    by_cuda = {row.cuda: row.driver for row in tables.cuda_drivers}
    floors = [by_cuda[chip.first_cuda] for _, chip in chips if chip.first_cuda in by_cuda]
    floors.append(row.minor_compatibility_driver or row.driver)
    # Minor-version compatibility promises machine code only. PTX is compiled by the driver, which has to know it.
    kernels = tables.kernels_of(release.version)
    versions = [version for _, chip in chips for version in [ptx_needed(kernels, chip.compute_capability)] if version]
    ptx = max(versions, key=Version, default=None)
    by_ptx = tables.driver_for_ptx(ptx) if ptx else None
    if not kernels and any(gpu.code == "jit" for gpu in gpus):
        by_ptx = row.driver  # its wheel was not read: the PTX is that of its CUDA at most
    floor = max([*floors, by_ptx] if by_ptx else floors, key=Version)
    return _Need(cuda.version, floor, ptx if floor == by_ptx else None, chips)


def _problem(node: NodeFacts, need: _Need, policy: Policy, managed: Managed | None) -> str | None:
    """Why the driver that is there does not do; None where it does."""
    loaded, installed, version = node.driver.loaded, node.driver.installed, node.driver.present
    if version is None:
        others = node.other_drivers
        return "no NVIDIA driver" + (f" ({' and '.join(others)} is loaded in its place)" if others else "")
    if installed is None:
        return f"kernel module {loaded} loaded, no libcuda installed"
    if need.last and Version(installed).major > need.last[0]:
        return f"driver {installed}, which no longer supports {need.last[1]}"
    if Version(version) < Version(need.floor):
        return f"driver {version}" + (f", which does not compile PTX {need.ptx}" if need.ptx else "")
    if policy.driver_version and not _is_of(installed, policy.driver_version):
        return f"driver {installed}"
    kind = node.driver.kind
    if policy.kernel_modules != "auto" and kind not in (None, policy.kernel_modules):
        return f"driver {installed} with {kind} kernel modules"
    if managed and policy.driver_source in _SOURCES and managed.source != policy.driver_source:
        return f"driver {installed} from {managed.source}"
    return None


def _is_of(version: str, wanted: str) -> bool:
    """Is a driver of the branch, or the very version, that was asked for?"""
    return version == wanted or version.startswith(wanted + ".")


def _check_loaded(kept: Driver, keeper: Keeper | None, findings: Findings) -> Driver:
    """Of a driver that somebody else installed: are module and library of one version?"""
    if keeper and keeper.hides_module:
        return kept
    if kept.loaded != kept.installed and keeper:
        findings.refuse(
            "driver",
            found=f"kernel module {kept.loaded or 'not'} loaded, library {kept.installed} installed; {keeper.because}",
            wanted="a loaded driver of one version",
            set=f"{keeper.instead}; {_CPU_INSTEAD}",
        )
    elif kept.loaded and kept.loaded != kept.installed:
        findings.refuse(
            "driver",
            found=f"kernel module {kept.loaded} loaded, library {kept.installed} installed",
            wanted="the same version of both",
            set="Reboot (an update changed the library under the loaded module) and run again.",
        )
    elif kept.loaded is None:
        findings.refuse(
            "driver",
            found=f"driver {kept.installed} installed, its kernel module not loaded",
            wanted="a loaded driver",
            set="Load it (modprobe nvidia) or reboot, and run again; or set tensorflow_gpu to none.",
        )
    return kept


def _refuse_linux_driver(node: NodeFacts, findings: Findings) -> None:
    findings.refuse(
        "driver",
        found=f"{node.driver.libcuda}, of a driver for Linux",
        wanted="the driver of Windows, whose libcuda is in /usr/lib/wsl/lib and is hidden by it",
        set=f"Remove the driver's packages (libnvidia-compute-*, nvidia-driver-*) and run again; {_CPU_INSTEAD}",
    )


def _keep_managed(tables: Tables, node: NodeFacts, kept: Driver, managed: Managed) -> Driver:
    """The driver that this toolkit installed, asked for as it was then."""
    asked, recorded = managed.asked, managed.packages
    rows = [
        row
        for row in rows_for(tables.driver_packages, node.os)
        if row.origin == managed.source and row.branch == Version(managed.version).major
    ]
    # By the packages of its modules: two kinds have the same user space.
    row = max(rows, key=lambda row: sum(package.name in recorded for package in _names(row, row.modules)), default=None)
    if row is None:
        return kept
    driver = _driver(node, kept, _candidate(node, row, f"{managed.version}-*"))
    packages = tuple(replace(p, version=asked.get(p.name, recorded.get(p.name, p.version))) for p in driver.packages)
    mismatch = kept.loaded not in (None, kept.installed)
    why = f"kernel module {kept.loaded} is loaded, library {kept.installed} installed" if mismatch else kept.why
    return replace(
        driver,
        packages=packages,
        action="keep",
        direction="same",
        needs_reboot=mismatch and not node.container,
        why=why,
    )


# ------------------------------------------------------------------------------------------------ choosing


def _choose(
    tables: Tables,
    node: NodeFacts,
    need: _Need,
    policy: Policy,
    problem: str,
    keeper: Keeper | None,
    kept: Driver,
    findings: Findings,
) -> Driver:
    wanted = f"driver {policy.driver_version}" if policy.driver_version else str(need)

    def refuse(set: str, *, found: str = problem) -> Driver:
        findings.refuse("driver", found=found, wanted=wanted, set=set)
        return kept

    if policy.driver_source == "found":
        return refuse(f"Set nvidia_driver_source to auto, install it yourself, {_CPU_INSTEAD}")
    if keeper and (kept.installed or not keeper.gives_libraries):
        return refuse(f"{keeper.instead}; {_CPU_INSTEAD}", found=f"{problem}; {keeper.because}")
    if not node.is_root:
        return refuse(f"Run as root, who can install it; install it yourself; {_CPU_INSTEAD}")
    candidates, reasons = _candidates(tables, node, need, policy)
    if not candidates:
        known = "; ".join(reasons) or f"none is known for {node.os['name'] or 'this distribution'}"
        return refuse(
            f"Set the variables nvidia_driver_* to what the node can have, install it yourself, {_CPU_INSTEAD}",
            found=f"{problem}, and no other that fits: {known}",
        )
    if node.secure_boot and not node.container:
        signed = [candidate for candidate in candidates if candidate.row.signed_modules]
        if not signed:
            return refuse(
                "Turn Secure Boot off in the firmware; or install the driver yourself, with its modules signed by a "
                f"key of yours that is enrolled (mokutil --import), and run again once it is loaded; {_CPU_INSTEAD}",
                found=f"{problem}, and Secure Boot, which refuses modules that are built here",
            )
        candidates = signed
    best = min(candidates, key=lambda candidate: _rank(tables, candidate.row, policy))
    dkms = _dkms_repository(node, best.row)
    if dkms == "":
        return refuse(
            f"Enable EPEL ({tables.addresses['epel']}) or install dkms; or install NVIDIA's precompiled modules "
            f"yourself (dnf module install nvidia-driver:{best.row.branch}) and run again; {_CPU_INSTEAD}",
            found=f"{problem}, and no dkms to build the modules of {best.label}: EPEL, which has it, is not enabled",
        )
    if _has_ended(tables, best.row, policy):
        findings.warnings.append(
            f"NVIDIA has ended driver branch {best.row.branch}, and no other one fits: it is installed from "
            f"{best.row.origin}."
        )
    driver = _driver(node, kept, best)
    if driver.direction == "down" and not policy.allow_downgrade:
        return refuse(f"Set nvidia_driver_allow_downgrade to true, so that {best.label} replaces it, {_CPU_INSTEAD}")
    why = f"{problem}: {best.label}" + (" replaces it" if kept.installed else "")
    why += "" if need.last and need.last[1] in problem else _last_branch(need)
    return replace(driver, why=f"{why}; dkms from {dkms}" if dkms else why)


def _candidates(tables: Tables, node: NodeFacts, need: _Need, policy: Policy) -> tuple[list[_Candidate], list[str]]:
    """Those that fit, and why each of the others does not."""
    candidates, reasons = [], []
    for row in rows_for(tables.driver_packages, node.os):
        candidate = _candidate(node, row, _asked_version(node, row, policy))
        reason = _unfit(node, need, policy, row)
        if reason:
            reasons.append(f"{candidate.label} {reason}")
        else:
            candidates.append(candidate)
    return candidates, reasons


def _dkms_repository(node: NodeFacts, row: DriverPackages) -> str | None:
    """Where DKMS is taken from, if neither the distribution nor NVIDIA has it; "" for nowhere, None if not needed."""
    if row.dkms_repository is None or node.has_dkms or node.container:
        return None
    # Mirrors keep the name in theirs: epel, epel-next, ol9_developer_EPEL, corp-epel-9.
    return next((name for name in node.yum_repositories if row.dkms_repository in name.lower()), "")


def _last_branch(need: _Need) -> str:
    return f"; {need.last[0]} is the last branch for {need.last[1]}" if need.last else ""


def _unfit(node: NodeFacts, need: _Need, policy: Policy, row: DriverPackages) -> str | None:
    """Why a branch in a repository is not for this node; None where it is."""
    if policy.driver_source != "auto" and row.origin != policy.driver_source:
        return f"is not from {policy.driver_source}"
    if policy.driver_version and policy.driver_version.split(".")[0] != str(row.branch):
        return "was not requested"
    if row.branch < Version(need.floor).major:
        return f"is older than {need.floor}"
    if need.last and row.branch > need.last[0]:
        return f"no longer supports {need.last[1]}"
    if node.container:
        loaded = node.driver.loaded
        return f"is not that of the kernel module {loaded}" if loaded and Version(loaded).major != row.branch else None
    if policy.kernel_modules not in ("auto", row.kernel_modules):
        return f"is not the one with {policy.kernel_modules} modules"
    for name, chip in need.chips:
        if not (chip.open_modules if row.kernel_modules == "open" else chip.proprietary_modules):
            return f"does not drive {name}"
    if node.nvswitches and row.fabric_manager is None:
        return "has no Fabric Manager for the NVSwitches"
    too_new = [kernel for kernel in node.kernels if row.last_kernel and _numbers(kernel) > _numbers(row.last_kernel)]
    return f"does not build for the kernel {too_new[0]}" if too_new else None


def _rank(tables: Tables, row: DriverPackages, policy: Policy) -> tuple[Any, ...]:
    """The smallest is taken: alive, from the distribution, the modules that NVIDIA takes itself, newest branch."""
    branch = tables.driver_branch(row.branch)
    is_usual = bool(branch and branch.kernel_modules == row.kernel_modules)
    return (_has_ended(tables, row, policy), _SOURCES.index(row.origin), -row.branch, not is_usual)


def _has_ended(tables: Tables, row: DriverPackages, policy: Policy) -> bool:
    branch = tables.driver_branch(row.branch)
    return bool(branch and branch.has_ended(policy.today))


def _asked_version(node: NodeFacts, row: DriverPackages, policy: Policy) -> str:
    if "." in policy.driver_version:
        return f"{policy.driver_version}-*"
    # In a container the kernel's side is the host's, and the library has to be of its very version.
    if node.container and node.driver.loaded:
        return f"{node.driver.loaded}-*"
    return row.version


# ------------------------------------------------------------------------------------------------ packages


def _candidate(node: NodeFacts, row: DriverPackages, version: str) -> _Candidate:
    names = list(_names(row, row.user_space))
    headers: list[Package] = []
    if not node.container:
        if node.secure_boot and row.signed_modules:
            names += [Package(row.signed_modules.format(kernel=kernel)) for kernel in node.kernels]
        else:
            names += _names(row, row.modules)
            headers = [_headers(row, kernel) for kernel in node.kernels]
        if node.nvswitches and row.fabric_manager:
            names.append(Package(row.fabric_manager))
    asked = tuple(replace(package, version=package.version or version) for package in names)
    return _Candidate(row, version, (*asked, *headers))


def _names(row: DriverPackages, names: tuple[str, ...]) -> tuple[Package, ...]:
    """Most are of the driver's version; what has numbers of its own says which."""
    return tuple(Package(name, version or None) for name, _, version in (text.partition("=") for text in names))


def _headers(row: DriverPackages, kernel: str) -> Package:
    name, _, version = row.headers.format(kernel=kernel, evr=re.sub(r"\.[^.]+$", "", kernel)).partition("=")
    return Package(name, version or None)


def _numbers(kernel: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", kernel)[:2])


def _driver(node: NodeFacts, kept: Driver, candidate: _Candidate) -> Driver:
    row = candidate.row
    direction = "none"
    if kept.installed:
        there, wanted = Version(kept.installed), Version(candidate.version.rstrip("*-."))
        there = Version(".".join(kept.installed.split(".")[: len(wanted.release)]))
        direction = "same" if there == wanted else "up" if there < wanted else "down"
    return replace(
        kept,
        source=row.origin,
        branch=str(row.branch),
        version=candidate.version,
        kernel_modules="none" if node.container else row.kernel_modules,
        fabric_manager=bool(node.nvswitches and row.fabric_manager and not node.container),
        kernels=() if node.container else node.kernels,
        stream=row.stream,
        packages=candidate.packages,
        belongs=row.belongs,
        action="change" if kept.installed else "install",
        direction=direction,
        # What is loaded can be taken out only while nothing uses it, and nouveau not at all.
        needs_reboot=bool(node.other_drivers or kept.loaded) and not node.container,
    )
