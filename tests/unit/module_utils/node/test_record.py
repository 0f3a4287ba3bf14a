"""The node record, read from the file systems in tests/data/nodes/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.node import environments
from ansible.module_utils.tensorflow_stack.node import record as node_record
from ansible.module_utils.tensorflow_stack.node.pythons import find_pythons
from ansible.module_utils.tensorflow_stack.node.user import User

from tests import nodes


def driver(loaded: str, kind: str, *, installed: str | None = None) -> dict[str, Any]:
    """One whose libraries lie where NVIDIA's installer and Ubuntu put them."""
    installed = installed or loaded
    libcuda = f"/usr/lib/x86_64-linux-gnu/libcuda.so.{installed}"
    return {"loaded": loaded, "kind": kind, "installed": installed, "libcuda": libcuda, "other_libcuda": []}


NO_DRIVER = {"loaded": None, "kind": None, "installed": None, "libcuda": None, "other_libcuda": []}
NO_LIBRARY = {**NO_DRIVER, "loaded": "535.183.01", "kind": "proprietary"}
NOT_LOADED = {"loaded": None, "kind": None}
CUDA_11 = ["libcublas.so.11", "libcublasLt.so.11", "libcudart.so.11.0", "libcufft.so.10", "libcurand.so.10"]
CUDA_11 += ["libcusolver.so.11", "libcusparse.so.11", "ptxas", "libdevice.10.bc"]
CUDNN_8 = [
    "libcudnn.so.8",
    *(f"libcudnn_{part}_{kind}.so.8" for part in ("adv", "cnn", "ops") for kind in ("infer", "train")),
]


SCHEMA = json.loads(
    (Path(__file__).resolve().parents[4] / "roles/tensorflow_release/files/node.schema.json").read_text()
)

