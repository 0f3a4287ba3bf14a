"""Which kind of node this is: each sign, and what is no sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.node import record as node_record

from tests import nodes

INITIAL = {"cgroup": 4026531835, "ipc": 4026531839, "pid": 4026531836, "uts": 4026531838}
ON_A_MACHINE = {f"/proc/self/ns/{name}": f"{name}:[{number}]" for name, number in INITIAL.items()}
MOUNT = "1467 1466 0:54 {root} {place} rw,relatime - ext4 /dev/vda rw\n"


def kinds_of(tmp_path: Path, environ: dict[str, str] | None = None, **tree: Any) -> dict[str, str]:
    record = node_record.read_node(filesystem_root=str(nodes.build(tree, tmp_path)), environ=environ or {})
    return {row["aspect"]: row["kind"] for row in record["kinds"]}


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({"/run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"/run/systemd/container": "lxc\n"}, "lxc"),
        ({"/run/systemd/container": "wsl\n"}, None),
        ({"/run/systemd/container": "\n"}, None),
        ({"/run/.containerenv": ""}, "podman"),
        ({"/.dockerenv": ""}, "docker"),
        ({"/.singularity.d/env/01-base.sh": ""}, "apptainer"),
        ({"/var/run/secrets/kubernetes.io/serviceaccount/token": ""}, "kubernetes"),
        ({"/proc/1/environ": "PATH=/bin\0KUBERNETES_SERVICE_HOST=10.0.0.1\0"}, "kubernetes"),
        ({"/proc/1/cgroup": "12:devices:/kubepods/besteffort/pod1234/5678\n"}, "kubernetes"),
        (
            {"/proc/self/mountinfo": MOUNT.format(root="/var/lib/kubelet/pods/1/etc-hosts", place="/etc/hosts")},
            "kubernetes",
        ),
        (
            {"/proc/self/mountinfo": MOUNT.format(root="/var/lib/docker/containers/1/hosts", place="/etc/hosts")},
            "docker",
        ),
        (
            {"/proc/self/mountinfo": MOUNT.format(root="/var/lib/nerdctl/1/hostname", place="/etc/hostname")},
            "containerd",
        ),
        # On the node itself: its pods are mounted elsewhere.
        ({"/proc/self/mountinfo": MOUNT.format(root="/", place="/var/lib/kubelet/pods/1/volumes/token")}, None),
        ({"/proc/1/cgroup": "0::/init.scope\n"}, None),
        ({"/proc/version": "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n"}, "gvisor"),
        ({"/proc/vz/version": ""}, "openvz"),
        ({"/proc/vz/version": "", "/proc/bc/resources": ""}, None),
        ({"/dev/lxd/sock": ""}, "lxc"),
        ({}, None),
    ],
)
def test_a_container_is_told_from_a_machine(tmp_path: Path, files: dict[str, str], container: str | None) -> None:
    assert kinds_of(tmp_path, files=files).get("container") == container


def test_a_pod_is_told_by_the_environment_of_its_processes(tmp_path: Path) -> None:
    assert kinds_of(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == {"container": "kubernetes"}


@pytest.mark.parametrize("path", ["/.dockerenv", "/run/.containerenv", "/dev/lxd/sock"])
def test_a_virtual_machine_is_no_container_though_its_image_was_one(tmp_path: Path, path: str) -> None:
    assert kinds_of(tmp_path, files={path: ""}, links=ON_A_MACHINE) == {}
    # With the host's process numbers it is a container all the same.
    links = {**ON_A_MACHINE, "/proc/self/ns/uts": "uts:[4026532201]"}
    assert "container" in kinds_of(tmp_path / "shared", files={path: ""}, links=links)


@pytest.mark.parametrize(
    ("path", "text", "platform"),
    [
        ("/proc/sys/kernel/osrelease", "6.6.87.2-microsoft-standard-WSL2\n", "wsl"),
        ("/proc/sys/kernel/osrelease", "4.4.0-19041-Microsoft\n", "wsl1"),
        ("/proc/sys/kernel/osrelease", "6.12.0-custom\n", None),
        ("/dev/dxg", "", "wsl"),
        ("/usr/lib/wsl/lib/libcuda.so.1", "", "wsl"),
        ("/etc/nv_tegra_release", "", "tegra"),
        ("/proc/device-tree/compatible", "nvidia,p3737-0000\0nvidia,tegra234\0", "tegra"),
        ("/proc/device-tree/compatible", "raspberrypi,4-model-b\0brcm,bcm2711\0", None),
    ],
)
def test_where_a_gpu_is_on_no_pci_bus(tmp_path: Path, path: str, text: str, platform: str | None) -> None:
    assert kinds_of(tmp_path, files={path: text}).get("platform") == platform


@pytest.mark.parametrize(
    ("files", "system"),
    [
        ({"/run/ostree-booted": ""}, "ostree"),
        ({"/run/ostree-booted": "", "/usr/bin/bootc": ""}, "bootc"),
        ({"/usr/bin/bootc": ""}, None),
        ({"/etc/os-release": 'NAME="NixOS"\nID=nixos\n'}, "nixos"),
        ({"/usr/lib/os-release": "ID=flatcar\nID_LIKE=coreos\n"}, "flatcar"),
        ({"/etc/os-release": 'ID="opensuse-microos"\n'}, "transactional"),
        ({"/etc/os-release": "ID=debian\nVARIANT_ID=cos\n"}, None),
        ({"/proc/self/mountinfo": "29 1 8:3 / / ro,relatime shared:1 - ext4 /dev/sda3 rw\n"}, "read_only"),
        ({"/proc/self/mountinfo": "29 1 8:3 / / rw,relatime shared:1 - ext4 /dev/sda3 rw\n"}, None),
    ],
)
def test_a_system_from_an_image(tmp_path: Path, files: dict[str, str], system: str | None) -> None:
    assert kinds_of(tmp_path, files=files).get("system") == system


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/usr/bin/nvidia-uninstall", "runfile"),
        ("/usr/bin/nvidia-installer", "runfile"),
        ("/var/log/nvidia-installer.log", None),  # stays when the driver is gone
        ("/usr/bin/nvidia-gridd", "vgpu_guest"),
        ("/etc/nvidia/gridd.conf", "vgpu_guest"),
        ("/etc/nvidia/gridd.conf.template", None),
        ("/usr/bin/nvidia-vgpud", "vgpu_host"),
        ("/run/nvidia/driver/usr/bin/nvidia-smi", "driver_container"),
        ("/etc/dgx-release", "dgx_os"),
        ("/etc/pve/.version", "proxmox"),
    ],
)
def test_whose_the_driver_is(tmp_path: Path, path: str, owner: str | None) -> None:
    assert kinds_of(tmp_path, files={path: ""}).get("driver") == owner


@pytest.mark.parametrize(("options", "owner"), [("ro,relatime", "mounted"), ("rw,relatime", None)])
def test_a_driver_on_a_mount_that_cannot_be_written(tmp_path: Path, options: str, owner: str | None) -> None:
    mounts = f"22 1 8:3 / / rw - ext4 /dev/vda rw\n40 22 0:40 / /usr/local/nvidia {options} - virtiofs drv rw\n"
    tree: dict[str, Any] = {
        "files": {"/proc/self/mountinfo": mounts, "/etc/ld.so.conf": "/usr/local/nvidia/lib64\n"},
        "architecture": "x86_64",
        "libraries": {"/usr/local/nvidia/lib64": ["libcuda.so.1"]},
    }
    assert kinds_of(tmp_path, **tree).get("driver") == owner


def test_the_microvm_of_these_tests_is_no_container() -> None:
    """Whatever machine this is: where it is the kernel's first system, a file of its image does not make it one."""
    if Path("/proc/2/comm").read_text().strip() != "kthreadd":
        pytest.skip("these tests run in a container")
    kinds = {row["aspect"] for row in node_record.read_node()["kinds"]}
    assert "container" not in kinds
