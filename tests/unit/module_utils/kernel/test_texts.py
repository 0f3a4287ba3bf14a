"""What DKMS, modinfo and the initramfs tools say, as captured."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.kernel.texts import (
    DkmsBuild,
    DkmsSource,
    ModuleFile,
    first_error,
    last_lines,
    nouveau_files,
    parse_dkms_conf,
    parse_dkms_status,
    parse_listing,
    parse_modinfo,
)

CAPTURES = Path(__file__).parent / "captures"

# nvidia-kernel-dkms of Debian 12, shortened.
DEBIAN_CONF = """\
# DKMS configuration for the NVIDIA kernel module.  -*- sh -*-

PACKAGE_NAME="nvidia-current"
PACKAGE_VERSION="535.261.03"

# Only kernels from 3.10 onwards are supported.
BUILD_EXCLUSIVE_KERNEL="^(3\\.[1-9][0-9]|[4-9]\\.)"

AUTOINSTALL=yes

MAKE[0]="env NV_VERBOSE=1 \\
    make ${parallel_jobs+-j$parallel_jobs} modules KERNEL_UNAME=${kernelver}"
CLEAN="true"

BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_NAME[0]="$PACKAGE_NAME"
DEST_MODULE_LOCATION[0]="/updates/dkms"

BUILT_MODULE_NAME[1]="nvidia-modeset"
DEST_MODULE_NAME[1]="$PACKAGE_NAME-modeset"
"""


@pytest.mark.parametrize(
    ("text", "source"),
    [
        pytest.param(DEBIAN_CONF, DkmsSource("nvidia-current", "535.261.03", "nvidia-current"), id="debian"),
        pytest.param(
            "PACKAGE_NAME='nvidia'\nPACKAGE_VERSION=535.104.05\nBUILT_MODULE_NAME[1]=nvidia-uvm\n"
            'BUILT_MODULE_NAME[0]="nvidia"\nDEST_MODULE_LOCATION[0]="/kernel/drivers/char/drm"\n',
            DkmsSource("nvidia", "535.104.05", "nvidia"),
            id="no name of its own for the file",
        ),
        pytest.param(
            'PACKAGE_NAME="nvidia-fs"\nPACKAGE_VERSION="2.17"\nBUILT_MODULE_NAME[0]="nvidia-fs"\n', None, id="another"
        ),
        pytest.param('PACKAGE_NAME="nvidia"\nBUILT_MODULE_NAME[0]="nvidia"\n', None, id="no version"),
        pytest.param("", None, id="empty"),
    ],
)
def test_source_by_dkms_conf(text: str, source: DkmsSource | None) -> None:
    assert parse_dkms_conf(text) == source


@pytest.mark.parametrize(
    ("line", "build"),
    [
        (
            "nvidia-current, 470.256.02, 5.10.0-46-amd64, x86_64: installed",  # DKMS 2.8
            DkmsBuild("nvidia-current", "470.256.02", "5.10.0-46-amd64", "installed"),
        ),
        (
            "nvidia-current, 470.256.02, 5.10.0-46-amd64, x86_64: built",
            DkmsBuild("nvidia-current", "470.256.02", "5.10.0-46-amd64", "built"),
        ),
        ("nvidia-current, 470.256.02: added", DkmsBuild("nvidia-current", "470.256.02", None, "added")),
        (
            "nvidia/535.309.01, 6.1.0-56-amd64, x86_64: installed",  # DKMS 3
            DkmsBuild("nvidia", "535.309.01", "6.1.0-56-amd64", "installed"),
        ),
        ("nvidia/535.309.01: added", DkmsBuild("nvidia", "535.309.01", None, "added")),
        (
            "nvidia/535.104.05, 4.18.0-513.el8.x86_64, x86_64: installed (original_module exists)",
            DkmsBuild("nvidia", "535.104.05", "4.18.0-513.el8.x86_64", "installed"),
        ),
        (
            "nvidia/535.104.05, 4.18.0-513.el8.x86_64, x86_64: installed-weak from 4.18.0-477.el8.x86_64",
            DkmsBuild("nvidia", "535.104.05", "4.18.0-513.el8.x86_64", "installed-weak"),
        ),
    ],
)
def test_line_of_dkms_status(line: str, build: DkmsBuild) -> None:
    assert parse_dkms_status(f"{line}\n") == [build]


def test_dkms_status_has_a_line_for_each_build() -> None:
    text = "\n".join(
        [
            "Deprecated feature: REMAKE_INITRD (/var/lib/dkms/x/1/source/dkms.conf)",
            "zfs/2.1.11, 6.1.0-56-amd64, x86_64: installed",
            "nvidia-current/535.309.01, 6.1.0-55-amd64, x86_64: installed",
            "nvidia-current/535.309.01, 6.1.0-56-amd64, x86_64: built",
        ]
    )
    rows = [(build.name, build.kernel, build.state) for build in parse_dkms_status(text)]
    assert rows == [
        ("zfs", "6.1.0-56-amd64", "installed"),
        ("nvidia-current", "6.1.0-55-amd64", "installed"),
        ("nvidia-current", "6.1.0-56-amd64", "built"),
    ]


def test_modinfo_of_debians_470() -> None:
    text = (CAPTURES / "modinfo.470.256.02.txt").read_text()
    assert parse_modinfo(text) == ModuleFile(version="470.256.02", kind="proprietary", signer=None)


def test_modinfo_of_a_module_that_dkms_3_signed() -> None:
    text = (CAPTURES / "modinfo.dkms3.signed.txt").read_text()
    assert parse_modinfo(text) == ModuleFile(version="535.309.01", kind="open", signer="DKMS module signing key")


@pytest.mark.parametrize(
    "text",
    ["modinfo: ERROR: Module nvidia not found.\n", "modinfo: ERROR: Module alias nvidia-current not found.\n", ""],
)
def test_modinfo_of_no_module(text: str) -> None:
    assert parse_modinfo(text) is None


def test_listing_of_debians_initramfs() -> None:
    paths = parse_listing((CAPTURES / "lsinitramfs.debian11.txt").read_text())
    assert "etc/modprobe.d/nvidia-blacklists-nouveau.conf" in paths
    assert nouveau_files(paths) == []


def test_listing_of_dracut() -> None:
    paths = parse_listing(
        "Image: /boot/initramfs-5.14.0.img: 60M\n"
        "========================================================================\n"
        "drwxr-xr-x  12 root     root            0 Jul  5 12:00 .\n"
        "lrwxrwxrwx   1 root     root            7 Jul  5 12:00 bin -> usr/bin\n"
        "-rw-r--r--   1 root     root           89 Jul  5 12:00 etc/modprobe.d/tensorflow-gpu-stack-nvidia.conf\n"
        "-rw-r--r--   1 root     root      1234567 Jul  5 12:00 "
        "usr/lib/modules/5.14.0/kernel/drivers/gpu/drm/nouveau/nouveau.ko.xz\n"
    )
    assert "bin" in paths
    assert "etc/modprobe.d/tensorflow-gpu-stack-nvidia.conf" in paths
    assert nouveau_files(paths) == ["usr/lib/modules/5.14.0/kernel/drivers/gpu/drm/nouveau/nouveau.ko.xz"]


@pytest.mark.parametrize(
    ("path", "is_nouveau"),
    [
        ("usr/lib/modules/6.1.0/kernel/drivers/gpu/drm/nouveau/nouveau.ko", True),
        ("usr/lib/modules/6.17.0/kernel/drivers/gpu/nova-core/nova_core.ko.zst", True),
        ("usr/lib/modules/6.17.0/kernel/drivers/gpu/nova-core/nova-core.ko", True),
        ("usr/lib/modules/6.1.0/kernel/drivers/gpu/drm/nouveau", False),
        ("usr/lib/firmware/nouveau/nv84_bsp", False),
        ("etc/modprobe.d/nvidia-blacklists-nouveau.conf", False),
    ],
)
def test_files_of_nouveau(path: str, is_nouveau: bool) -> None:
    assert nouveau_files([path]) == ([path] if is_nouveau else [])


def test_first_error_of_a_log() -> None:
    assert first_error((CAPTURES / "dkms2.8.make.log").read_text()) == "this kernel is not for this driver"
    gcc = (
        "  CC [M] nv.o\n/x/nv.c:12:5: error: implicit declaration of function 'vm_flags'\nmake[2]: *** [nv.o] Error 1\n"
    )
    assert first_error(gcc) == "/x/nv.c:12:5: error: implicit declaration of function 'vm_flags'"
    assert first_error("  CC [M] nv.o\n") is None


def test_last_lines_are_short() -> None:
    assert last_lines("a\n\nb  \n" + "c" * 400 + "\n", 2) == "b\n" + "c" * 300