# What is special about each node; what all of them have is checked below.
EXPECTED: dict[str, dict[str, Any]] = {
    "no_gpu_debian12": {
        "gpus": [],
        "driver": {"loaded": None, "kind": None, "installed": None, "libcuda": None, "other_libcuda": []},
        "secure_boot": None,
        "kinds": [],
        "kernel": {"release": "6.1.0-28-amd64", "headers": None},
        "pythons": ["3.9 pyenv", "3.10 pyenv", "3.11 system"],
        "glibc": "2.36",
        "unread": [],
    },
    "a100_driver535": {
        "gpus": [
            {
                "index": 0,
                "pci_address": "0000:04:00.0",
                "device_id": "20f1",
                "pci_class": "0302",
                "bound_to": "nvidia",
                "uuid": None,
                "listed": None,
                "excluded": False,
                "device_file": None,
                "mig_instances": 0,
            }
        ],
        "driver": {
            "loaded": "535.183.01",
            "kind": "proprietary",
            "installed": "535.183.01",
            "libcuda": "/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.183.01",
            "other_libcuda": [],
        },
        "modules": {"nouveau": False, "nova_core": False, "nvidia": True, "nvidia_uvm": True},
        "kernel": {"release": "6.1.0-28-amd64", "headers": "/usr/src/linux-headers-6.1.0-28-amd64"},
        "cuda": [
            {
                "version": "11.2",
                "prefix": "/usr/local/cuda-11.2",
                "library_directory": "/usr/local/cuda-11.2/lib64",
                "libraries": CUDA_11,
            }
        ],
        "cudnn": [
            {
                "version": "8.1.0",
                "library": "/usr/local/cuda-11.2/targets/x86_64-linux/lib/libcudnn.so.8.1.0",
                "library_directory": "/usr/local/cuda-11.2/lib64",
                "libraries": CUDNN_8,
            }
        ],
        "pythons": ["3.10 uv", "3.11 system"],
        "unread": [],
    },
    "rtx3090_ubuntu2204_driver580_open": {
        "gpus": [
            {
                "index": 0,
                "pci_address": "0000:01:00.0",
                "device_id": "2204",
                "pci_class": "0300",
                "bound_to": "nvidia",
                "uuid": None,
                "listed": None,
                "excluded": False,
                "device_file": None,
                "mig_instances": 0,
            }
        ],
        "driver": {
            "loaded": "580.95.05",
            "kind": "open",
            "installed": "580.95.05",
            "libcuda": "/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05",
            "other_libcuda": [],  # the 32-bit copy is none
        },
        "cuda": ["11.8", "12.2"],
        "cudnn": ["8.9.7"],
        "pythons": ["3.10 system", "3.11 uv"],
        "secure_boot": False,
        "unread": [],
    },
    "kepler_k80_driver470": {
        "gpus": ["102d", "102d"],
        "driver": {
            "loaded": "470.256.02",
            "kind": "proprietary",
            "installed": "470.256.02",
            "libcuda": "/usr/lib/x86_64-linux-gnu/libcuda.so.470.256.02",
            "other_libcuda": [],
        },
        "unread": [],
    },
    "blackwell_rtx5090_driver580_open": {
        "gpus": ["2b85"],
        "glibc": "2.39",
        "pythons": ["3.10 pyenv", "3.12 system"],
        "unread": [],
    },
    "bare_t4_debian11": {
        "gpus": ["1eb8"],
        "kernels": [
            {"release": "4.19.0-27-amd64", "headers": None, "needs_driver": False},
            {"release": "5.10.0-32-amd64", "headers": None, "needs_driver": True},
        ],
        "kinds": [],
        "managed": {},
        "unread": [],
    },
    "bare_t4_debian12": {"gpus": ["1eb8"], "glibc": "2.36", "kinds": [], "managed": {}, "unread": []},
    "bare_t4_debian13": {"gpus": ["1eb8"], "glibc": "2.41", "pythons": ["3.13 system"], "managed": {}, "unread": []},
    "bare_a100_rocky8": {
        "gpus": ["20f1"],
        "os": {
            "id": "rocky",
            "version_id": "8.10",
            "codename": None,
            "name": "Rocky Linux 8.10 (Green Obsidian)",
            "family": "rhel",
            "base_codename": None,
        },
        "kernels": [{"release": "4.18.0-553.el8_10.x86_64", "headers": None, "needs_driver": True}],
        "package_managers": ["dnf"],
        "dkms": False,
        "yum_repositories": ["baseos", "epel"],
    },
    "managed_a100_debian12": {
        "managed": {
            "driver": {
                "component": "driver",
                "source": "distro",
                "version": "535.309.01",
                "packages": [
                    {"name": "libcuda1", "version": "535.309.01-0+deb12u1", "architecture": "amd64"},
                    {"name": "nvidia-kernel-dkms", "version": "535.309.01-0+deb12u1", "architecture": "amd64"},
                ],
                "kind": "packages",
            },
            "cuda": {
                "component": "cuda",
                "source": "distro",
                "version": "11.8.89~11.8.0",
                "packages": [{"name": "libcudart11.0", "version": "11.8.89~11.8.0-5~deb12u1", "architecture": "amd64"}],
                "kind": "packages",
            },
        },
        "cuda": [
            {
                "version": "11.8",
                "prefix": "/usr",
                "library_directory": "/usr/lib/x86_64-linux-gnu",
                "libraries": CUDA_11,
            }
        ],
        "unread": [],
    },
    "container_a100_debian12": {"kinds": [("container", "podman")], "gpus": ["20f1"], "unread": []},
    "eight_h100_nvswitch": {
        "gpus": ["2330"] * 8,
        "nvswitches": 4,
        "kernels": [
            {
                "release": "5.15.0-125-generic",
                "headers": "/usr/src/linux-headers-5.15.0-125-generic",
                "needs_driver": True,
            },
            {"release": "5.15.0-127-generic", "headers": None, "needs_driver": True},
        ],
        "unread": [],
    },
    "pascal_nouveau": {
        "gpus": ["1b80"],
        "modules": {"nouveau": True, "nova_core": False, "nvidia": False, "nvidia_uvm": False},
        "unread": [],
    },
    "maxwell_m40_driver535": {"gpus": ["17fd"], "driver": driver("535.183.01", "proprietary"), "unread": []},
    "pascal_laptop_driver535": {
        "gpus": ["1c8c"],
        "driver": driver("535.183.01", "proprietary"),
        "nvswitches": 0,
        "unread": [],
    },
    "volta_v100_driver470": {"gpus": ["1db1"], "driver": driver("470.256.02", "proprietary"), "unread": []},
    "ada_rtx4090_driver565_open": {"gpus": ["2684"], "driver": driver("565.57.01", "open"), "unread": []},
    "mixed_ampere_blackwell_driver580_open": {
        "gpus": ["2206", "2b85", "2206"],
        "driver": driver("580.95.05", "open"),
        "unread": [],
    },
    "mig_h100_driver550": {
        "gpus": ["2331"],
        "driver": driver("550.163.01", "proprietary"),
        "nvswitches": 0,
        "unread": [],
    },
    "eight_h200_nvswitch": {"gpus": ["2335"] * 8, "driver": driver("580.95.05", "open"), "nvswitches": 4, "unread": []},
    "eight_b200_driver610": {
        "gpus": ["2901"] * 8,
        "driver": driver("610.43.02", "open"),
        "nvswitches": 0,
        "unread": [],
    },
    "mismatch_driver580": {
        "gpus": ["2204"],
        "driver": driver("580.173.02", "proprietary", installed="580.178.04"),
        "unread": [],
    },
    "aarch64_gh200": {
        "architecture": "aarch64",
        "gpus": ["2342"],
        "cuda": ["13.0"],
        "driver": {
            "loaded": "580.142",
            "kind": "open",
            "installed": "580.142",
            "libcuda": "/usr/lib/aarch64-linux-gnu/libcuda.so.580.142",
            "other_libcuda": [],
        },
        "unread": [],
    },
    "secure_boot": {
        "secure_boot": True,
        "driver": {
            "loaded": None,
            "kind": None,
            "installed": "535.183.01",
            "libcuda": "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01",
            "other_libcuda": [],
        },
        "unread": [],
    },
    "debian11_cuda112_distro": {
        "glibc": "2.31",
        "cuda": [
            {
                "version": "11.2",
                "prefix": "/usr",
                "library_directory": "/usr/lib/x86_64-linux-gnu",
                "libraries": CUDA_11,
            }
        ],
        "cudnn": [
            {
                "version": "8.1.0",
                "library": "/usr/lib/x86_64-linux-gnu/libcudnn.so.8.1.0",
                "library_directory": "/usr/lib/x86_64-linux-gnu",
                "libraries": CUDNN_8,
            }
        ],
        "unread": [],
    },
    "wsl_ubuntu2404": {
        "kinds": [("platform", "wsl")],
        "gpus": [None],
        "driver": {
            "loaded": None,
            "kind": None,
            "installed": None,
            "libcuda": "/usr/lib/wsl/lib/libcuda.so.1.1",
            "other_libcuda": [],
        },
    },
    "jetson_orin": {
        "kinds": [("platform", "tegra")],
        "gpus": [],
        "driver": {
            "loaded": "540.4.0",
            "kind": "open",
            "installed": None,
            "libcuda": "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1",
            "other_libcuda": [],
        },
    },
    "pod_a100_driver470": {
        "kinds": [("container", "kubernetes"), ("driver", "mounted")],
        "gpus": ["20b0", "20b0"],
        "driver": driver("470.256.02", "proprietary"),
        "unread": [],
    },
    "container_without_its_gpu": {
        "kinds": [("container", "docker")],
        "gpus": ["20f1"],
        "driver": {
            "loaded": "535.183.01",
            "kind": "proprietary",
            "installed": None,
            "libcuda": None,
            "other_libcuda": ["/usr/local/cuda-12.3/compat/libcuda.so.545.23.08"],
        },
    },
    "vgpu_a100_grid470": {"kinds": [("driver", "vgpu_guest")], "driver": driver("470.239.06", "proprietary")},
    "runfile_a100_driver470": {"kinds": [("driver", "runfile")], "driver": driver("470.199.02", "proprietary")},
    "bootc_rhel9_a100": {"kinds": [("system", "bootc")], "gpus": ["20f1"]},
    "microvm_h200_driver580": {
        "kinds": [("driver", "mounted")],
        "kernels": [],
        "gpus": [
            {
                "index": 0,
                "pci_address": "0000:00:04.0",
                "device_id": "2335",
                "pci_class": "0302",
                "bound_to": "nvidia",
                "uuid": None,
                "listed": True,
                "excluded": False,
                "device_file": "/dev/nvidia0",
                "mig_instances": 0,
            }
        ],
        "unread": [],
    },
    "apptainer_a100": {
        "kinds": [("container", "apptainer")],
        "driver": {
            **driver("535.183.01", "proprietary"),
            "installed": None,
            "libcuda": "/.singularity.d/libs/libcuda.so.1",
        },
    },
    "containerd_a100": {"kinds": [("container", "containerd")], "driver": driver("535.183.01", "proprietary")},
    "crio_a100": {"kinds": [("container", "cri-o")], "driver": NO_LIBRARY},
    "docker_a100": {
        "kinds": [("container", "docker")],
        "driver": driver("535.183.01", "proprietary"),  # neither the stub nor the compatibility package is one
        "cuda": ["12.4"],
    },
    "mig_all_container_a100": {"kinds": [("container", "docker")], "gpus": ["20f1"]},
    "gvisor_a100": {"kinds": [("container", "gvisor")], "gpus": [None]},
    "lxc_a100": {"kinds": [("container", "lxc")], "driver": NO_LIBRARY},
    "openvz_debian12": {"kinds": [("container", "openvz")], "gpus": ["20f1"]},
    "nspawn_a100": {"kinds": [("container", "systemd-nspawn")], "driver": driver("535.183.01", "proprietary")},
    "dgx_a100": {"kinds": [("driver", "dgx_os")], "driver": driver("535.183.01", "proprietary")},
    "gpu_operator_a100": {"kinds": [("driver", "driver_container")], "driver": NO_LIBRARY},
    "proxmox_a100": {"kinds": [("driver", "proxmox")], "driver": NO_DRIVER},
    "vgpu_host_a100": {"kinds": [("driver", "vgpu_host")], "driver": NO_LIBRARY},
    "wsl1_ubuntu2204": {"kinds": [("platform", "wsl1")], "gpus": [], "driver": NO_DRIVER},
    "bottlerocket_a100": {
        "kinds": [("system", "bottlerocket")],
        "driver": {
            **driver("535.183.01", "proprietary"),
            "libcuda": "/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla/libcuda.so.535.183.01",
        },
    },
    "cos_a100": {"kinds": [("system", "container_optimized")], "driver": NO_DRIVER, "pythons": []},
    "flatcar_a100": {"kinds": [("system", "flatcar")], "driver": NO_DRIVER, "pythons": []},
    "guix_a100": {"kinds": [("system", "guix")], "architecture": "x86_64", "c_library": None, "glibc": None},
    "nixos_a100": {
        "kinds": [("system", "nixos")],
        "c_library": None,
        "driver": {
            **driver("535.183.01", "proprietary"),
            "libcuda": "/nix/store/9cj1qz0h-nvidia-x11-535.183.01-6.6.63/lib/libcuda.so.535.183.01",
        },
    },
    "silverblue_rtx3080": {"kinds": [("system", "ostree")], "driver": NO_DRIVER},
    "read_only_a100": {"kinds": [("system", "read_only")], "driver": NO_DRIVER},
    "steamos_rtx3080": {"kinds": [("system", "steamos")], "driver": NO_DRIVER},
    "talos_a100": {"kinds": [("system", "talos")], "architecture": None, "c_library": None},
    "microos_a100": {"kinds": [("system", "transactional")], "package_managers": ["zypper"]},
    "ubuntu_core_a100": {"kinds": [("system", "ubuntu_core")], "driver": NO_DRIVER},
    "alpine_a100": {"kinds": [], "architecture": "x86_64", "c_library": "musl", "glibc": None},
    "amzn2_a100": {"kinds": [], "c_library": "glibc", "glibc": "2.26"},
    "ppc64le_v100": {"architecture": None, "c_library": None, "gpus": ["1db1"]},
    "oracle9_uek_a100": {"kinds": [], "yum_repositories": ["ol9_developer_EPEL"]},
    "ubuntu2604_a100": {"kinds": [], "driver": NO_DRIVER},
    "stub_in_front_a100": {
        "driver": {
            **driver("535.183.01", "proprietary"),
            "other_libcuda": ["/usr/local/cuda-12.5/lib64/stubs/libcuda.so"],
        },
        "cuda": ["12.5"],
        "cudnn": [],
    },
    "module_without_build_t4": {"dkms": True, "driver": {**driver("535.183.01", "proprietary"), **NOT_LOADED}},
    "optimus_laptop": {"gpus": ["25a2"], "other_gpus": [{"pci_address": "0000:00:02.0", "vendor": "8086"}]},
    "v100_and_k80_driver535": {"gpus": ["102d", "102d", "1db4"], "kinds": [], "unread": []},
    "h100_and_k80_bare": {"gpus": ["102d", "2331"], "kinds": [], "unread": []},
    "gt1030_and_rtx4090": {"gpus": ["1d01", "2684"], "kinds": [], "unread": []},
    "mig_and_whole_h100": {"gpus": ["2331", "2331"], "kinds": [], "unread": []},
    "vfio_two_a100": {"kinds": [], "gpus": ["20f1", "20f1"], "unread": []},
    "broken_pythons": {
        "pythons": ["3.8 opt", "3.9 pyenv", "3.10 pyenv", "3.10 uv", "3.11 system", "3.12 opt", "3.14 path"],
    },
    "damaged": {"architecture": None, "glibc": None, "gpus": [], "cuda": [], "pythons": [], "environments": []},
}
BRIEF: dict[str, Callable[[dict[str, Any]], Any]] = {
    "kinds": lambda row: (row["aspect"], row["kind"]),
    "gpus": lambda row: row["device_id"],
    "cuda": lambda row: row["version"],
    "cudnn": lambda row: row["version"],
    "pythons": lambda row: f"{row['minor']} {row['origin']}",
}


