"""The node record: what is on a node, found by reading files only."""

from __future__ import annotations

import os
import re
from typing import Any, Mapping

from ..io.reading import parse_object
from ..records.additions import find_additions
from ..records.build import find_misfits
from ..records.manifest import find_misfit
from .files import NodeFiles
from .libraries import WSL_DIRECTORY, find_cuda, find_cudnn, find_libcuda
from .loader import Loader, read_glibc, read_loader
from .pythons import read_pythons
from .texts import os_family, parse_driver_version, parse_libcuda_name, parse_os_release, parse_secure_boot
from .user import User, current_user, default_environments_root

NVIDIA_VENDOR = "10de"
DISPLAY_CLASSES = ("0300", "0302")
BRIDGE_CLASS = "0680"

KERNEL_MODULES = ("nouveau", "nova_core", "nvidia", "nvidia_uvm")

SECURE_BOOT_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

# Where this toolkit writes down what it installed of a component.
MANAGED_DIRECTORY = "/etc/tensorflow-gpu-stack"
MANAGED_COMPONENTS = ("driver", "cuda", "cudnn")

# Files by which a container can be told from a machine, where the first one does not name it.
CONTAINER_FILES = {"/run/.containerenv": "podman", "/.dockerenv": "docker"}

# What a kernel says of itself that Microsoft builds for the Windows Subsystem for Linux, where other kernels can be run
# as well; and what a Linux there reaches a GPU by.
WSL_KERNEL = "microsoft"
WSL_FILES = ("/dev/dxg", f"{WSL_DIRECTORY}/libcuda.so.1")
TEGRA_RELEASE = "/etc/nv_tegra_release"
DEVICE_TREE = "/proc/device-tree/compatible"

PACKAGE_MANAGERS = {"apt": "/usr/bin/apt-get", "dnf": "/usr/bin/dnf", "zypper": "/usr/bin/zypper"}

# Of a lock only the header is read.
_LOCK_HEAD_BYTES = 1 << 16
_JSON_BYTES = 4 << 20

BUILD_KEYS = (
    "name",
    "release",
    "flavour",
    "digest",
    "build",
    "python",
    "cuda",
    "cudnn",
    "lock_sha256",
    "packages",
)


