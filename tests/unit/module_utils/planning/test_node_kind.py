"""What follows from the kind of a node: whose its driver is, where packages can be installed, which GPU it has."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.node.kind import SIGNS
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.no_gpu import hint_of_gpu
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.node_kind import find_keeper, on_its_base, why_no_packages
from ansible.module_utils.tensorflow_stack.planning.stack import Assessment, Policy
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests import nodes

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"
PYTHON = {"version": None, "minor": "3.10", "path": "/usr/bin/python3.10", "origin": "system", "distutils": True}


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def read(name: str, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = copy.deepcopy(nodes.read(name, tmp_path))
    return {**record, "environments": [], "pythons": [{**PYTHON, "public": True}], **changes}


def assess(tables: Tables, record: dict[str, Any], release: str, **policy: Any) -> Assessment:
    return resolution.assess_wish(tables, release, NodeFacts.read(record), Policy(**policy))


def kind(aspect: str, name: str, by: str = "/a/file") -> list[dict[str, str]]:
    return [{"aspect": aspect, "kind": name, "by": by}]


def test_the_table_has_every_kind_that_is_told(tables: Tables) -> None:
    told = {(sign.aspect, sign.kind) for sign in SIGNS}
    # By what systemd calls it, by two files together, and by a mount.
    told |= {("container", "systemd-nspawn"), ("container", "openvz"), ("driver", "mounted")}
    assert {(row.aspect, row.kind) for row in tables.node_kinds} == told


@pytest.mark.parametrize("gpu", ["auto", "required"])
def test_a_jetson_is_said_or_refused(tables: Tables, gpu: str, tmp_path: Path) -> None:
    record = read("jetson_orin", tmp_path)
    assessment = assess(tables, record, "2.17.1", gpu=gpu)
    hint = str(hint_of_gpu(tables, NodeFacts.read(record)))
    assert hint.startswith("this is a Jetson, for whose GPU the package index has no TensorFlow")
    if gpu == "auto":
        assert assessment.stack and assessment.stack.flavour == "cpu"
        assert hint in str(assessment.stack.unused_gpu)
    else:
        assert hint in assessment.refusals[0].found
        assert "NVIDIA's own builds of TensorFlow for Jetson" in assessment.refusals[0].set
    meant = assess(tables, record, "2.17.1", gpu="none").stack
    assert meant and meant.unused_gpu is None


def test_a_libcuda_without_a_gpu_is_said(tables: Tables, tmp_path: Path) -> None:
    record = read("container_a100_debian12", tmp_path, gpus=[], variables={"NVIDIA_VISIBLE_DEVICES": "void"})
    hint = hint_of_gpu(tables, NodeFacts.read(record))
    assert hint == (
        "the kernel module nvidia 535.261.03 is loaded; NVIDIA_VISIBLE_DEVICES is 'void', which hides every GPU; "
        "the container has no libcuda"
    )
    record["driver"]["libcuda"] = "/usr/local/nvidia/lib64/libcuda.so.535.261.03"
    assert "libcuda.so.535.261.03 exists" in str(hint_of_gpu(tables, NodeFacts.read(record)))
    assert hint_of_gpu(tables, NodeFacts.read(read("no_gpu_debian12", tmp_path))) is None


def test_wsl_uses_the_driver_of_windows(tables: Tables, tmp_path: Path) -> None:
    stack = assess(tables, read("wsl_ubuntu2404", tmp_path), "2.17.1").stack
    assert stack and stack.flavour == "cuda" and stack.driver
    assert (stack.driver.source, stack.driver.action) == ("found", "keep")
    assert stack.driver.why == "that of Windows; the check finds its version"
    assert [gpu.name for gpu in stack.gpus] == ["the GPU at /dev/dxg"]


def test_wsl_without_a_driver_in_windows_is_said(tables: Tables, tmp_path: Path) -> None:
    record = read("wsl_ubuntu2404", tmp_path, gpus=[])
    record["driver"].update(libcuda=None)
    stack = assess(tables, record, "2.17.1").stack
    assert stack and stack.flavour == "cpu"
    assert "this is Linux on Windows (WSL 2), and Windows gives it no driver of NVIDIA's" in str(stack.unused_gpu)
    (refusal,) = assess(tables, record, "2.17.1", gpu="required").refusals
    assert "Update NVIDIA's driver in Windows" in refusal.set


def test_a_driver_for_linux_on_wsl_is_refused(tables: Tables, tmp_path: Path) -> None:
    record = read("wsl_ubuntu2404", tmp_path)
    record["driver"].update(libcuda="/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01", installed="535.183.01")
    (refusal,) = assess(tables, record, "2.17.1").refusals
    assert refusal.set.startswith("Remove the driver's packages (libnvidia-compute-*")


@pytest.mark.parametrize(
    ("kinds", "because", "instead"),
    [
        (kind("container", "kubernetes"), "the Kubernetes node of this pod", "Request the GPU in the pod"),
        (kind("container", "docker"), "the host of this container", "Start the container with the GPU (--gpus all)"),
        (kind("container", "somebody's"), "a container (somebody's)", "Have the host's driver updated"),
        (kind("driver", "vgpu_guest"), "whose driver it has to match", "Ask the administrator of the host"),
        (kind("driver", "runfile"), "the .run file that installed it", "Run nvidia-uninstall first"),
        (kind("driver", "mounted"), "whoever made the image", "Have the image built"),
        (kind("system", "bootc"), "the image that the system boots", "Build the image with the driver"),
        (kind("system", "nixos"), "`configuration.nix`", "Set hardware.nvidia"),
        (kind("platform", "wsl"), "Windows", "Update NVIDIA's driver in Windows"),
    ],
    ids=lambda value: value[0]["kind"] if isinstance(value, list) else "",
)
def test_a_driver_of_somebody_else_is_kept_or_refused(
    tables: Tables, tmp_path: Path, kinds: list[dict[str, str]], because: str, instead: str
) -> None:
    record = read("a100_driver535", tmp_path, kinds=kinds)
    for gpu in record["gpus"]:
        gpu.update(listed=True, device_file="/dev/nvidia0")
    if kinds[0]["kind"] != "wsl":
        kept = assess(tables, record, "2.17.1").stack
        assert kept and kept.driver and kept.driver.action == "keep"
        record["driver"].update(loaded="470.256.02", installed="470.256.02")
        (refusal,) = assess(tables, record, "2.17.1").refusals
        assert because in refusal.found
        assert refusal.set.startswith(instead)
        assert refusal.set.endswith("or set tensorflow_gpu to none (CPU).")
        assert refusal.nearest_release == "2.14.1"
    keeper = find_keeper(tables, NodeFacts.read(record))
    assert keeper and because in keeper.because and keeper.instead.startswith(instead)


def test_a_machine_without_a_kernel_of_its_own_gets_no_driver(tables: Tables, tmp_path: Path) -> None:
    record = read("bare_t4_debian12", tmp_path, kernels=[])
    (refusal,) = assess(tables, record, "2.12.1").refusals
    assert "is not installed here (it is not below /lib/modules)" in refusal.found
    record["kernels"] = [{"release": "6.1.0-28-amd64", "needs_driver": True}]
    assert find_keeper(tables, NodeFacts.read(record)) is None


def test_modules_and_libraries_that_differ_in_a_container_wait_for_no_reboot(tables: Tables, tmp_path: Path) -> None:
    record = read("container_a100_debian12", tmp_path)
    record["driver"].update(installed="535.183.01", libcuda="/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01")
    (refusal,) = assess(tables, record, "2.15.1").refusals
    assert (
        "kernel module 535.261.03 loaded, library 535.183.01 installed; this is a container of Podman" in refusal.found
    )
    assert "Reboot" not in refusal.set


def test_no_package_is_planned_on_an_image(tables: Tables, tmp_path: Path) -> None:
    record = read("a100_driver535", tmp_path, kinds=kind("system", "ostree", "/run/ostree-booted"), cuda=[], cudnn=[])
    why = why_no_packages(tables, NodeFacts.read(record))
    assert why == ("this is an image-based system (ostree; /run/ostree-booted), where no package can be installed")
    (refusal,) = assess(tables, record, "2.15.1", cuda_source="nvidia_repo").refusals
    assert why in refusal.found
    wheels = assess(tables, record, "2.15.1").stack
    assert wheels and wheels.libraries["cuda"].source == "wheels"


@pytest.mark.parametrize(
    ("os", "base"),
    [
        ({"id": "linuxmint", "version_id": "21.3", "base_codename": "jammy"}, ("ubuntu", "22.04")),
        ({"id": "linuxmint", "version_id": "6", "base_codename": "bookworm"}, ("debian", "12")),
        ({"id": "ubuntu", "version_id": "24.04", "base_codename": "noble"}, ("ubuntu", "24.04")),
        ({"id": "kali", "version_id": "2026.3", "base_codename": None}, ("kali", "2026.3")),
        ({"id": "ubuntu", "version_id": "25.10", "base_codename": "questing"}, ("ubuntu", "25.10")),
    ],
)
def test_a_distribution_has_the_packages_of_its_base(
    tables: Tables, tmp_path: Path, os: dict[str, str | None], base: tuple[str, str]
) -> None:
    record = read("bare_t4_debian12", tmp_path, os={"family": "debian", "codename": None, "name": "A name", **os})
    on_base = on_its_base(tables, NodeFacts.read(record))
    assert (on_base.os["id"], on_base.os["version_id"], on_base.os["name"]) == (*base, "A name")
