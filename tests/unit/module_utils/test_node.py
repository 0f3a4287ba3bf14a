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

import pytest
from ansible.module_utils.tensorflow_stack import node

from tests import nodes

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  "
    "(dvs-builder@U22-I3-B17-02-5)  Tue Sep 23 09:55:41 UTC 2025\n"
    "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04.2) \n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(PROPRIETARY, ("535.183.01", "proprietary"), id="proprietary"),
        pytest.param(OPEN, ("580.95.05", "open"), id="open"),
        pytest.param(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.86  Tue Oct 26 21:55:45 UTC 2021\n",
            ("470.86", "proprietary"),
            id="two-numbers",
        ),
        pytest.param(
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.142  Release Build  "
            "(dvs-builder@U22-I3-H10-02-1)  Tue Mar  3 19:08:06 UTC 2026\n",
            ("580.142", "open"),
            id="aarch64",
        ),
        pytest.param("GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n", None, id="compiler-only"),
        pytest.param("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64 malformed\n", None, id="no-version"),
        pytest.param("", None, id="empty"),
    ],
)
def test_parse_driver_version(text: str, expected: tuple[str, str] | None) -> None:
    assert node.parse_driver_version(text) == expected


def test_parse_os_release_unquotes_as_a_shell_does() -> None:
    text = "\n".join(
        [
            "# a comment",
            "ID='rocky'",
            r'PRETTY_NAME="Say \"hi\" for \$1"',
            'ID_LIKE="rhel centos fedora"',
            "VERSION_ID=8.10",
            "EMPTY=",
            "no assignment",
        ]
    )
    assert node.parse_os_release(text) == {
        "ID": "rocky",
        "PRETTY_NAME": 'Say "hi" for $1',
        "ID_LIKE": "rhel centos fedora",
        "VERSION_ID": "8.10",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("values", "family"),
    [
        ({"ID": "debian"}, "debian"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "debian"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "rhel"),
        ({"ID": "amzn", "ID_LIKE": "fedora"}, "rhel"),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "suse"),
        ({"ID": "sles", "ID_LIKE": "suse"}, "suse"),
        ({"ID": "alpine"}, None),
        ({}, None),
    ],
)
def test_os_family(values: dict[str, str], family: str | None) -> None:
    assert node.os_family(values) == family


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x06\x00\x00\x00\x01", True),
        (b"\x06\x00\x00\x00\x00", False),
        (b"\x06\x00\x00\x00\x02", None),
        (b"\x06\x00\x00\x00", None),
        (b"\x01", None),
        (b"", None),
    ],
)
def test_parse_secure_boot(data: bytes, expected: bool | None) -> None:
    assert node.parse_secure_boot(data) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00", "x86_64"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00", "aarch64"),
        (b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x03\x00\x03\x00", "i386"),
        (b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x03\x00\x16", "machine 22"),  # s390x, big endian
        (b"\x7fELF\x02\x01", None),
        (b"#!/bin/sh\nexec python3 -P", None),
    ],
)
def test_parse_elf_machine(header: bytes, expected: str | None) -> None:
    assert node.parse_elf_machine(header) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.", "2.36"),
        ("GNU C Library (GNU libc) stable release version 2.28.", "2.28"),
        ("GNU C Library (GNU libc) development release version 2.38.9000.", "2.38"),
        ("musl libc (x86_64)\nVersion 1.2.4", None),
    ],
)
def test_parse_glibc(text: str, expected: str | None) -> None:
    assert node.parse_glibc(b"\x00\x01" + text.encode() + b"\nCompiled by GNU CC version 12.2.0.\n") == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("11.2.20210301", "11.2"), ("11.6.1", "11.6"), ("13.0.3", "13.0"), ("", None), (None, None)],
)
def test_parse_cuda_version_json(version: str | None, expected: str | None) -> None:
    text = json.dumps({"cuda": {"name": "CUDA SDK", "version": version}, "cuda_nvcc": {"version": "9.9.9"}})
    assert node.parse_cuda_version_json(text) == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cuda": "11.2"}', '{"cuda": {"version": "11.2'])