def read_node(
    *,
    filesystem_root: str = "/",
    environments_root: str | None = None,
    user: User | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The node record of docs/architecture.md.

    `user` and `environ` are those of this process unless given.
    """
    files = NodeFiles(filesystem_root)
    user = user or current_user()
    environ = os.environ if environ is None else environ
    root = os.path.normpath(environments_root or default_environments_root(user, environ))
    loader = read_loader(files)
    release = _read_line(files, "/proc/sys/kernel/osrelease", "kernel")
    gpus, nvswitches = _read_pci(files)
    manifest = _read_manifest(files, root)
    cuda = find_cuda(loader)
    record = {
        "architecture": loader.architecture,
        "os": _read_os(files),
        "glibc": read_glibc(loader),
        "kernel": {"release": release, "headers": read_headers(files, release) if release else None},
        "kernels": [
            _read_kernel(files, os.path.basename(path))
            for path in files.glob("/lib/modules/*", "kernels")
            if files.is_dir(path, "kernels")
        ],
        "container": _read_container(files),
        "platform": _read_platform(files, release),
        "boot_id": _read_line(files, "/proc/sys/kernel/random/boot_id", "boot_id"),
        "user": {"name": user.name, "uid": user.uid, "home": user.home},
        "secure_boot": read_secure_boot(files),
        "gpus": gpus,
        "nvswitches": nvswitches,
        "driver": read_driver(loader),
        "modules": read_modules(files),
        "pythons": read_pythons(files, loader.architecture, user, environ, root),
        "cuda": cuda,
        "cudnn": find_cudnn(loader, cuda),
        "package_managers": [
            name for name, program in PACKAGE_MANAGERS.items() if files.exists(program, "package_managers")
        ],
        "managed": _read_managed(files),
        "environments_root": _read_environments_root(files, root),
        "environments": _read_environments(files, root, manifest),
        "manifest": manifest,
        "unread": files.unread,
    }
    sayable: dict[str, Any] = _sayable(record)
    return sayable


# --- System ----------------------------------------------------------------------------------------


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
    }


def _read_kernel(files: NodeFiles, release: str) -> dict[str, Any]:
    """Modules and headers of a kernel can be there without the kernel: what DKMS left, or headers alone."""
    images = (f"/boot/vmlinuz-{release}", f"/lib/modules/{release}/vmlinuz")
    return {
        "release": release,
        "headers": read_headers(files, release),
        "image": any(files.exists(path, "kernels") for path in images),
    }


def _read_container(files: NodeFiles) -> str | None:
    """What runs this container; None on a machine of its own."""
    named = (files.text("/run/systemd/container", "container") or "").strip()
    if named and named.isprintable():
        return named
    return next((name for path, name in CONTAINER_FILES.items() if files.exists(path, "container")), None)


def _read_platform(files: NodeFiles, kernel: str | None) -> str | None:
    """wsl or tegra, where a GPU is on no PCI bus; None elsewhere."""
    if WSL_KERNEL in (kernel or "").lower() or any(files.exists(path, "platform") for path in WSL_FILES):
        return "wsl"
    # One text for each name of the board, from the special to the general, each ended by a NUL.
    boards = (files.text(DEVICE_TREE, "platform") or "").split("\0")
    if files.exists(TEGRA_RELEASE, "platform") or any(re.match(r"nvidia,tegra", board) for board in boards):
        return "tegra"
    return None


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


def _read_line(files: NodeFiles, path: str, fact: str) -> str | None:
    """One line that every Linux has."""
    line = (files.text(path, fact) or "").strip()
    if line and line.isprintable():
        return line
    if not any(row["fact"] == fact for row in files.unread):
        files.add_unread(fact, f"{path}: absent, empty or not one line of text")
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


# --- NVIDIA devices and driver ---------------------------------------------------------------------


def _read_pci(files: NodeFiles) -> tuple[list[dict[str, Any]], int]:
    """NVIDIA's GPUs in order of address, and how many NVSwitches there are."""
    devices = "/sys/bus/pci/devices"
    if not files.is_dir(devices, "gpus"):
        files.add_unread("gpus", f"{devices}: absent")
    gpus: list[dict[str, Any]] = []
    nvswitches = 0
    for address in sorted(files.names(devices, "gpus"), key=_pci_order):
        try:
            device = _read_pci_device(files, f"{devices}/{address}")
        except OSError as error:
            files.add_unread("gpus", f"{devices}/{address}: {error.strerror}")
            continue
        if device is None:
            continue
        if device["pci_class"] == BRIDGE_CLASS:
            nvswitches += 1
        elif device["pci_class"] in DISPLAY_CLASSES:
            gpus.append({"index": len(gpus), "pci_address": address, **device})
    return gpus, nvswitches


def _pci_order(address: str) -> list[int]:
    return [int(number, 16) for number in re.findall(r"[0-9a-fA-F]+", address)]


def _read_pci_device(files: NodeFiles, directory: str) -> dict[str, str | None] | None:
    """A device of NVIDIA's, None for any other and for a part of one."""
    numbers = {}
    for name in ("vendor", "class", "device"):
        path = f"{directory}/{name}"
        text = files.text(path, "gpus") or ""
        if re.fullmatch(r"0x[0-9a-f]{4,6}", text) is None:
            files.add_unread("gpus", f"{path}: absent or not a PCI number")
            return None
        numbers[name] = text[2:6]
        if numbers["vendor"] != NVIDIA_VENDOR:
            return None
    place = files.resolve(directory)
    if files.link_target(f"{place}/physfn"):  # a virtual function of a GPU that this host shares out
        return None
    driver = files.link_target(f"{place}/driver")
    return {
        "device_id": numbers["device"],
        "pci_class": numbers["class"],
        "bound_to": os.path.basename(driver) if driver else None,
    }


def read_driver(loader: Loader) -> dict[str, Any]:
    files = loader.files
    module_version = (files.text("/sys/module/nvidia/version", "driver.loaded") or "").strip()
    if module_version and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", module_version):
        files.add_unread("driver.loaded", "/sys/module/nvidia/version: not a version")
        module_version = ""
    text = files.text("/proc/driver/nvidia/version", "driver.kind")
    module = None if text is None else parse_driver_version(text)
    if text is not None and module is None:
        files.add_unread("driver.kind", "/proc/driver/nvidia/version: of neither known shape")

    libraries = find_libcuda(loader)
    installed = parse_libcuda_name(os.path.basename(libraries[0])) if libraries else None
    if libraries and installed is None:
        files.add_unread("driver.installed", f"{libraries[0]}: no version in its name")
    return {
        "loaded": module_version or (module.version if module else None),
        "kind": module.kind if module else None,
        "installed": installed,
        "libcuda": libraries[0] if libraries else None,
        "other_libcuda": libraries[1:],
    }


# --- Environments ----------------------------------------------------------------------------------


def _read_environments_root(files: NodeFiles, root: str) -> dict[str, Any]:
    nearest = root
    while nearest != "/" and not files.exists(nearest, "environments_root"):
        nearest = os.path.dirname(nearest)
    writable, free_bytes = False, None
    try:
        host = files.host_path(nearest)
        writable = os.path.isdir(host) and os.access(host, os.W_OK | os.X_OK)
        usage = os.statvfs(host)
        free_bytes = usage.f_bavail * usage.f_frsize
    except OSError as error:
        files.add_unread("environments_root", f"{nearest}: {error.strerror}")
    exists = files.is_dir(root, "environments_root")
    return {"path": root, "exists": exists, "writable": writable, "free_bytes": free_bytes}


def _read_environments(files: NodeFiles, root: str, manifest: dict[str, Any] | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if not files.is_dir(root, "environments"):
        return rows
    for name in files.names(root, "environments"):
        link = root + "/" + name
        try:
            build = files.resolve(link)
            if os.path.dirname(build) != files.resolve(root) + "/.builds":
                continue
        except OSError as error:
            files.add_unread("environments", f"{link}: {error.strerror}")
            continue
        record = _read_json(files, build + "/build.json", "environments")
        if record is None:
            files.add_unread("environments", f"{link}: no build record in {build}")
            continue
        misfits = find_misfits(record, BUILD_KEYS)
        if misfits:
            files.add_unread("environments", "{}/build.json: {}".format(build, ", ".join(misfits)))
        elif record["name"] != name:
            files.add_unread("environments", "{}: its build was made for {}".format(link, record["name"]))
        else:
            row = {key: record[key] for key in BUILD_KEYS}
            row["python"] = {**record["python"], "real_path": _real_path(files, record["python"]["path"])}
            row["requirements"] = _read_requirements(files, build, manifest, name)
            rows.append({**row, **_read_additions(files, build, record)})
    return rows


def _read_requirements(files: NodeFiles, build: str, manifest: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """What the lock of a build was made for: its lines, and the file that they were in.

    An earlier version of this toolkit did not record the file. Recorded as null it is a lock of the release alone.
    """
    head = files.data(build + "/lock.txt", "environments", _LOCK_HEAD_BYTES) or b""
    matched = re.search(r"^# requirements: (.+)$", head.decode("utf-8", "replace"), re.MULTILINE)
    recorded: Any = manifest
    for key in ("environments", name, "requirements"):
        recorded = recorded.get(key) if isinstance(recorded, dict) else None
    recorded = recorded if isinstance(recorded, dict) else {}
    return {
        "lines": matched.group(1).split(", ") if matched else [],
        "is_recorded": os.path.basename(build) in recorded,
        "path": recorded.get(os.path.basename(build)),
    }


def _read_additions(files: NodeFiles, path: str, record: dict[str, Any]) -> dict[str, Any]:
    """What somebody added to a build, which a new one would lose; only with any is the build compared file by file."""
    nothing: dict[str, Any] = {"additions": [], "damaged": False, "also_in": []}
    try:
        host = files.host_path(path)
        if not find_additions(host, record):
            return nothing
        # Not loaded where it is not needed: it would cost every run some milliseconds.
        from ..environment.builds import Build, find_added, find_damage, other_builds_with

        build = Build(host, record)
        damage = find_damage(build)
        additions = find_added(build, damage)
        also_in = other_builds_with(build, additions)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        files.add_unread("environments", f"{path}: what was added to it cannot be read: {error}")
        return nothing
    return {
        "additions": [dict(addition._asdict()) for addition in additions],
        "damaged": bool(damage),
        "also_in": also_in,
    }


def _read_manifest(files: NodeFiles, root: str) -> dict[str, Any] | None:
    path = root + "/manifest.json"
    content = _read_json(files, path, "manifest")
    misfit = find_misfit(content) if content is not None else None
    if misfit:
        files.add_unread("manifest", f"{path} {misfit}")
    return None if misfit else content


def _read_managed(files: NodeFiles) -> dict[str, dict[str, Any]]:
    """What this toolkit wrote down of each component; what it cannot have written is left out."""
    managed = {}
    for component in MANAGED_COMPONENTS:
        path = f"{MANAGED_DIRECTORY}/{component}.json"
        record = _read_json(files, path, "managed")
        if record is None:
            continue
        if _is_record_of(component, record):
            managed[component] = record
        else:
            files.add_unread("managed", f"{path}: not a record that this toolkit wrote")
    return managed


def _is_record_of(component: str, record: dict[str, Any]) -> bool:
    asked = record.get("asked", {})
    wishes: dict[str, Any] = asked if isinstance(asked, dict) else {"packages": None}
    lists = [record.get("packages", []), wishes.get("packages", [])]
    rows: list[Any] = [row for found in lists for row in (found if isinstance(found, list) else [None])]
    version = record.get("version")
    # Of CUDA and cuDNN it is what their packages say: 11.8.89~11.8.0.
    shape = r"[0-9]+(\.[0-9]+)*" if component == "driver" else r"[0-9][0-9A-Za-z.+~-]*"
    return (
        isinstance(record.get("source"), str)
        and isinstance(version, str)
        and re.fullmatch(shape, version) is not None
        and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows)
        and all(row.get("version") is None or isinstance(row["version"], str) for row in rows)
    )


def _real_path(files: NodeFiles, path: str) -> str | None:
    """Where an interpreter really is, there or gone: an environment may name one by a link, as uv makes them."""
    try:
        return files.resolve(path)
    except OSError:
        return None


def _read_json(files: NodeFiles, path: str, fact: str) -> dict[str, Any] | None:
    data = files.data(path, fact, _JSON_BYTES)
    if data is None:
        return None
    try:
        return parse_object(data)
    except ValueError as error:
        files.add_unread(fact, f"{path}: {error}")
        return None


def _sayable(value: Any) -> Any:
    """The same without halves of surrogate pairs, as a variable, an account or a home may hold: no UTF-8 has these."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_sayable(key): _sayable(item) for key, item in value.items()}
    return [_sayable(item) for item in value] if isinstance(value, list) else value
