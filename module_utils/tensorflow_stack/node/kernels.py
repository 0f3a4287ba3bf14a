"""Kernels of a node, their headers, and which modules of interest are loaded."""

from __future__ import annotations

import os
from typing import Any

from .files import NodeFiles
from .texts import parse_secure_boot

KERNEL_MODULES = ("nouveau", "nova_core", "nvidia", "nvidia_uvm")

SECURE_BOOT_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def read_kernels(files: NodeFiles) -> list[dict[str, Any]]:
    """Every one under /lib/modules."""
    running = files.text("/proc/sys/kernel/osrelease", "kernel")
    return [
        _read_kernel(files, os.path.basename(path), running)
        for path in files.glob("/lib/modules/*", "kernels")
        if files.is_dir(path, "kernels")
    ]


def kernels_that_need_the_driver(files: NodeFiles) -> list[str]:
    """Releases of the kernels for which the driver needs modules."""
    return [row["release"] for row in read_kernels(files) if row["needs_driver"]]


def _read_kernel(files: NodeFiles, release: str, running: str | None) -> dict[str, Any]:
    """A kernel needs the driver if the node runs it or can boot it.

    A directory of modules can be what DKMS left, and headers can be of a kernel that was never installed.
    """
    images = (f"/boot/vmlinuz-{release}", f"/lib/modules/{release}/vmlinuz")
    return {
        "release": release,
        "headers": read_headers(files, release),
        "needs_driver": release == running or any(files.exists(path, "kernels") for path in images),
    }


def read_headers(files: NodeFiles, release: str) -> str | None:
    candidates = (
        f"/lib/modules/{release}/build",
        f"/usr/src/linux-headers-{release}",
        f"/usr/src/kernels/{release}",
    )
    for path in candidates:
        # A purge can leave the directory behind; without its Makefile no module can be built.
        if files.is_file(path + "/Makefile", "kernels"):
            return files.resolve(path)
    return None


def read_secure_boot(files: NodeFiles) -> bool | None:
    if not files.is_dir("/sys/firmware/efi", "secure_boot"):
        return None
    data = files.head(SECURE_BOOT_VARIABLE, "secure_boot", 16)
    state = None if data is None else parse_secure_boot(data)
    if state is None:
        what = "absent: is efivarfs mounted?" if data is None else f"{len(data)} bytes, not 4 and a 0 or 1"
        files.add_unread("secure_boot", f"{SECURE_BOOT_VARIABLE}: {what}")
    return state


def read_modules(files: NodeFiles) -> dict[str, bool]:
    if not files.is_dir("/sys/module", "modules"):
        files.add_unread("modules", "/sys/module: absent, so which modules are loaded is not known")
    return {name: files.is_dir("/sys/module/" + name, "modules") for name in KERNEL_MODULES}


def read_images(files: NodeFiles, release: str | None) -> dict[str, bool]:
    """What mounts an image of an environment: systemd, and the kernel's squashfs and dm-verity, loaded or not."""
    modules = f"/lib/modules/{release}/kernel"
    filesystems = (files.text("/proc/filesystems", "images") or "").split()
    has_mapper = files.is_dir("/sys/module/dm_verity", "images") or bool(
        files.glob(f"{modules}/drivers/md/dm-verity.ko*", "images")
    )
    programs = ("/usr/sbin/veritysetup", "/sbin/veritysetup")
    return {
        "systemd": files.is_dir("/run/systemd/system", "images"),
        "squashfs": "squashfs" in filesystems or bool(files.glob(f"{modules}/fs/squashfs/squashfs.ko*", "images")),
        "verity": has_mapper
        and files.exists("/dev/mapper/control", "images")
        and any(files.exists(program, "images") for program in programs),
    }
