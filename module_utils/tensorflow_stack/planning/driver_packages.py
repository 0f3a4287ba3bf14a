"""The drivers that a distribution and NVIDIA's repository have for a node, and the packages of each. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from ..tables.load import Tables, rows_for
from ..tables.rows import DriverPackages
from .driver_need import Need
from .node import NodeFacts
from .stack import Package, Policy

DRIVER_SOURCES = ("distro", "nvidia_repo")


@dataclass(frozen=True)
class Candidate:
    row: DriverPackages
    version: str
    packages: tuple[Package, ...]

    @property
    def label(self) -> str:
        return f"{self.row.branch} ({self.row.kernel_modules} modules, {self.row.origin})"


def find_candidates(
    tables: Tables, node: NodeFacts, need: Need, policy: Policy
) -> tuple[list[Candidate], dict[Candidate, str]]:
    """Those that fit, and why each of the others does not."""
    candidates: list[Candidate] = []
    reasons: dict[Candidate, str] = {}
    for row in rows_for(tables.driver_packages, node.os):
        candidate = candidate_of(node, row, _asked_version(node, row, policy))
        reason = _unfit(node, need, policy, row)
        if reason:
            reasons[candidate] = reason
        else:
            candidates.append(candidate)
    return candidates, reasons


def find_dkms_repository(node: NodeFacts, row: DriverPackages) -> str | None:
    """Where DKMS is taken from, if neither the distribution nor NVIDIA has it; "" for nowhere, None if not needed."""
    if row.dkms_repository is None or node.has_dkms or node.container:
        return None
    # Mirrors keep the name in theirs: epel, epel-next, ol9_developer_EPEL, corp-epel-9.
    return next((name for name in node.yum_repositories if row.dkms_repository in name.lower()), "")


def _unfit(node: NodeFacts, need: Need, policy: Policy, row: DriverPackages) -> str | None:
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
        if not chip.is_driven_by(row.kernel_modules):
            return f"does not drive {name}"
    if node.nvswitches and row.fabric_manager is None:
        return "has no Fabric Manager for the NVSwitches"
    too_new = [kernel for kernel in node.kernels if row.last_kernel and _numbers(kernel) > _numbers(row.last_kernel)]
    return f"does not build for the kernel {too_new[0]}" if too_new else None


def rank(tables: Tables, row: DriverPackages, policy: Policy) -> tuple[Any, ...]:
    """The smallest is taken: alive, from the distribution, the modules that NVIDIA takes itself, newest branch."""
    branch = tables.driver_branch(row.branch)
    is_usual = bool(branch and branch.kernel_modules == row.kernel_modules)
    return (has_ended(tables, row, policy), DRIVER_SOURCES.index(row.origin), -row.branch, not is_usual)


def has_ended(tables: Tables, row: DriverPackages, policy: Policy) -> bool:
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


def candidate_of(node: NodeFacts, row: DriverPackages, version: str) -> Candidate:
    names = list(names_of(row, row.user_space))
    headers: list[Package] = []
    if not node.container:
        if node.secure_boot and row.signed_modules:
            names += [Package(row.signed_modules.format(kernel=kernel)) for kernel in node.kernels]
        else:
            names += names_of(row, row.modules)
            headers = [_headers(row, kernel) for kernel in node.kernels]
        if node.nvswitches and row.fabric_manager:
            names.append(Package(row.fabric_manager))
    asked = tuple(replace(package, version=package.version or version) for package in names)
    return Candidate(row, version, (*asked, *headers))


def names_of(row: DriverPackages, names: tuple[str, ...]) -> tuple[Package, ...]:
    """Most are of the driver's version; what has numbers of its own says which."""
    return tuple(Package(name, version or None) for name, _, version in (text.partition("=") for text in names))


def _headers(row: DriverPackages, kernel: str) -> Package:
    name, _, version = row.headers.format(kernel=kernel, evr=re.sub(r"\.[^.]+$", "", kernel)).partition("=")
    if re.search(r"\.el\d+uek\.", kernel):  # Oracle's own kernel, whose packages have other names
        name = name.replace("kernel-", "kernel-uek-", 1)
    return Package(name, version or None)


def _numbers(kernel: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", kernel)[:2])
