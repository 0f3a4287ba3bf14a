"""What the parsers of a node's names and texts make of them."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.tensorflow_stack.node import texts

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
        pytest.param(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  525.60.11  Release Build  "
            "(archlinux-builder@localhost)  \n",
            ("525.60.11", "open"),
            id="no-date",
        ),
        pytest.param(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.58  Release Build  "
            "(portage@localhost)  Сб 29 июн 2024 14:36:22 MSK\n",
            ("555.58", "open"),
            id="date-of-another-language",
        ),
        pytest.param("GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n", None, id="compiler-only"),
        pytest.param("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64 malformed\n", None, id="no-version"),
        pytest.param("", None, id="empty"),
    ],
)
def test_parse_driver_version(text: str, expected: tuple[str, str] | None) -> None:
    assert texts.parse_driver_version(text) == expected


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
    assert texts.parse_os_release(text) == {
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
    assert texts.os_family(values) == family


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
    assert texts.parse_secure_boot(data) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00", "x86_64"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00", "aarch64"),
        (b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x03\x00\x03\x00", "i386"),
        (b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x03\x00\x16", "s390x"),  # big endian
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xf7\x00", "machine 247"),
        (b"\x7fELF\x02\x01", None),
        (b"#!/bin/sh\nexec python3 -P", None),
    ],
)
def test_parse_elf_machine(header: bytes, expected: str | None) -> None:
    assert texts.parse_elf_machine(header) == expected


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
    assert texts.parse_glibc(b"\x00\x01" + text.encode() + b"\nCompiled by GNU CC version 12.2.0.\n") == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("11.2.20210301", "11.2"), ("11.6.1", "11.6"), ("13.0.3", "13.0"), ("", None), (None, None)],
)
def test_parse_cuda_version_json(version: str | None, expected: str | None) -> None:
    text = json.dumps({"cuda": {"name": "CUDA SDK", "version": version}, "cuda_nvcc": {"version": "9.9.9"}})
    assert texts.parse_cuda_version_json(text) == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cuda": "11.2"}', '{"cuda": {"version": "11.2'])
def test_parse_cuda_version_json_of_another_shape(text: str) -> None:
    assert texts.parse_cuda_version_json(text) is None


def test_parse_cuda_version_txt() -> None:
    assert texts.parse_cuda_version_txt("CUDA Version 10.0.130\nCUDA Patch Version 10.0.130.1\n") == "10.0"
    assert texts.parse_cuda_version_txt("CUDA\n") is None


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
    assert texts.parse_cudart_name(name) == expected


def test_parse_cudart_header() -> None:
    assert texts.parse_cudart_header("/** CUDA Runtime API Version */\n#define CUDART_VERSION  11020\n") == "11.2"
    assert texts.parse_cudart_header("#define CUDART_VERSION 13000\n") == "13.0"
    assert texts.parse_cudart_header("#if CUDART_VERSION >= 12000\n") is None


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
    assert texts.parse_cudnn_name(name) == expected


def test_parse_cudnn_header() -> None:
    text = "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 0\n"
    assert texts.parse_cudnn_header(text) == "8.1.0"
    assert texts.parse_cudnn_header('#include "cudnn_version.h"\n') is None


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
    assert texts.parse_patchlevel(f"/* Version as a string */\n{text}\n") == expected


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
    assert texts.parse_python_directory(path, minor) == expected


def test_repositories_of_dnf_are_enabled_unless_they_say_otherwise() -> None:
    text = (
        "# of the site\n[one]\nname=One\n[two]\nenabled = 0\n[ three ]\nenabled=True\n[four]\nenabled=1\nenabled=no\n"
    )
    assert texts.enabled_repositories(text) == ["one", " three "]
    assert texts.enabled_repositories("enabled=1\n[") == []
