"""What the kernel side of the NVIDIA driver is like on a node: kernels, their modules and initramfs, what is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from ..io.commands import run
from ..io.files import FileChanges
from ..node.driver import read_driver
from ..node.files import NodeFiles
from ..node.kernels import kernels_that_need_the_driver, read_headers, read_modules, read_secure_boot
from ..node.loader import read_loader
from .texts import (
    NOUVEAU_DRIVERS,
    DkmsBuild,
    DkmsSource,
    ModuleFile,
    nouveau_files,
    parse_dkms_conf,
    parse_dkms_status,
    parse_listing,
    parse_modinfo,
)

BLACKLIST = "/etc/modprobe.d/tensorflow-gpu-stack-nvidia.conf"
BLACKLIST_TEXT = """\
# Written by tensorflow-gpu-stack. These drivers take the GPU at boot, before NVIDIA's can have it.
blacklist nouveau
blacklist nova_core
options nouveau modeset=0
"""

# Package of a kernel's headers, by the node's package manager.
_HEADER_PACKAGES = {"/usr/bin/apt-get": "linux-headers-{}", "/usr/bin/dnf": "kernel-devel-{}"}
_INITRAMFS = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img", "/boot/initrd-{}")
_UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")

RunText = Callable[[Sequence[str]], str]


def run_command(command: Sequence[str]) -> str:
    """What it prints, both channels; whether it did its work is seen from the files afterwards."""
    return run(command).output


@dataclass(frozen=True)
class InitramfsTool:
    """How an initramfs is looked into and made again."""

    lister: str
    maker: Sequence[str]

    def rebuild(self, kernel: Kernel) -> list[str]:
        return [part.format(release=kernel.release, path=kernel.initramfs) for part in self.maker]


_INITRAMFS_TOOLS = (
    InitramfsTool("/usr/bin/lsinitramfs", ("/usr/sbin/update-initramfs", "-u", "-k", "{release}")),
    InitramfsTool("/usr/bin/lsinitrd", ("/usr/bin/dracut", "--force", "{path}", "{release}")),
)


@dataclass(frozen=True)
class ModuleRequest:
    """`kernels` are those of the plan; kernels that were installed since need the module, too.

    `pending`: the packages are about to be installed (check mode), so nothing is judged that they contain.
    """

    version: str
    kind: str
    kernels: Sequence[str] | None = None
    services: Sequence[str] = ()
    pending: bool = False


@dataclass(frozen=True)
class Kernel:
    release: str
    headers: str | None
    dkms: str | None  # state at the wanted version, as DKMS says it
    module: ModuleFile | None
    initramfs: str | None
    listed: bool  # the initramfs has a blacklist, perhaps as it was before
    blacklisted: bool | None  # in the initramfs, as it is on disk now; None if there is no initramfs to look into
    nouveau: Sequence[str]  # in the initramfs

    def row(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "dkms": self.dkms,
            "module_version": self.module.version if self.module else None,
            "in_initramfs": self.blacklisted,
        }


@dataclass(frozen=True)
class KernelSide:
    running: str
    kernels: list[Kernel]
    sources: list[DkmsSource]
    tool: InitramfsTool | None
    is_blacklisted: bool  # on disk
    loaded: str | None
    loaded_kind: str | None
    in_the_way: list[str]
    secure_boot: bool | None
    header_package: str


def read_state(request: ModuleRequest, root: str, run: RunText) -> KernelSide:
    files = NodeFiles(root)
    driver = read_driver(read_loader(files))
    sources = _read_sources(files, request)
    builds = parse_dkms_status(run(["/usr/sbin/dkms", "status"])) if sources else []
    tool = next((tool for tool in _INITRAMFS_TOOLS if files.exists(tool.lister, "initramfs")), None)
    headers = next((name for path, name in _HEADER_PACKAGES.items() if files.exists(path, "headers")), "headers of {}")
    return KernelSide(
        running=files.text("/proc/sys/kernel/osrelease", "kernel") or "",
        kernels=[
            _read_kernel(release, request, files, sources, builds, tool, run)
            for release in _releases(files, request.kernels)
        ],
        sources=sources,
        tool=tool,
        is_blacklisted=not blacklist_file(root),
        loaded=driver["loaded"],
        loaded_kind=driver["kind"],
        in_the_way=[name for name in NOUVEAU_DRIVERS if read_modules(files)[name]],
        secure_boot=read_secure_boot(files),
        header_package=headers,
    )


def _releases(files: NodeFiles, planned: Sequence[str] | None) -> list[str]:
    """The planned kernels that still exist, and those that the node can boot since the plan was made."""
    existing = [release for release in planned or () if files.is_dir(f"/lib/modules/{release}", "kernels")]
    return sorted({*existing, *kernels_that_need_the_driver(files)})


def _read_sources(files: NodeFiles, request: ModuleRequest) -> list[DkmsSource]:
    """Of the wanted version; what is likely of the wanted kind first, since a source does not say it before a build."""
    texts = [files.text(path, "dkms") or "" for path in files.glob("/usr/src/*/dkms.conf", "dkms")]
    sources = [source for source in map(parse_dkms_conf, texts) if source and source.version == request.version]
    return sorted(sources, key=lambda source: ("open" in source.name) != (request.kind == "open"))


def _read_kernel(
    release: str,
    request: ModuleRequest,
    files: NodeFiles,
    sources: Sequence[DkmsSource],
    builds: Sequence[DkmsBuild],
    tool: InitramfsTool | None,
    run: RunText,
) -> Kernel:
    initramfs = next((path.format(release) for path in _INITRAMFS if files.exists(path.format(release), "boot")), None)
    names = parse_listing(run([tool.lister, initramfs])) if tool and initramfs else []
    listed = BLACKLIST.lstrip("/") in names
    return Kernel(
        release=release,
        headers=read_headers(files, release),
        dkms=_dkms_state(release, sources, builds),
        module=_read_module(release, request, sources, run),
        initramfs=initramfs,
        listed=listed,
        blacklisted=listed and _is_newer(files, initramfs or "", BLACKLIST) if names else None,
        nouveau=nouveau_files(names),
    )


def _dkms_state(release: str, sources: Sequence[DkmsSource], builds: Sequence[DkmsBuild]) -> str | None:
    wanted = {(source.name, source.version) for source in sources}
    states = [build.state for build in builds if build.kernel == release and (build.name, build.version) in wanted]
    return next((state for state in states if state.startswith("installed")), states[0] if states else None)


def _read_module(
    release: str, request: ModuleRequest, sources: Sequence[DkmsSource], run: RunText
) -> ModuleFile | None:
    found = []
    # In packages without a source it has NVIDIA's own name.
    for name in dict.fromkeys([*(source.module for source in sources), "nvidia"]):
        module = parse_modinfo(run(["/sbin/modinfo", "-k", release, name]))
        if module:
            found.append(module)
    return next((module for module in found if is_wanted(module, request)), found[0] if found else None)


def is_wanted(module: ModuleFile, request: ModuleRequest) -> bool:
    return (module.version, module.kind) == (request.version, request.kind)


def _is_newer(files: NodeFiles, path: str, than: str) -> bool:
    """Was `path` written after `than`? Tells an initramfs that has the blacklist as it was before."""
    return (
        files.exists(than, "boot")
        and os.stat(files.host_path(path)).st_mtime >= os.stat(files.host_path(than)).st_mtime
    )


def read_services(files: NodeFiles, request: ModuleRequest) -> list[str]:
    """Those of the services that systemd runs here and has a unit of."""
    if not files.is_dir("/run/systemd/system", "services"):  # as sd_booted(3) tells
        return []
    return [
        service
        for service in request.services
        if request.pending or any(files.exists(f"{path}/{service}.service", "services") for path in _UNIT_DIRECTORIES)
    ]


def blacklist_file(root: str) -> FileChanges:
    changes = FileChanges(root)
    changes.write(BLACKLIST, BLACKLIST_TEXT.encode())
    return changes