@pytest.mark.parametrize("name", nodes.NAMES)
def test_node(name: str, tmp_path: Path) -> None:
    record = nodes.read(name, tmp_path)
    for fact, expected in EXPECTED[name].items():
        found = record[fact]
        if fact in BRIEF and expected and not isinstance(expected[0], dict):
            found = [BRIEF[fact](row) for row in found]
        assert found == expected, fact
    assert json.loads(json.dumps(record)) == record
    jsonschema.validate(record, SCHEMA)


def test_an_environment_is_the_record_of_its_build(tmp_path: Path) -> None:
    record = nodes.read("a100_driver535", tmp_path)
    (environment,) = record["environments"]
    assert environment["name"] == "tensorflow-2.10.1"
    assert environment["packages"]["numpy"] == "1.23.5"
    assert set(environment) == {
        *environments.BUILD_KEYS,
        "requirements",
        "added",
        "additions",
        "damage",
        "unfinished",
        "also_in",
        "visible_gpus",
        "image",
    }
    assert (environment["additions"], environment["damage"], environment["also_in"]) == ([], None, [])
    assert list(record["manifest"]["environments"]) == ["tensorflow-2.10.1"]
    assert record["environments_root"]["exists"] is True


def test_each_environment_that_is_asked_for_is_compared(tmp_path: Path) -> None:
    root = nodes.materialise("a100_driver535", tmp_path)
    seen: list[bool] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(environments, "_look_into", lambda *_, is_asked_for: seen.append(is_asked_for) or {})
        for asked in (["other"], ["other", "tensorflow-2.10.1"]):
            node_record.read_node(filesystem_root=str(root), environments=asked)
    assert seen == [False, True]


