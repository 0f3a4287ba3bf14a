"""Which driver, in which packages; what an operator sees of it is in test_plan.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.stack import Assessment, Driver, Policy
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests import nodes

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"
PYTHONS = [
    {
        "version": f"{minor}.1",
        "minor": minor,
        "path": f"/usr/bin/python{minor}",
        "origin": "system",
        "distutils": True,
        "public": True,
    }
    for minor in ("3.9", "3.11")
]
BARE = {"loaded": None, "installed": None, "kind": None, "libcuda": None, "other_libcuda": []}


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def node(name: str, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(nodes.read(name, tmp_path)), "pythons": PYTHONS, "environments": [], **changes}


def assess(tables: Tables, node: dict[str, Any], release: str = "2.15.1", **policy: Any) -> Assessment:
    return resolution.assess_wish(tables, release, NodeFacts.read(node), Policy(**{"today": "2026-11-22", **policy}))


def chosen(tables: Tables, node: dict[str, Any], release: str = "2.15.1", **policy: Any) -> Driver:
    assessment = assess(tables, node, release, **policy)
    assert assessment.refusals == ()
    assert assessment.stack and assessment.stack.driver
    return assessment.stack.driver


def asked(driver: Driver) -> dict[str, str | None]:
    return {package.name: package.version for package in driver.packages}


def test_headers_are_asked_for_every_kernel_that_is_there(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("bare_t4_debian11", tmp_path), "2.8.0")
    assert asked(driver) == {
        "libcuda1": "470.*",
        "libnvidia-ml1": "470.*",
        "libnvidia-ptxjitcompiler1": "470.*",
        "nvidia-smi": "470.*",
        "nvidia-alternative": "470.*",
        "nvidia-legacy-check": "470.*",
        "nvidia-kernel-dkms": "470.*",
        "nvidia-kernel-support": "470.*",
        "nvidia-modprobe": "470.*",
        "nvidia-persistenced": "470.*",
        "libnvidia-cfg1": "470.*",
        # Not of 4.19: DKMS left a directory of a kernel that is gone.
        "linux-headers-5.10.0-32-amd64": None,
    }
    assert (driver.kernel_modules, driver.branch, driver.fabric_manager) == ("proprietary", "470", False)


def test_a_whole_version_leaves_other_numbering_alone(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    packages = asked(chosen(tables, machine, driver_version="535.261.03", kernel_modules="proprietary"))
    assert (packages["libcuda1"], packages["nvidia-persistenced"]) == ("535.261.03-*", "535.*")


def test_open_modules_of_bookworm_take_the_libraries_of_their_version(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    packages = asked(chosen(tables, machine, driver_source="distro", kernel_modules="open"))
    assert (packages["libcuda1"], packages["nvidia-open-kernel-dkms"]) == ("535.261.03-*", "535.261.03-*")
    assert "nvidia-kernel-dkms" not in packages


@pytest.mark.parametrize(
    ("device_id", "modules"),
    [("1eb8", "open"), ("1b80", "proprietary"), ("1db1", "proprietary"), ("2b85", "open")],
    ids=["turing", "pascal", "volta", "blackwell"],
)
def test_kernel_modules_by_architecture(tables: Tables, tmp_path: Path, device_id: str, modules: str) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    machine["gpus"][0]["device_id"] = device_id
    driver = chosen(tables, machine, "2.21.0", driver_source="nvidia_repo")
    assert (driver.kernel_modules, driver.branch) == (modules, "580")


@pytest.mark.parametrize(("device_id", "modules"), [("2b85", "proprietary"), ("1b80", "open")])
def test_kernel_modules_that_do_not_drive_the_gpu(tables: Tables, tmp_path: Path, device_id: str, modules: str) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    machine["gpus"][0]["device_id"] = device_id
    refusal = assess(tables, machine, "2.21.0", kernel_modules=modules).refusals[0]
    assert refusal.component == "driver"
    assert f"580 ({modules} modules) does not drive GPU 0" in refusal.found
    assert "Set the variables nvidia_driver_* to what the node can have" in refusal.set


def test_two_gpus_need_a_driver_for_both(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    machine["gpus"].append({**machine["gpus"][0], "index": 1, "device_id": "1b80"})
    assert chosen(tables, machine, "2.16.2").kernel_modules == "proprietary"


def test_fabric_manager_is_of_the_drivers_version_and_only_beside_an_nvswitch(tables: Tables, tmp_path: Path) -> None:
    machine = node("eight_h100_nvswitch", tmp_path, driver=BARE)
    with_switch = chosen(tables, machine, "2.15.1", driver_version="580.95.05")
    assert with_switch.fabric_manager
    assert asked(with_switch)["nvidia-fabricmanager-580"] == "580.95.05-*"
    without = chosen(tables, {**machine, "nvswitches": 0}, "2.15.1")
    assert not without.fabric_manager
    assert not any("fabric" in name for name in asked(without))


def test_a_distribution_without_fabric_manager_does_not_serve_an_nvswitch(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("bare_t4_debian13", tmp_path, nvswitches=4))
    assert (driver.source, driver.branch) == ("nvidia_repo", "580")


def test_secure_boot_takes_modules_that_the_distribution_signed(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("eight_h100_nvswitch", tmp_path, driver=BARE, secure_boot=True))
    packages = asked(driver)
    assert "linux-modules-nvidia-580-open-5.15.0-127-generic" in packages
    assert not any(name.startswith(("nvidia-dkms", "linux-headers")) for name in packages)


def test_secure_boot_stops_before_anything_changes(tables: Tables, tmp_path: Path) -> None:
    refusal = assess(tables, node("bare_t4_debian12", tmp_path, secure_boot=True)).refusals[0]
    assert refusal.found == "no NVIDIA driver, and Secure Boot, which refuses modules that are built here"
    assert "mokutil --import" in refusal.set


def test_secure_boot_is_no_matter_for_a_driver_that_is_loaded(tables: Tables, tmp_path: Path) -> None:
    assert chosen(tables, node("a100_driver535", tmp_path, secure_boot=True)).source == "found"


def test_a_container_gets_libraries_only(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("container_a100_debian12", tmp_path, nvswitches=4, secure_boot=True))
    names = ("libcuda1", "libnvidia-ml1", "libnvidia-ptxjitcompiler1", "nvidia-smi")
    assert asked(driver) == dict.fromkeys(names, "535.261.03-*")
    assert (driver.kernel_modules, driver.needs_reboot, driver.fabric_manager) == ("none", False, False)


def test_a_container_on_a_host_of_another_branch_is_refused(tables: Tables, tmp_path: Path) -> None:
    machine = node("container_a100_debian12", tmp_path)
    machine["driver"]["loaded"] = "565.57.01"
    refusal = assess(tables, machine).refusals[0]
    assert "535 is not that of the kernel module 565.57.01" in refusal.found


def test_what_was_recorded_is_asked_for_again(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("managed_a100_debian12", tmp_path), "2.12.1")
    assert (driver.action, driver.source, driver.kernel_modules) == ("keep", "distro", "proprietary")
    packages = asked(driver)
    assert packages["nvidia-kernel-dkms"] == "535.309.01-0+deb12u1"
    # Not in the record, so of the recorded version.
    assert packages["nvidia-smi"] == "535.309.01-*"


def test_a_library_that_moved_goes_back_to_the_record(tables: Tables, tmp_path: Path) -> None:
    machine = node("managed_a100_debian12", tmp_path)
    machine["driver"]["installed"] = "535.999.01"
    driver = chosen(tables, machine, "2.12.1")
    assert (asked(driver)["libcuda1"], driver.needs_reboot) == ("535.309.01-0+deb12u1", True)
    assert driver.why == "kernel module 535.309.01 is loaded, library 535.999.01 installed"


def test_a_managed_driver_is_asked_for_as_it_was_so_that_its_record_stays(tables: Tables, tmp_path: Path) -> None:
    machine = node("managed_a100_debian12", tmp_path)
    asked = [{"name": "libcuda1", "version": "535.*"}]
    machine["managed"]["driver"]["asked"] = {"packages": asked, "belongs": [], "branch": "535"}
    packages = {package.name: package.version for package in chosen(tables, machine, "2.12.1").packages}
    assert packages["libcuda1"] == "535.*"


def test_another_source_is_taken_for_what_this_toolkit_installed(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("managed_a100_debian12", tmp_path), driver_source="nvidia_repo")
    assert (driver.source, driver.action, driver.direction) == ("nvidia_repo", "change", "up")


@pytest.mark.parametrize(
    ("wish", "direction"),
    [("580", "up"), ("535.309.01", "up"), ("535.183.01", "same"), ("535.54.03", "down"), ("470", "down")],
)
def test_direction(tables: Tables, tmp_path: Path, wish: str, direction: str) -> None:
    driver = chosen(
        tables,
        node("a100_driver535", tmp_path),
        "2.8.0",
        driver_version=wish,
        allow_downgrade=True,
        cuda_source="wheels",
    )
    assert driver.direction == direction


@pytest.mark.parametrize("wish", ["535.54.03", "470"])
def test_a_downgrade_needs_its_permission(tables: Tables, tmp_path: Path, wish: str) -> None:
    refusal = assess(tables, node("a100_driver535", tmp_path), "2.8.0", driver_version=wish).refusals[0]
    assert (refusal.wanted, refusal.found) == (f"driver {wish}", "driver 535.183.01")
    assert refusal.set.startswith("Set nvidia_driver_allow_downgrade to true, so that ")


def test_a_branch_that_has_ended_is_taken_when_nothing_else_fits(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    assert chosen(tables, machine, today="2026-06-30").branch == "535"
    assert chosen(tables, machine, today="2026-07-01").branch == "580"
    stack = assess(tables, machine, driver_source="distro").stack
    assert stack and stack.warnings[0] == (
        "NVIDIA has ended driver branch 535, and no other one fits: it is installed from distro."
    )


def test_a_kernel_that_the_branch_does_not_build_for(tables: Tables, tmp_path: Path) -> None:
    machine = node("kepler_k80_driver470", tmp_path, driver=BARE)
    machine["kernels"].append({"release": "6.14.0-24-generic", "headers": None, "needs_driver": True})
    refusal = assess(tables, machine, "2.8.0").refusals[0]
    assert "470 does not build for the kernel 6.14.0-24-generic" in refusal.found


def test_dnf_gets_its_stream_and_the_headers_of_the_kernel(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("bare_a100_rocky8", tmp_path), "2.14.1")
    assert driver.stream == "nvidia-driver:580-open"
    assert asked(driver) == {
        "nvidia-driver-cuda": "580.*",
        "kmod-nvidia-open-dkms": "580.*",
        "nvidia-persistenced": "580.*",
        "kernel-devel": "4.18.0-553.el8_10",
    }


@pytest.mark.parametrize(
    ("repositories", "has_dkms", "found"),
    [
        (["baseos", "epel"], False, "dkms from epel"),
        (["ol8_baseos_latest", "ol8_developer_EPEL"], False, "dkms from ol8_developer_EPEL"),
        (["baseos"], True, ""),
    ],
)
def test_where_the_family_of_red_hat_has_dkms_from(
    tables: Tables, tmp_path: Path, repositories: list[str], has_dkms: bool, found: str
) -> None:
    machine = node("bare_a100_rocky8", tmp_path)
    machine.update(yum_repositories=repositories, dkms=has_dkms)
    assert chosen(tables, machine, "2.14.1").why.rpartition("; ")[2] == (
        found or "no NVIDIA driver: 580 (open modules, nvidia_repo)"
    )


def test_without_dkms_the_run_stops_before_anything_is_changed(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_a100_rocky8", tmp_path)
    machine["yum_repositories"] = ["appstream", "baseos"]
    refusal = assess(tables, machine, "2.14.1").refusals[0]
    assert "no dkms to build modules of 580 (EPEL, which has it, is not enabled)" in refusal.found
    assert refusal.set.startswith(
        "Enable EPEL (https://docs.fedoraproject.org/en-US/epel/getting-started/), or run dnf"
    )
    assert "dnf module install nvidia-driver:580 yourself" in refusal.set


def test_the_kernel_of_oracle_has_headers_of_another_name(tables: Tables, tmp_path: Path) -> None:
    driver = chosen(tables, node("oracle9_uek_a100", tmp_path), "2.15.1")
    assert asked(driver)["kernel-uek-devel"] == "5.15.0-304.171.4.el9uek"
    assert "kernel-devel" not in asked(driver)


def test_a_stub_of_cuda_is_no_driver(tables: Tables, tmp_path: Path) -> None:
    machine = node("stub_in_front_a100", tmp_path)
    (stub,) = machine["driver"]["other_libcuda"]
    stack = assess(tables, machine).stack
    assert stack and stack.driver and stack.driver.installed == "535.183.01"
    assert any(warning.startswith(f"{stub} is a stub for compiling") for warning in stack.warnings)
    machine.update(gpus=[], driver={**BARE, "other_libcuda": [stub]})
    stack = assess(tables, machine).stack
    assert stack and (stack.flavour, stack.unused_gpu) == ("cpu", None)


def test_a_library_without_a_version_is_of_the_loaded_module(tables: Tables, tmp_path: Path) -> None:
    machine = node("apptainer_a100", tmp_path)
    assert (machine["driver"]["installed"], chosen(tables, machine).installed) == (None, "535.183.01")
    machine["driver"]["libcuda"] = None
    refusal = assess(tables, machine).refusals[0]
    assert "kernel module 535.183.01 loaded, no libcuda installed" in refusal.found


def test_the_last_branch_of_a_gpu_is_named(tables: Tables, tmp_path: Path) -> None:
    machine = node("volta_v100_driver470", tmp_path, driver={**BARE, "loaded": "580.95.05", "installed": "580.95.05"})
    assert chosen(tables, machine, "2.8.0").why.endswith("; 580 is the last branch for GPU 0 (Tesla V100 SXM2 16GB)")


def test_nothing_is_known_for_a_distribution(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    machine["os"].update(id="arch", version_id=None, name="Arch Linux", family=None)
    refusal = assess(tables, machine).refusals[0]
    assert refusal.found == "no NVIDIA driver, and none is known for Arch Linux"
    assert refusal.set.startswith("Install such a driver yourself and run again; or set tensorflow_gpu to none")


def test_a_module_without_its_library(tables: Tables, tmp_path: Path) -> None:
    machine = node("a100_driver535", tmp_path, driver={**BARE, "loaded": "535.183.01"})
    driver = chosen(tables, machine, driver_source="distro")
    assert driver.why.startswith("kernel module 535.183.01 loaded, no libcuda installed: 535 (proprietary")
    assert driver.needs_reboot


def test_a_driver_that_is_older_than_the_gpu(tables: Tables, tmp_path: Path) -> None:
    machine = node("eight_h100_nvswitch", tmp_path)
    machine["driver"].update(loaded="470.256.02", installed="470.256.02", kind="proprietary")
    driver = chosen(tables, machine, "2.12.1", cuda_source="wheels")
    assert (driver.branch, driver.direction) == ("580", "up")