def test_parse_cuda_version_json_of_another_shape(text: str) -> None:
    assert node.parse_cuda_version_json(text) is None


def test_parse_cuda_version_txt() -> None:
    assert node.parse_cuda_version_txt("CUDA Version 10.0.130\nCUDA Patch Version 10.0.130.1\n") == "10.0"
    assert node.parse_cuda_version_txt("CUDA\n") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("libcudart.so.11.2.152", "11.2"),
        ("libcudart.so.13.0.96", "13.0"),
        ("libcudart.so.11.0", None),  # the soname of every CUDA 11
        ("libcudart.so.12", None),
        ("libcudart.so", None),
        ("libcudart_static.a", None),
    ],
)
def test_parse_cudart_name(name: str, expected: str | None) -> None:
    assert node.parse_cudart_name(name) == expected


def test_parse_cudart_header() -> None:
    assert node.parse_cudart_header("/** CUDA Runtime API Version */\n#define CUDART_VERSION  11020\n") == "11.2"
    assert node.parse_cudart_header("#define CUDART_VERSION 13000\n") == "13.0"
    assert node.parse_cudart_header("#if CUDART_VERSION >= 12000\n") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("libcudnn.so.8.1.0", "8.1.0"),
        ("libcudnn.so.9.23.2", "9.23.2"),
        ("libcudnn.so.8", None),
        ("libcudnn_ops_infer.so.8.1.0", None),
    ],
)
def test_parse_cudnn_name(name: str, expected: str | None) -> None:
    assert node.parse_cudnn_name(name) == expected


def test_parse_cudnn_header() -> None:
    text = "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 0\n"
    assert node.parse_cudnn_header(text) == "8.1.0"
    assert node.parse_cudnn_header('#include "cudnn_version.h"\n') is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('#define PY_VERSION      \t"3.11.2"', "3.11.2"),
        ('#define PY_VERSION      \t"3.12.1+"', "3.12.1"),
        ('#define PY_VERSION      \t"3.14.0rc2"', "3.14.0rc2"),
        ("#define PY_MAJOR_VERSION 3", None),
    ],
)
def test_parse_patchlevel(text: str, expected: str | None) -> None:
    assert node.parse_patchlevel(f"/* Version as a string */\n{text}\n") == expected


@pytest.mark.parametrize(
    ("path", "minor", "expected"),
    [
        ("/root/.pyenv/versions/3.10.13", "3.10", "3.10.13"),
        ("/x/cpython-3.9.18-linux-x86_64-gnu", "3.9", "3.9.18"),
        ("/x/cpython-3.14.0rc2-linux-x86_64-gnu", "3.14", "3.14.0rc2"),
        ("/root/.pyenv/versions/miniconda3-3.10-25.1.1-2", "3.10", None),
        ("/opt/3.10.4/python-3.10", "3.1", None),
        ("/usr", "3.11", None),
    ],
)
def test_parse_python_directory(path: str, minor: str, expected: str | None) -> None:
    assert node.parse_python_directory(path, minor) == expected