def test_an_environment_is_found_through_a_root_that_is_a_link(tmp_path: Path) -> None:
    root = nodes.materialise("a100_driver535", tmp_path)
    (root / "srv").mkdir()
    (root / "srv/tensorflow").symlink_to("/opt/tensorflow")
    record = node_record.read_node(filesystem_root=str(root), environments_root="/srv/tensorflow/")
    assert [row["name"] for row in record["environments"]] == ["tensorflow-2.10.1"]
    assert record["environments_root"]["path"] == "/srv/tensorflow"


def test_rhel_8(tmp_path: Path) -> None:
    """Libraries in lib64, the system's Python under another name, headers in /usr/src/kernels, dnf."""
    release = "4.18.0-553.el8_10.x86_64"
    tree = {
        "links": {
            "/bin": "usr/bin",
            "/lib": "usr/lib",
            "/lib64": "usr/lib64",
            "/usr/bin/sh": "bash",
            "/usr/bin/python3": "/etc/alternatives/python3",
            "/etc/alternatives/python3": "/usr/bin/python3.6",
            "/usr/bin/python3.6": "/usr/libexec/platform-python3.6",
            "/usr/lib64/libc.so.6": "libc-2.28.so",
            "/usr/lib64/libcuda.so.1": "libcuda.so.550.54.15",
            "/usr/lib/libcuda.so.1": "libcuda.so.550.54.15",
            f"/lib/modules/{release}/build": f"/usr/src/kernels/{release}",
        },
        "files": {
            "/etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="8.10"\n',
            "/proc/sys/kernel/osrelease": release + "\n",
            f"/usr/src/kernels/{release}/Makefile": "",
            "/usr/lib64/python3.6/os.py": "",
            "/usr/lib64/python3.6/ensurepip/__init__.py": "",
            "/usr/bin/dnf": "",
        },
        "elf": {
            "/usr/bin/bash": "x86_64",
            "/usr/libexec/platform-python3.6": "x86_64",
            "/usr/lib64/libc-2.28.so": "x86_64",
            "/usr/lib64/libcuda.so.550.54.15": "x86_64",
            "/usr/lib/libcuda.so.550.54.15": "i386",
        },
    }
    record = node_record.read_node(filesystem_root=str(nodes.build(tree, tmp_path)), environ={"PATH": "/usr/bin"})
    assert record["os"]["family"] == "rhel"
    assert record["glibc"] == "2.28"
    assert record["kernel"]["headers"] == f"/usr/src/kernels/{release}"
    assert record["driver"]["libcuda"] == "/usr/lib64/libcuda.so.550.54.15"
    assert record["driver"]["other_libcuda"] == []
    assert record["package_managers"] == ["dnf"]
    assert [(row["path"], row["ensurepip"]) for row in record["pythons"]] == [("/usr/libexec/platform-python3.6", True)]


