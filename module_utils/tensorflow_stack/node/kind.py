"""Which kind of node this is, told by files: what it runs in or on, and who installed its driver.

What each kind means for a plan is in the table node_kinds.yml.
"""

from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple

from .files import NodeFiles

# systemd writes here what started it in a container, and `wsl` on Windows.
SYSTEMD_CONTAINER = "/run/systemd/container"
_NO_CONTAINER = ("wsl", "vm-other")
# Namespaces of a process on a machine of its own have these numbers (include/linux/proc_ns.h).
_INITIAL_NAMESPACES = {"cgroup": 4026531835, "ipc": 4026531839, "pid": 4026531836, "uts": 4026531838}
_MOUNTS = "/proc/self/mountinfo"
_OS_RELEASES = ("/etc/os-release", "/usr/lib/os-release")


class Sign(NamedTuple):
    """What tells a kind: every path exists, or a text in the first of them."""

    aspect: str  # container, platform, system, driver
    kind: str
    paths: tuple[str, ...]
    text: str | None = None  # a regular expression
    is_on_machines: bool = False  # a virtual machine may have the file as well: of an image, or of its host


def _mounted(source: str) -> str:
    """A mount, other than the root, whose source has this in its name."""
    return rf"^\S+ \S+ \S+ \S*(?:{source})\S* /(?:etc/(?:hostname|hosts|resolv\.conf)|dev/termination-log|dev/shm) "


def _os(*ids: str) -> str:
    return rf"^ID=[\"']?(?:{'|'.join(ids)})[\"']?\s*$"


# The first sign of each aspect counts.
SIGNS = (
    Sign("container", "kubernetes", ("/run/secrets/kubernetes.io",)),
    Sign("container", "kubernetes", ("/var/run/secrets/kubernetes.io",)),
    Sign("container", "kubernetes", ("/proc/1/environ",), r"^KUBERNETES_SERVICE_HOST="),
    Sign("container", "kubernetes", ("/proc/1/cgroup",), r"kubepods"),
    Sign("container", "kubernetes", (_MOUNTS,), _mounted("/kubelet/")),
    Sign("container", "gvisor", ("/proc/version",), r"^Linux version \S+ #1 SMP Sun Jan 10 15:06:54 PST 2016"),
    Sign("container", "apptainer", ("/.singularity.d",)),
    Sign("container", "podman", ("/run/.containerenv",), is_on_machines=True),
    Sign("container", "docker", ("/.dockerenv",), is_on_machines=True),
    Sign("container", "docker", (_MOUNTS,), _mounted("/docker/containers/")),
    Sign("container", "docker", ("/proc/1/cgroup",), r"[:/]docker[/-]"),
    Sign("container", "containerd", (_MOUNTS,), _mounted("containerd|nerdctl")),
    Sign("container", "containerd", ("/proc/1/cgroup",), r"containerd"),
    Sign("container", "cri-o", ("/proc/1/cgroup",), r"crio-"),
    Sign("container", "lxc", ("/dev/lxd/sock",), is_on_machines=True),
    Sign("container", "lxc", ("/dev/incus/sock",), is_on_machines=True),
    Sign("container", "lxc", ("/proc/1/environ",), r"^container=lxc"),
    Sign("container", "lxc", ("/proc/1/cgroup",), r"[:/]lxc[./]"),
    Sign("platform", "wsl1", ("/proc/sys/kernel/osrelease",), r"^4\.4\..*-Microsoft$"),  # fact: WSL 1, 2026-11-26
    Sign("platform", "wsl", ("/proc/sys/kernel/osrelease",), r"(?i)microsoft|wsl2"),
    # Kernels of one's own can be run there as well; on Hyper-V the same device is given to other guests.
    Sign("platform", "wsl", ("/dev/dxg",)),
    Sign("platform", "wsl", ("/usr/lib/wsl/lib/libcuda.so.1",)),
    Sign("platform", "tegra", ("/etc/nv_tegra_release",)),
    Sign("platform", "tegra", ("/proc/device-tree/compatible",), r"^nvidia,tegra"),
    Sign("system", "bootc", ("/run/ostree-booted", "/usr/bin/bootc")),
    Sign("system", "ostree", ("/run/ostree-booted",)),
    *(
        Sign("system", kind, (path,), _os(*ids))
        for kind, ids in (
            ("nixos", ("nixos",)),
            ("guix", ("guix",)),
            ("talos", ("talos",)),
            ("flatcar", ("flatcar", "coreos")),
            ("bottlerocket", ("bottlerocket",)),
            ("container_optimized", ("cos",)),
            ("ubuntu_core", ("ubuntu-core",)),
            ("transactional", ("opensuse-microos", "opensuse-aeon", "opensuse-kalpa", "sle-micro", "sl-micro")),
            ("steamos", ("steamos",)),
        )
        for path in _OS_RELEASES
    ),
    Sign("system", "read_only", (_MOUNTS,), r"^\S+ \S+ \S+ \S+ /usr ro[, ]"),
    Sign("system", "read_only", (_MOUNTS,), r"^\S+ \S+ \S+ \S+ / ro[, ]"),
    Sign("driver", "vgpu_host", ("/usr/bin/nvidia-vgpud",)),
    Sign("driver", "vgpu_guest", ("/usr/bin/nvidia-gridd",)),
    Sign("driver", "vgpu_guest", ("/etc/nvidia/gridd.conf",)),
    Sign("driver", "driver_container", ("/run/nvidia/driver/usr",)),
    Sign("driver", "runfile", ("/usr/bin/nvidia-uninstall",)),
    Sign("driver", "runfile", ("/usr/bin/nvidia-installer",)),
    Sign("driver", "dgx_os", ("/etc/dgx-release",)),
    Sign("driver", "proxmox", ("/etc/pve",)),
)