# What is special about each node; what all of them have is checked below.
EXPECTED: dict[str, dict[str, Any]] = {
    "no_gpu_debian12": {
        "gpus": [],
        "driver": {"loaded": None, "kind": None, "installed": None, "libcuda": None, "other_libcuda": []},
        "secure_boot": None,
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
            }
        ],
        "cudnn": [
            {
                "version": "8.1.0",
                "library": "/usr/local/cuda-11.2/targets/x86_64-linux/lib/libcudnn.so.8.1.0",
                "library_directory": "/usr/local/cuda-11.2/lib64",
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
    "eight_h100_nvswitch": {
        "gpus": ["2330"] * 8,
        "nvswitches": 4,
        "kernels": [
            {"release": "5.15.0-125-generic", "headers": "/usr/src/linux-headers-5.15.0-125-generic"},
            {"release": "5.15.0-127-generic", "headers": None},
        ],
        "unread": [],
    },
    "pascal_nouveau": {
        "gpus": ["1b80"],
        "modules": {"nouveau": True, "nova_core": False, "nvidia": False, "nvidia_uvm": False},
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
        "cuda": [{"version": "11.2", "prefix": "/usr", "library_directory": "/usr/lib/x86_64-linux-gnu"}],
        "cudnn": [
            {
                "version": "8.1.0",
                "library": "/usr/lib/x86_64-linux-gnu/libcudnn.so.8.1.0",
                "library_directory": "/usr/lib/x86_64-linux-gnu",
            }
        ],
        "unread": [],
    },
    "broken_pythons": {
        "pythons": ["3.8 opt", "3.9 pyenv", "3.10 pyenv", "3.10 uv", "3.11 system", "3.12 opt", "3.14 path"],
    },
    "damaged": {"architecture": None, "glibc": None, "gpus": [], "cuda": [], "pythons": [], "environments": []},
}
BRIEF: dict[str, Callable[[dict[str, Any]], str]] = {
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
        if fact in BRIEF and expected and isinstance(expected[0], str):
            found = [BRIEF[fact](row) for row in found]
        assert found == expected, fact
    assert json.loads(json.dumps(record)) == record


def test_an_environment_is_the_record_of_its_build(tmp_path: Path) -> None:
    record = nodes.read("a100_driver535", tmp_path)
    (environment,) = record["environments"]
    assert environment["name"] == "tensorflow-2.10.1"
    assert environment["packages"]["numpy"] == "1.23.5"
    assert set(environment) == set(node.BUILD_KEYS)
    assert list(record["manifest"]["environments"]) == ["tensorflow-2.10.1"]
    assert record["environments_root"]["exists"] is True


def test_an_environment_is_found_through_a_root_that_is_a_link(tmp_path: Path) -> None:
    root = nodes.materialise("a100_driver535", tmp_path)
    (root / "srv").mkdir()
    (root / "srv/tensorflow").symlink_to("/opt/tensorflow")
    record = node.read_node(filesystem_root=str(root), environments_root="/srv/tensorflow/")
    assert [row["name"] for row in record["environments"]] == ["tensorflow-2.10.1"]
    assert record["environments_root"]["path"] == "/srv/tensorflow"


def test_python_rows(tmp_path: Path) -> None:
    pythons = nodes.read("broken_pythons", tmp_path)["pythons"]
    assert pythons[1] == {
        "version": "3.9.18",
        "minor": "3.9",
        "path": "/opt/pyenv/versions/3.9.18/bin/python3.9",
        "origin": "pyenv",
        "ensurepip": False,
    }
    assert [row["version"] for row in pythons] == [
        "3.8.18",
        "3.9.18",
        "3.10.13",
        "3.10.19",
        None,
        "3.12.1",
        "3.14.0rc2",
    ]


def test_a_python_that_is_left_out_has_its_reason(tmp_path: Path) -> None:
    unread = nodes.read("broken_pythons", tmp_path)["unread"]
    assert {row["fact"] for row in unread} == {"pythons"}
    assert sorted(row["reason"] for row in unread) == [
        "/opt/arm/bin/python3: built for aarch64, this node is x86_64",
        "/root/.pyenv/versions/3.6.15/bin/python3.6: no standard library in "
        "/root/.pyenv/versions/3.6.15/lib/python3.6 or /root/.pyenv/versions/3.6.15/lib64/python3.6",
        "/srv/tools/bin/python3.13: /opt/pyenv/versions/3.13.0t/bin/python3.13t is not named python3.N, "
        "as a standard build of CPython is",
        "/usr/bin/python3.7: link to /opt/removed/bin/python3.7, which is not there",
        "/usr/local/bin/python3.8: not an ELF file",
    ]


def test_find_pythons_is_what_the_record_says(tmp_path: Path) -> None:
    record = nodes.read("broken_pythons", tmp_path)
    pythons, unread = node.find_pythons(
        filesystem_root=str(tmp_path / "broken_pythons"),
        user=node.User("root", 0, "/root"),
        search_path="/root/.pyenv/shims:/root/venv/bin:/srv/tools/bin:/usr/local/bin:/usr/bin",
        environ={},
    )
    assert pythons == record["pythons"]
    assert unread == record["unread"]


def test_pyenv_and_uv_are_where_the_environment_says(tmp_path: Path) -> None:
    build = {"minor": "3.10", "machine": "x86_64"}
    places = ["/data/pyenv/versions/3.10.1", "/data/share/uv/python/cpython-3.10.2-linux-x86_64-gnu"]
    nodes.build({"elf": {"/bin/sh": "x86_64"}, "pythons": [{"prefix": place, **build} for place in places]}, tmp_path)
    environ = {"PYENV_ROOT": "/data/pyenv", "XDG_DATA_HOME": "/data/share", "PATH": "/nowhere"}
    arguments: dict[str, Any] = {"filesystem_root": str(tmp_path), "user": node.User("ada", 1000, "/home/ada")}
    pythons, _ = node.find_pythons(environ=environ, **arguments)
    assert [(row["version"], row["origin"]) for row in pythons] == [("3.10.1", "pyenv"), ("3.10.2", "uv")]
    assert node.find_pythons(environ={}, **arguments) == ([], [])


def test_python_3_7_has_its_abi_flag_in_the_name_of_its_headers(tmp_path: Path) -> None:
    tree = {
        "pythons": [{"prefix": "/usr", "minor": "3.7", "machine": "x86_64"}],
        "files": {"/usr/include/python3.7m/patchlevel.h": '#define PY_VERSION "3.7.3"\n'},
    }
    pythons, _ = node.find_pythons(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert [row["version"] for row in pythons] == ["3.7.3"]


def test_a_python_that_may_not_be_executed_is_left_out(tmp_path: Path) -> None:
    nodes.build({"pythons": [{"prefix": "/usr", "minor": "3.9", "machine": "x86_64"}]}, tmp_path)
    (tmp_path / "usr/bin/python3.9").chmod(0o644)
    pythons, unread = node.find_pythons(filesystem_root=str(tmp_path))
    assert pythons == []
    assert {"fact": "pythons", "reason": "/usr/bin/python3: may not be executed by this user"} in unread


def test_a_venv_leads_to_the_interpreter_it_was_made_from(tmp_path: Path) -> None:
    tree = {
        "pythons": [{"prefix": "/srv/python", "minor": "3.9", "machine": "x86_64"}],
        "links": {"/srv/venv/bin/python3": "/srv/python/bin/python3.9"},
        "files": {"/srv/venv/pyvenv.cfg": "home = /srv/python/bin\n"},
    }
    root = str(nodes.build(tree, tmp_path))
    pythons, _ = node.find_pythons(filesystem_root=root, search_path="/srv/venv/bin")
    assert [(row["path"], row["origin"]) for row in pythons] == [("/srv/python/bin/python3.9", "path")]


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
    record = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)), search_path="/usr/bin", environ={})
    assert record["os"]["family"] == "rhel"
    assert record["glibc"] == "2.28"
    assert record["kernel"]["headers"] == f"/usr/src/kernels/{release}"
    assert record["driver"]["libcuda"] == "/usr/lib64/libcuda.so.550.54.15"
    assert record["driver"]["other_libcuda"] == []
    assert record["package_managers"] == ["dnf"]
    assert [(row["path"], row["ensurepip"]) for row in record["pythons"]] == [("/usr/libexec/platform-python3.6", True)]