def test_gpus_are_in_order_of_address(tmp_path: Path) -> None:
    gpu = {"vendor": "10de", "device": "2330", "pci_class": "030200"}
    tree = {"pci": {address: gpu for address in ("10000:01:00.0", "0000:c3:00.0", "5dc5:00:00.0", "0000:1b:00.0")}}
    gpus = node_record.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))["gpus"]
    assert [row["pci_address"] for row in gpus] == ["0000:1b:00.0", "0000:c3:00.0", "5dc5:00:00.0", "10000:01:00.0"]
    assert [row["index"] for row in gpus] == [0, 1, 2, 3]
    assert gpus[0]["bound_to"] is None


def test_a_virtual_function_is_no_gpu_of_its_host(tmp_path: Path) -> None:
    gpu = {"vendor": "10de", "device": "20b5", "pci_class": "030200"}
    physical, virtual = "0000:1b:00.0", "0000:1b:00.4"
    tree = {
        "pci": {physical: gpu, virtual: gpu},
        "links": {f"/sys/devices/pci0000:00/{virtual}/physfn": f"../{physical}"},
    }
    gpus = node_record.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))["gpus"]
    assert [row["pci_address"] for row in gpus] == [physical]


def test_a_damaged_record_of_what_was_installed_has_its_reason(tmp_path: Path) -> None:
    root = nodes.build({"files": {"/etc/tensorflow-gpu-stack/cuda.json": "{"}}, tmp_path)
    record = node_record.read_node(filesystem_root=str(root))
    assert record["managed"] == {}
    reasons = [row["reason"] for row in record["unread"] if row["fact"] == "managed"]
    assert reasons[0].startswith("/etc/tensorflow-gpu-stack/cuda.json: not JSON: ")


