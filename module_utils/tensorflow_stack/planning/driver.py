"""The driver under one CUDA on one node: kept where it does, else chosen among what the tables know. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from packaging.version import Version

from ..tables.load import Tables, rows_for
from ..tables.rows import Release
from .driver_need import Need, find_need
from .driver_packages import (
    DRIVER_SOURCES,
    Candidate,
    candidate_of,
    find_candidates,
    find_dkms_repository,
    has_ended,
    names_of,
    rank,
)
from .node import Managed, NodeFacts
from .node_kind import Keeper, find_keeper
from .stack import Driver, Findings, Gpu, Library, Policy

_CPU_INSTEAD = "or set tensorflow_gpu to none (CPU)."


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
    need = find_need(tables, release, node, gpus, cuda)
    why = f"new enough for CUDA {cuda.version}{_last_branch(need)}"
    kept = Driver(need.floor, node.driver.installed, node.driver.loaded, why=why)
    findings.warnings.extend(_warn_of_stub(path) for path in node.driver.stubs)
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


def _problem(node: NodeFacts, need: Need, policy: Policy, managed: Managed | None) -> str | None:
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
    not_driven = next((name for name, chip in need.chips if kind and not chip.is_driven_by(kind)), None)
    if not_driven:
        return f"driver {version} with {kind} kernel modules, which do not support {not_driven}"
    if policy.kernel_modules != "auto" and kind not in (None, policy.kernel_modules):
        return f"driver {installed} with {kind} kernel modules"
    if managed and policy.driver_source in DRIVER_SOURCES and managed.source != policy.driver_source:
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
            set="Load it (modprobe nvidia) or reboot, and run again; if it does not load, make doctor says why; "
            f"{_CPU_INSTEAD}",
        )
    return kept


def _warn_of_stub(path: str) -> str:
    return (
        f"{path} is a stub for compiling, which the loader may find in place of the driver's libcuda. Remove its "
        "directory from /etc/ld.so.conf.d, and run ldconfig."
    )


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
    row = max(
        rows, key=lambda row: sum(package.name in recorded for package in names_of(row, row.modules)), default=None
    )
    if row is None:
        return kept
    driver = _driver(node, kept, candidate_of(node, row, f"{managed.version}-*"))
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
    need: Need,
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
    candidates, reasons = find_candidates(tables, node, need, policy)
    if not candidates:
        return _refuse_all(tables, node, need, policy, problem, reasons, refuse)
    if node.secure_boot and not node.container:
        signed = [candidate for candidate in candidates if candidate.row.signed_modules]
        if not signed:
            return refuse(
                "Turn Secure Boot off in the firmware; or install the driver yourself, with its modules signed by a "
                f"key of yours that is enrolled (mokutil --import), and run again once it is loaded; {_CPU_INSTEAD}",
                found=f"{problem}, and Secure Boot, which refuses modules that are built here",
            )
        candidates = signed
    best = min(candidates, key=lambda candidate: rank(tables, candidate.row, policy))
    dkms = find_dkms_repository(node, best.row)
    if dkms == "":
        return refuse(
            f"Enable EPEL ({tables.addresses['epel']}), or run dnf module install nvidia-driver:{best.row.branch} "
            f"yourself; {_CPU_INSTEAD}",
            found=f"{problem}, and no dkms to build modules of {best.row.branch} (EPEL, which has it, is not enabled)",
        )
    if has_ended(tables, best.row, policy):
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


def _refuse_all(
    tables: Tables,
    node: NodeFacts,
    need: Need,
    policy: Policy,
    problem: str,
    reasons: Mapping[Candidate, str],
    refuse: Callable[..., Driver],
) -> Driver:
    """None of the known drivers fits; `reasons` says why."""
    if not reasons:
        return refuse(
            f"Install such a driver yourself and run again; {_CPU_INSTEAD}",
            found=f"{problem}, and none is known for {node.os['name'] or 'this distribution'}",
        )
    found = f"{problem}, and no other that fits: {'; '.join(_in_short(need, reasons))}"
    if any(find_candidates(tables, node, replace(need, chips=(chip,)), policy)[0] for chip in need.chips):
        return refuse(
            f"None supports all: put a GPU in tensorflow_ignored_gpus; {_CPU_INSTEAD}",
            found=found,
        )
    return refuse(
        f"Set the variables nvidia_driver_* to what the node can have, install it yourself, {_CPU_INSTEAD}", found=found
    )


def _in_short(need: Need, reasons: Mapping[Candidate, str]) -> list[str]:
    """Against drivers that are new enough, if there are any; with the modules only if those of a branch differ."""
    reasons = {c: text for c, text in reasons.items() if c.row.branch >= Version(need.floor).major} or reasons
    by_branch: dict[int, list[str]] = {}
    for candidate, reason in reasons.items():
        by_branch.setdefault(candidate.row.branch, []).append(reason)
    texts = (
        f"{candidate.row.branch} {reason}"
        if len(set(by_branch[candidate.row.branch])) == 1
        else f"{candidate.row.branch} ({candidate.row.kernel_modules} modules) {reason}"
        for candidate, reason in reasons.items()
    )
    return list(dict.fromkeys(texts))


def _last_branch(need: Need) -> str:
    return f"; {need.last[0]} is the last branch for {need.last[1]}" if need.last else ""


def _driver(node: NodeFacts, kept: Driver, candidate: Candidate) -> Driver:
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