def test_of_several_libcuda_the_loaders_first_is_taken(tmp_path: Path) -> None:
    tree = {
        "links": {
            "/opt/old/libcuda.so.1": "libcuda.so.470.256.02",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.1": "libcuda.so.535.183.01",
        },
        "files": {
            "/etc/ld.so.conf.d/.off.conf": "/opt/off\n",
            "/etc/ld.so.conf": "include ld.so.conf.d/*.conf\n",
            "/etc/ld.so.conf.d/old.conf": "/opt/old  # first\n",
        },
        "elf": {
            "/bin/sh": "x86_64",
            "/opt/old/libcuda.so.470.256.02": "x86_64",
            "/opt/off/libcuda.so.1": "x86_64",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01": "x86_64",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.525.147.05": "x86_64",
        },
    }
    driver = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))["driver"]
    assert driver["installed"] == "470.256.02"
    assert driver["other_libcuda"] == [
        "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.525.147.05",
    ]


def test_a_libcuda_that_nothing_links_to_is_said_to_be_so(tmp_path: Path) -> None:
    library = "/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.183.01"
    tree = {"elf": {"/bin/sh": "x86_64", library: "x86_64"}}
    record = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["driver"]["libcuda"] == library
    assert {
        "fact": "driver.libcuda",
        "reason": f"{library}: no libcuda.so.1 leads the loader to it",
    } in record["unread"]