def test_an_empty_root_is_all_null_with_reasons(tmp_path: Path) -> None:
    record = node_record.read_node(filesystem_root=str(tmp_path), user=User("root", 0, "/root"), environ={})
    assert {row["fact"] for row in record["unread"]} == {
        "architecture",
        "boot_id",
        "glibc",
        "gpus",
        "kernel",
        "modules",
        "os",
    }
    assert record["environments_root"]["exists"] is False
    assert record["environments_root"]["free_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_everything_damaged_has_its_reason(tmp_path: Path) -> None:
    reasons = [f"{row['fact']}: {row['reason']}" for row in nodes.read("damaged", tmp_path)["unread"]]
    for expected in (
        "architecture: no ELF file among /bin/sh",
        "boot_id: /proc/sys/kernel/random/boot_id: Too many levels of symbolic links",
        "cuda: /usr/local/cuda-11.2/lib64/libcudart.so.11.2.152: not an ELF file",
        "cuda: /usr/local/cuda-12.0: Too many levels of symbolic links",
        "cuda: /usr/local/cuda-12.2: no version file, header or library name has the version",
        "cudnn: /usr/lib/libcudnn.so.8: neither its name nor a header next to it has the version",
        "driver.kind: /proc/driver/nvidia/version: of neither known shape",
        "driver.libcuda: /usr/lib/libcuda.so.1: link to /usr/lib/libcuda.so.999, which is not there",
        "driver.loaded: /sys/module/nvidia/version: not a version",
        "environments: /opt/tensorflow/.builds/tensorflow-2.10.0-short-1/build.json: without flavour, without digest",
        "environments: /opt/tensorflow/.builds/tensorflow-2.9.0-cut-1/build.json: not JSON: Unterminated string",
        "environments: /opt/tensorflow/in_a_circle: Too many levels of symbolic links",
        "environments: /opt/tensorflow/tensorflow-2.11.0: its build was made for tensorflow-2.12.0",
        "environments: /opt/tensorflow/tensorflow-2.8.0: no build record in /opt/tensorflow/.builds/",
        "glibc: /usr/lib/libc.so.6: not an ELF file",
        "gpus: /sys/bus/pci/devices/0000:01:00.0/vendor: absent or not a PCI number",
        "gpus: /sys/bus/pci/devices/0000:02:00.0/device: absent or not a PCI number",
        "kernel: /proc/sys/kernel/osrelease: absent, empty or not one line of text",
        "manifest: /opt/tensorflow/manifest.json: JSON, but not an object",
        "os: no ID in /etc/os-release or /usr/lib/os-release",
        "pythons: /usr/bin/python3.9: not an ELF file",
        "secure_boot: /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c: 6 bytes",
    ):
        assert any(reason.startswith(expected) for reason in reasons), expected


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """One that another user can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_another_user_may_not_read_is_a_row(public_directory: Path) -> None:
    root = nodes.materialise("a100_driver535", public_directory)
    for closed in ("root", "opt/tensorflow/manifest.json", "proc/driver/nvidia/version", "usr/local/cuda-11.2"):
        place = root / closed
        place.mkdir(exist_ok=True) if closed == "root" else None
        place.chmod(0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # Reads as that user with root's home, as after a careless `sudo -u`.
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        record = node_record.read_node(filesystem_root=str(root), user=User("nobody", 0, "/root"), environ={})
        with os.fdopen(writer, "w") as stream:
            json.dump(record, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    record = json.loads(text)
    for fact, path in (
        ("manifest", "/opt/tensorflow/manifest.json"),
        ("driver.kind", "/proc/driver/nvidia/version"),
        ("cuda", "/usr/local/cuda-11.2/lib64"),
        ("pythons", "/root/.pyenv/versions"),
    ):
        assert {"fact": fact, "reason": f"{path}: Permission denied"} in record["unread"]
    assert record["driver"]["loaded"] == "535.183.01"
    assert record["driver"]["kind"] is None
    assert [row["minor"] for row in record["pythons"]] == ["3.10", "3.11"]
    assert [row["name"] for row in record["environments"]] == ["tensorflow-2.10.1"]
    assert record["environments_root"]["writable"] is False


_watched: list[tuple[str, tuple[Any, ...]]] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None:
        _watched.append((event, arguments))


@pytest.mark.parametrize("name", ["a100_driver535", "damaged"])
def test_only_files_under_the_root_are_read(name: str, tmp_path: Path) -> None:
    """By the interpreter's own audit events: nothing is started, written or looked at elsewhere."""
    global _watched
    root = nodes.materialise(name, tmp_path)
    sys.addaudithook(_watch)
    _watched = []
    try:
        node_record.read_node(filesystem_root=str(root), user=User("root", 0, "/root"), environ={})
    finally:
        events, _watched = _watched, None
    assert {event for event, _ in events} <= {"open", "os.listdir", "compile", "exec"}
    # Who may change a path is asked from `/` down, by descriptors that nothing can be read from.
    events = [row for row in events if row[0] != "open" or not row[1][2] & os.O_PATH]
    # Which file systems may never answer is asked of the kernel.
    events = [row for row in events if row[1][:1] != ("/proc/self/mountinfo",)]
    touched = [arguments for event, arguments in events if event in ("open", "os.listdir")]
    assert len(touched) > 20
    for arguments in touched:
        assert str(arguments[0]).startswith(str(root))
    flags = {arguments[2] for event, arguments in events if event == "open"}
    assert {flag & (os.O_ACCMODE | os.O_NONBLOCK) for flag in flags} == {os.O_RDONLY | os.O_NONBLOCK}


OTHER_PYTHONS = {row["minor"]: row["path"] for row in find_pythons()[0]}
MODULE_UTILS = str(Path(node_record.__file__).parents[2])
READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tensorflow_stack.node.record import User, read_node
user = User("root", 0, "/root")
print(json.dumps(read_node(filesystem_root=sys.argv[2], user=user, environ={"PATH": sys.argv[3]})))
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("minor", ["3.7", "3.8", "3.9", "3.13"])
@pytest.mark.parametrize("name", ["a100_driver535", "broken_pythons", "damaged"])
def test_every_python_of_a_node_reads_the_same(name: str, minor: str, tmp_path: Path) -> None:
    if minor not in OTHER_PYTHONS:
        pytest.skip(f"no Python {minor} on this machine")
    expected = nodes.read(name, tmp_path)
    command = [OTHER_PYTHONS[minor], "-I", "-c", READ, MODULE_UTILS, str(tmp_path / name)]
    search_path = nodes.describe(name)["search_path"]
    output = subprocess.run([*command, search_path], check=True, capture_output=True, text=True).stdout.splitlines()
    record = json.loads(output[0])
    for volatile in ("environments_root", "unread"):  # free bytes change; json words its errors anew
        expected.pop(volatile)
        record.pop(volatile)
    assert record == expected
    # Each would cost a run on a node several milliseconds.
    assert not {"asyncio", "dataclasses", "inspect", "pathlib", "socket", "subprocess"} & set(json.loads(output[1]))