def read_kinds(files: NodeFiles, environ: Mapping[str, str], libcuda: str | None) -> list[dict[str, str]]:
    """At most one row for each aspect; `by` is the file that tells it."""
    found: dict[str, dict[str, str]] = {}

    def add(aspect: str, kind: str, by: str) -> None:
        found.setdefault(aspect, {"aspect": aspect, "kind": kind, "by": by})

    if "KUBERNETES_SERVICE_HOST" in environ:
        add("container", "kubernetes", "KUBERNETES_SERVICE_HOST")
    is_own_machine = _has_initial_namespaces(files)
    texts: dict[str, str] = {}
    for sign in SIGNS:
        is_told = not (sign.is_on_machines and is_own_machine)
        if is_told and sign.aspect not in found and _holds(files, texts, sign):
            add(sign.aspect, sign.kind, sign.paths[0])
    named = (files.text(SYSTEMD_CONTAINER, "kinds") or "").strip()
    if named and named.isprintable() and named not in _NO_CONTAINER:
        add("container", named, SYSTEMD_CONTAINER)
    if files.exists("/proc/vz", "kinds") and not files.exists("/proc/bc", "kinds"):  # a host has both
        add("container", "openvz", "/proc/vz")
    mount = _read_only_mount(_text(files, texts, _MOUNTS), libcuda) if libcuda else None
    if mount:
        add("driver", "mounted", mount)
    return [found[aspect] for aspect in ("container", "platform", "system", "driver") if aspect in found]


def kind_of(kinds: list[dict[str, str]], aspect: str) -> str | None:
    return next((row["kind"] for row in kinds if row["aspect"] == aspect), None)


def _holds(files: NodeFiles, texts: dict[str, str], sign: Sign) -> bool:
    if sign.text is None:
        return all(files.exists(path, "kinds") for path in sign.paths)
    return re.search(sign.text, _text(files, texts, sign.paths[0]), re.MULTILINE) is not None


def _text(files: NodeFiles, texts: dict[str, str], path: str) -> str:
    """Lists whose items end with a NUL have a line for each."""
    if path not in texts:
        # Only root may read the environment of the first process: no fact is missing for another user.
        is_private = path == "/proc/1/environ" and os.geteuid() != 0
        texts[path] = "" if is_private else (files.text(path, "kinds") or "").replace("\0", "\n")
    return texts[path]


def _has_initial_namespaces(files: NodeFiles) -> bool:
    """Whether this is the kernel's first system, and no container: files of an image prove nothing then."""
    try:
        links = {name: files.link_target(f"/proc/self/ns/{name}") for name in _INITIAL_NAMESPACES}
    except OSError:
        return False
    return all(links[name] == f"{name}:[{number}]" for name, number in _INITIAL_NAMESPACES.items())


def _read_only_mount(mounts: str, libcuda: str) -> str | None:
    """The mount that has the driver's library, if nothing can be written there and it is not all of the system."""
    rows = re.findall(r"^\S+ \S+ \S+ \S+ (\S+) (\S+)", mounts, re.MULTILINE)
    over = [(place, options) for place, options in rows if (libcuda + "/").startswith(place.rstrip("/") + "/")]
    place, options = max(over, key=lambda row: len(row[0]), default=("/", "rw"))
    return place if place not in ("/", "/usr") and "ro" in options.split(",") else None