def test_a_libcuda_without_a_version_in_its_name_is_said_to_be_so(tmp_path: Path) -> None:
    """As the Windows Subsystem for Linux has it."""
    tree = {
        "files": {"/etc/ld.so.conf": "/usr/lib/wsl/lib\n"},
        "elf": {"/bin/sh": "x86_64", "/usr/lib/wsl/lib/libcuda.so.1": "x86_64"},
    }
    record = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["driver"]["libcuda"] == "/usr/lib/wsl/lib/libcuda.so.1"
    assert record["driver"]["installed"] is None
    assert "driver.installed" in [row["fact"] for row in record["unread"]]


def test_cuda_and_cudnn_whose_names_hold_the_soname_only(tmp_path: Path) -> None:
    """As the wheels and NVIDIA's component archives lay them: the headers say the version."""
    prefix = "/opt/nvidia/cuda-11.2"
    tree = {
        "files": {
            f"{prefix}/include/cuda_runtime_api.h": "#define CUDART_VERSION  11020\n",
            f"{prefix}/include/cudnn_version.h": (
                "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 1\n"
            ),
        },
        "elf": {
            "/bin/sh": "x86_64",
            f"{prefix}/lib/libcudart.so.11.0": "x86_64",
            f"{prefix}/lib/libcudnn.so.8": "x86_64",
        },
    }
    record = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["cuda"] == [{"version": "11.2", "prefix": prefix, "library_directory": f"{prefix}/lib"}]
    assert [(row["version"], row["library"]) for row in record["cudnn"]] == [("8.1.1", f"{prefix}/lib/libcudnn.so.8")]


def test_cuda_and_cudnn_that_two_ways_lead_to_are_one(tmp_path: Path) -> None:
    """NVIDIA's packages name the toolkit's directory to the loader; its archives bring no version file."""
    prefix = "/usr/local/cuda-11.2"
    directory = f"{prefix}/targets/x86_64-linux/lib"
    tree = {
        "links": {
            f"{prefix}/lib64": "targets/x86_64-linux/lib",
            f"{directory}/libcudart.so.11.0": "libcudart.so.11.2.152",
            f"{directory}/libcudnn.so.8": "libcudnn.so.8.1.0",
            "/usr/local/cuda-11": prefix,
        },
        "files": {"/etc/ld.so.conf": "/usr/local/cuda-11/targets/x86_64-linux/lib\n"},
        "elf": {
            "/bin/sh": "x86_64",
            f"{directory}/libcudart.so.11.2.152": "x86_64",
            f"{directory}/libcudnn.so.8.1.0": "x86_64",
        },
    }
    record = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["cuda"] == [{"version": "11.2", "prefix": prefix, "library_directory": f"{prefix}/lib64"}]
    assert record["cudnn"] == [
        {"version": "8.1.0", "library": f"{directory}/libcudnn.so.8.1.0", "library_directory": directory}
    ]


