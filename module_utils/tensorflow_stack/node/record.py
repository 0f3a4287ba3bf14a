"""The node record: what is on a node, found by reading files only."""

from __future__ import annotations

import os
from typing import Any, Collection, Mapping

from ..records.component import COMPONENTS, is_record_of, kind_of, record_path
from ..records.evidence import deciding_variables
from .driver import read_driver
from .environments import read_environments, read_environments_root, read_manifest, shown_manifest
from .files import NodeFiles
from .gpus import read_gpus
from .kernels import read_headers, read_images, read_kernels, read_modules, read_secure_boot
from .kind import read_kinds
from .libraries import find_cuda, find_cudnn
from .loader import read_c_library, read_glibc, read_loader
from .pythons import read_pythons
from .texts import enabled_repositories, os_family, parse_os_release
from .user import User, current_user, default_environments_root

PACKAGE_MANAGERS = {"apt": "/usr/bin/apt-get", "dnf": "/usr/bin/dnf", "zypper": "/usr/bin/zypper"}


def read_node(
    *,
    filesystem_root: str = "/",
    environments_root: str | None = None,
    environment: str | None = None,
    environments: Collection[str] = (),
    images: bool = False,
    user: User | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The node record of docs/architecture.md.

    `environment`, or each of `environments`, is looked into, by default the one applied last. `images`: so is what
    mounts them. `user` and `environ` are those of this process unless given.
    """
    files = NodeFiles(filesystem_root)
    user = user or current_user()
    environ = os.environ if environ is None else environ
    root = os.path.normpath(environments_root or default_environments_root(user, environ))
    loader = read_loader(files)
    release = files.line("/proc/sys/kernel/osrelease", "kernel")
    driver = read_driver(loader)
    kinds = read_kinds(files, environ, driver["libcuda"])
    devices = read_gpus(files, kinds, driver["libcuda"])
    manifest = read_manifest(files, root)
    cuda = find_cuda(loader)
    record = {
        "architecture": loader.architecture,
        "os": _read_os(files),
        "c_library": read_c_library(loader),
        "glibc": read_glibc(loader),
        "kernel": {"release": release, "headers": read_headers(files, release) if release else None},
        "kernels": read_kernels(files),
        "kinds": kinds,
        "boot_id": files.line("/proc/sys/kernel/random/boot_id", "boot_id"),
        "user": {"name": user.name, "uid": user.uid, "home": user.home},
        "secure_boot": read_secure_boot(files),
        "gpus": devices.gpus,
        "nvswitches": devices.nvswitches,
        "other_gpus": devices.other_gpus,
        "driver": driver,
        "modules": read_modules(files),
        "pythons": read_pythons(files, loader.architecture, user, environ, root),
        "cuda": cuda,
        "cudnn": find_cudnn(loader, cuda),
        "package_managers": _read_package_managers(files),
        "dkms": files.exists("/usr/sbin/dkms", "dkms"),
        "yum_repositories": _read_yum_repositories(files),
        "managed": _read_managed(files),
        "images": read_images(files, release) if images else None,
        "variables": deciding_variables(environ),
        "environments_root": read_environments_root(files, root),
        "environments": read_environments(
            files, root, manifest, environments or ([environment] if environment else [])
        ),
        "manifest": shown_manifest(files, root, manifest),
        "unread": files.unread,
    }
    sayable: dict[str, Any] = _sayable(record)
    return sayable


def _read_os(files: NodeFiles) -> dict[str, str | None]:
    text = files.text("/etc/os-release", "os")
    if text is None:
        text = files.text("/usr/lib/os-release", "os")
    values = parse_os_release(text or "")
    if "ID" not in values:
        files.add_unread("os", "no ID in /etc/os-release or /usr/lib/os-release")
    return {
        "id": values.get("ID"),
        "version_id": values.get("VERSION_ID"),
        "codename": values.get("VERSION_CODENAME"),
        "name": values.get("PRETTY_NAME"),
        "family": os_family(values),
        "base_codename": values.get("UBUNTU_CODENAME") or values.get("DEBIAN_CODENAME"),
    }


def _read_package_managers(files: NodeFiles) -> list[str]:
    return [name for name, program in PACKAGE_MANAGERS.items() if files.exists(program, "package_managers")]


def _read_yum_repositories(files: NodeFiles) -> list[str]:
    """Names of the enabled repositories of dnf."""
    paths = files.glob("/etc/yum.repos.d/*.repo", "yum_repositories")
    texts = [files.text(path, "yum_repositories") or "" for path in paths]
    return sorted({name for text in texts for name in enabled_repositories(text)})


def _read_managed(files: NodeFiles) -> dict[str, dict[str, Any]]:
    """What this toolkit recorded of each component; what it cannot have written is left out."""
    managed = {}
    for component in COMPONENTS:
        path = record_path(component.name)
        record = files.json(path, "managed")
        if record is None:
            continue
        if is_record_of(component, record):
            managed[component.name] = {**record, "kind": kind_of(record)}
        else:
            files.add_unread("managed", f"{path}: not a record that this toolkit wrote")
    return managed


def _sayable(value: Any) -> Any:
    """The same without halves of surrogate pairs, as a variable, an account or a home may hold: no UTF-8 has these."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_sayable(key): _sayable(item) for key, item in value.items()}
    return [_sayable(item) for item in value] if isinstance(value, list) else value