def test_gpus_are_in_order_of_address(tmp_path: Path) -> None:
    gpu = {"vendor": "10de", "device": "2330", "pci_class": "030200"}
    tree = {"pci": {address: gpu for address in ("10000:01:00.0", "0000:c3:00.0", "5dc5:00:00.0", "0000:1b:00.0")}}
    gpus = node.read_node(filesystem_root=str(nodes.build(tree, tmp_path)))["gpus"]
    assert [row["pci_address"] for row in gpus] == ["0000:1b:00.0", "0000:c3:00.0", "5dc5:00:00.0", "10000:01:00.0"]
    assert [row["index"] for row in gpus] == [0, 1, 2, 3]
    assert gpus[0]["bound_to"] is None


def test_an_empty_root_is_all_null_with_reasons(tmp_path: Path) -> None:
    record = node.read_node(filesystem_root=str(tmp_path), user=node.User("root", 0, "/root"), environ={})
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
        "cuda: /usr/local/cuda-12.2: no version file, header or library name says the version",
        "cudnn: /usr/lib/libcudnn.so.8: neither its name nor a header beside says the version",
        "driver.kind: /proc/driver/nvidia/version: of neither known shape",
        "driver.libcuda: /usr/lib/libcuda.so.1: link to /usr/lib/libcuda.so.999, which is not there",
        "driver.loaded: /sys/module/nvidia/version: not a version",
        "environments: /opt/tensorflow/.builds/tensorflow-2.10.0-short-1/build.json: without flavour, digest",
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
        record = node.read_node(filesystem_root=str(root), user=node.User("nobody", 0, "/root"), environ={})
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
        node.read_node(filesystem_root=str(root), user=node.User("root", 0, "/root"), environ={})
    finally:
        events, _watched = _watched, None
    assert {event for event, _ in events} <= {"open", "os.listdir", "compile", "exec"}
    touched = [arguments for event, arguments in events if event in ("open", "os.listdir")]
    assert len(touched) > 20
    for arguments in touched:
        assert str(arguments[0]).startswith(str(root))
    assert {arguments[1] for event, arguments in events if event == "open"} == {"r"}


OTHER_PYTHONS = {row["minor"]: row["path"] for row in node.find_pythons()[0]}
READ = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("node", sys.argv[1])
node = sys.modules["node"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(node)
user = node.User("root", 0, "/root")
print(json.dumps(node.read_node(filesystem_root=sys.argv[2], user=user, search_path=sys.argv[3], environ={})))
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("minor", ["3.7", "3.8", "3.9", "3.13"])
@pytest.mark.parametrize("name", ["a100_driver535", "broken_pythons", "damaged"])
def test_every_python_of_a_node_reads_the_same(name: str, minor: str, tmp_path: Path) -> None:
    if minor not in OTHER_PYTHONS:
        pytest.skip(f"no Python {minor} on this machine")
    expected = nodes.read(name, tmp_path)
    command = [OTHER_PYTHONS[minor], "-I", "-c", READ, node.__file__, str(tmp_path / name)]
    search_path = nodes.describe(name)["search_path"]
    output = subprocess.run([*command, search_path], check=True, capture_output=True, text=True).stdout.splitlines()
    record = json.loads(output[0])
    for volatile in ("environments_root", "unread"):  # free bytes change; json words its errors anew
        expected.pop(volatile)
        record.pop(volatile)
    assert record == expected
    # Each would cost a run on a node several milliseconds.
    assert not {"asyncio", "dataclasses", "inspect", "pathlib", "socket", "subprocess"} & set(json.loads(output[1]))


def test_defaults_of_the_environments_root() -> None:
    root, ada = node.User("root", 0, "/root"), node.User("ada", 1000, "/home/ada")
    assert node.default_environments_root(root, {}) == "/opt/tensorflow"
    assert node.default_environments_root(ada, {}) == "/home/ada/.local/share/tensorflow-gpu-stack"
    assert node.default_environments_root(ada, {"XDG_DATA_HOME": "/data"}) == "/data/tensorflow-gpu-stack"
    assert node.default_environments_root(ada, {"XDG_DATA_HOME": "data"}).startswith("/home/ada/")
