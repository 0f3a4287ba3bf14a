"""What is on a node, found by reading files only: no command is run and nothing is written.

Paths in and out are the node's own; `filesystem_root` says where that node's file system is mounted.
This file imports the standard library only and nothing beside it, so that it can be used by itself.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import pwd
import re
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NVIDIA_VENDOR = "10de"
DISPLAY_CLASSES = ("0300", "0302")
BRIDGE_CLASS = "0680"

KERNEL_MODULES = ("nouveau", "nova_core", "nvidia", "nvidia_uvm")

ELF_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}
# The shell comes first: a loader of a second architecture may be there for cross building.
ELF_WITNESSES = ("/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")

# Where the loader looks by default, after what ld.so.conf names (ld.so(8); Debian has the multiarch ones).
LOADER_DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
# Debian keeps the driver's libraries here and links the chosen ones into a loader directory.
UNLINKED_DIRECTORIES = ("/usr/lib/*/nvidia/current", "/usr/lib/nvidia/current")

CUDA_PREFIXES = ("/usr/local/cuda-*", "/usr/local/cuda", "/opt/nvidia/cuda-*", "/opt/cuda*")
CUDNN_PREFIXES = ("/usr/local/cudnn*", "/opt/nvidia/cudnn*", "/opt/cudnn*")
LIBRARY_SUBDIRECTORIES = ("lib64", "lib", "targets/*/lib")

SECURE_BOOT_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

OS_FAMILIES = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "rhel",
    "centos": "rhel",
    "fedora": "rhel",
    "suse": "suse",
    "opensuse": "suse",
}

PACKAGE_MANAGERS = {"apt": "/usr/bin/apt-get", "dnf": "/usr/bin/dnf", "zypper": "/usr/bin/zypper"}

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


class User(NamedTuple):
    name: str
    uid: int
    home: str


class DriverModule(NamedTuple):
    version: str
    kind: str


# --- Pure parsers -----------------------------------------------------------------------------------


def parse_driver_version(text: str) -> DriverModule | None:
    """The loaded module by /proc/driver/nvidia/version, in the proprietary and in the open shape."""
    shape = r"^NVRM version:\s+(.*\bKernel Module\b.*?)\s+(\d+(?:\.\d+)+)(?:\s|$)"
    match = re.search(shape, text, re.MULTILINE)
    if match is None:
        return None
    return DriverModule(version=match.group(2), kind="open" if " Open " in match.group(1) else "proprietary")


def parse_os_release(text: str) -> dict[str, str]:
    """Variables of os-release(5), unquoted."""
    # As platform.freedesktop_os_release() does, which Python has since 3.10.
    lines = re.findall(r"^([A-Za-z0-9_]+)=([\"']?)(.*)\2[ \t]*$", text, re.MULTILINE)
    return {name: re.sub(r"\\([\\$\"'`])", r"\1", value) for name, _, value in lines}


def os_family(values: Mapping[str, str]) -> str | None:
    """debian, rhel or suse by ID, else by ID_LIKE; None for any other."""
    for name in [values.get("ID", ""), *values.get("ID_LIKE", "").split()]:
        for family in (name, name.partition("-")[0]):  # opensuse-leap
            if family in OS_FAMILIES:
                return OS_FAMILIES[family]
    return None


def parse_secure_boot(data: bytes) -> bool | None:
    """The SecureBoot variable as efivarfs shows it: four bytes of attributes, then 0 or 1."""
    if len(data) != 5 or data[4] not in (0, 1):
        return None
    return data[4] == 1


def parse_elf_machine(header: bytes) -> str | None:
    """Architecture by the first 20 bytes of an ELF file; "machine N" for one without a name here."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    machine = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    return ELF_MACHINES.get(machine, f"machine {machine}")


def parse_glibc(data: bytes) -> str | None:
    """The version that libc.so.6 says of itself."""
    match = re.search(rb"GNU C Library [^\n]*? version (\d+\.\d+)", data)
    return match.group(1).decode() if match else None


def parse_cuda_version_json(text: str) -> str | None:
    """Toolkit version (major.minor) by version.json, which CUDA 11.1 and newer have."""
    try:
        return _major_minor(json.loads(text)["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def parse_cuda_version_txt(text: str) -> str | None:
    """Toolkit version (major.minor) by version.txt, which CUDA 11.0 and older have."""
    match = re.search(r"^CUDA Version (\d+\.\d+)", text, re.MULTILINE)
    return match.group(1) if match else None


def parse_cudart_name(name: str) -> str | None:
    """Runtime version (major.minor) by a file name: libcudart.so.11.2.152 is 11.2.

    Two numbers only are the soname: libcudart.so.11.0 is what every CUDA 11 has.
    """
    match = re.match(r"libcudart\.so\.(\d+\.\d+)\.\d+(\.\d+)*$", name)
    return match.group(1) if match else None


def parse_cudart_header(text: str) -> str | None:
    """Runtime version (major.minor) by cuda_runtime_api.h: 11020 is 11.2."""
    match = re.search(r"^#define CUDART_VERSION\s+(\d+)", text, re.MULTILINE)
    return f"{int(match.group(1)) // 1000}.{int(match.group(1)) % 1000 // 10}" if match else None


def parse_cudnn_name(name: str) -> str | None:
    """Version by a file name: libcudnn.so.8.1.0 is 8.1.0; a name with the major only says nothing."""
    match = re.match(r"libcudnn\.so\.(\d+\.\d+\.\d+)$", name)
    return match.group(1) if match else None


def parse_cudnn_header(text: str) -> str | None:
    """Version by cudnn_version.h (cuDNN 8 and newer) or cudnn.h (7 and older)."""
    values = dict(re.findall(r"^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", text, re.MULTILINE))
    if len(values) != 3:
        return None
    return "{MAJOR}.{MINOR}.{PATCHLEVEL}".format(**values)


def parse_libcuda_name(name: str) -> str | None:
    """Driver version by a file name: libcuda.so.535.183.01."""
    match = re.match(r"libcuda\.so\.(\d+(?:\.\d+)+)$", name)
    return match.group(1) if match else None


def parse_patchlevel(text: str) -> str | None:
    """Python's version by its patchlevel.h."""
    match = re.search(r'^#define\s+PY_VERSION\s+"(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)\+?"', text, re.MULTILINE)
    return match.group(1) if match else None


def parse_python_directory(path: str, minor: str) -> str | None:
    """Python's version by the directory it was installed in, as pyenv and uv name them."""
    found = re.findall(rf"(?<![\d.]){re.escape(minor)}\.\d+(?:(?:a|b|rc)\d+)?(?![\d.])", path)
    return found[-1] if found else None


def parse_loader_conf(text: str) -> list[str]:
    """Lines of ld.so.conf that count: directories, and "include PATTERN"."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith(("/", "include "))]


def _major_minor(version: str) -> str | None:
    match = re.match(r"\d+\.\d+", version)
    return match.group(0) if match else None


def _natural(text: str) -> list[Any]:
    """Sort key that puts 3.9 before 3.10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


# --- Files of a node --------------------------------------------------------------------------------


class NodeFiles:
    """Reads under a root and follows links as the node itself would: an absolute target starts at the root.

    What is absent answers None, False or nothing. What is there and cannot be read does so too, and
    leaves a row in `unread`.
    """

    def __init__(self, root: str) -> None:
        self.unread: list[dict[str, str]] = []
        self._root = root.rstrip("/")
        self._links: dict[str, str | None] = {}
        self._names: dict[str, list[str]] = {}

    def add_unread(self, fact: str, reason: str) -> None:
        row = {"fact": fact, "reason": reason}
        if row not in self.unread:
            self.unread.append(row)

    def resolve(self, path: str) -> str:
        """The path with every link followed; its end need not exist. Raises OSError for a loop."""
        done = ""
        rest = path.split("/")[::-1]
        followed = 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            target = self.link_target(done + "/" + part)
            if target is None:
                done += "/" + part
                continue
            followed += 1
            if followed > 40:  # the kernel's own limit
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done = ""
            rest.extend(target.split("/")[::-1])
        return done or "/"

    def link_target(self, path: str) -> str | None:
        """What the link says, None where there is none; links in the directory part are not followed."""
        if path not in self._links:
            try:
                self._links[path] = os.readlink(self._root + path)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise
                self._links[path] = None
        return self._links[path]

    def host_path(self, path: str) -> str:
        """Where the path is for the process that reads. Raises OSError for a loop."""
        return self._root + self.resolve(path)

    def exists(self, path: str, fact: str) -> bool:
        return self._mode(path, fact) != 0

    def is_dir(self, path: str, fact: str) -> bool:
        return stat.S_ISDIR(self._mode(path, fact))

    def is_file(self, path: str, fact: str) -> bool:
        return stat.S_ISREG(self._mode(path, fact))

    def _mode(self, path: str, fact: str) -> int:
        try:
            return os.stat(self.host_path(path)).st_mode
        except OSError as error:
            self._unreadable(path, fact, error)
            return 0

    def data(self, path: str, fact: str, size: int = -1) -> bytes | None:
        try:
            with open(self.host_path(path), "rb") as file:
                return file.read(size)
        except OSError as error:
            self._unreadable(path, fact, error)
            return None

    def text(self, path: str, fact: str) -> str | None:
        data = self.data(path, fact, 1 << 20)
        return None if data is None else data.decode("utf-8", "replace").rstrip("\x00\n")

    def names(self, directory: str, fact: str) -> list[str]:
        """Names in a directory, sorted."""
        if directory not in self._names:
            try:
                self._names[directory] = sorted(os.listdir(self.host_path(directory)))
            except OSError as error:
                self._unreadable(directory, fact, error)
                self._names[directory] = []
        return self._names[directory]

    def glob(self, pattern: str, fact: str) -> list[str]:
        """Paths that fit the pattern, in natural order; `*` does not stand for a hidden name."""
        paths = [""]
        for part in pattern.strip("/").split("/"):
            if "*" in part:
                fits = re.compile(fnmatch.translate(part)).match
                paths = [
                    path + "/" + name
                    for path in paths
                    for name in sorted(self.names(path or "/", fact), key=_natural)
                    if fits(name) and not name.startswith(".")
                ]
            else:
                paths = [path + "/" + part for path in paths]
        return [path for path in paths if self.exists(path, fact)]

    def _unreadable(self, path: str, fact: str, error: OSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            self.add_unread(fact, f"{path}: {error.strerror or error}")


# --- System -----------------------------------------------------------------------------------------


def current_user() -> User:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container started with a bare user id
        name = str(uid)
    home = os.path.expanduser("~")
    return User(name=name, uid=uid, home=home if home.startswith("/") else "/")


def default_environments_root(user: User, environ: Mapping[str, str] | None = None) -> str:
    return "/opt/tensorflow" if user.uid == 0 else _data_home(user, environ) + "/tensorflow-gpu-stack"


def _data_home(user: User, environ: Mapping[str, str] | None) -> str:
    chosen = (os.environ if environ is None else environ).get("XDG_DATA_HOME", "")
    # The base directory specification says that a relative path is to be ignored.
    return chosen.rstrip("/") if chosen.startswith("/") else user.home.rstrip("/") + "/.local/share"


def _read_architecture(files: NodeFiles) -> str | None:
    for path in ELF_WITNESSES:
        machine = parse_elf_machine(files.data(path, "architecture", 20) or b"")
        if machine in ("x86_64", "aarch64"):
            return machine
        if machine is not None:
            files.add_unread("architecture", f"{path} is built for {machine}")
            return None
    files.add_unread("architecture", "no ELF file among {}".format(", ".join(ELF_WITNESSES)))
    return None


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


def _read_glibc(files: NodeFiles, directories: Iterable[str], architecture: str | None) -> str | None:
    for directory in directories:
        library = directory + "/libc.so.6"
        if not _is_library(files, library, architecture, "glibc"):
            continue
        named = re.match(r"libc-(\d+\.\d+)\.so$", os.path.basename(files.resolve(library)))
        version = named.group(1) if named else parse_glibc(files.data(library, "glibc") or b"")
        if version is None:
            files.add_unread("glibc", f"{library} does not say its version")
        return version
    files.add_unread("glibc", "no libc.so.6 for this architecture in a directory of the loader")
    return None


def _read_headers(files: NodeFiles, release: str) -> str | None:
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


def _read_secure_boot(files: NodeFiles) -> bool | None:
    if not files.is_dir("/sys/firmware/efi", "secure_boot"):
        return None
    data = files.data(SECURE_BOOT_VARIABLE, "secure_boot", 16)
    state = None if data is None else parse_secure_boot(data)
    if state is None:
        what = "absent: is efivarfs mounted?" if data is None else f"{len(data)} bytes, not 4 and a 0 or 1"
        files.add_unread("secure_boot", f"{SECURE_BOOT_VARIABLE}: {what}")
    return state


def _read_modules(files: NodeFiles) -> dict[str, bool]:
    if not files.is_dir("/sys/module", "modules"):
        files.add_unread("modules", "/sys/module: absent, so which modules are loaded is not known")
    return {name: files.is_dir("/sys/module/" + name, "modules") for name in KERNEL_MODULES}


# --- NVIDIA devices and driver ----------------------------------------------------------------------


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
    """A device of NVIDIA's, None for any other."""
    numbers = {}
    for name in ("vendor", "class", "device"):
        path = f"{directory}/{name}"
        text = files.text(path, "gpus") or ""
        if re.match(r"0x[0-9a-f]{4,6}$", text) is None:
            files.add_unread("gpus", f"{path}: absent or not a PCI number")
            return None
        numbers[name] = text[2:6]
        if numbers["vendor"] != NVIDIA_VENDOR:
            return None
    driver = files.link_target(files.resolve(directory) + "/driver")
    return {
        "device_id": numbers["device"],
        "pci_class": numbers["class"],
        "bound_to": os.path.basename(driver) if driver else None,
    }


def _read_driver(files: NodeFiles, directories: list[str], architecture: str | None) -> dict[str, Any]:
    module_version = (files.text("/sys/module/nvidia/version", "driver.loaded") or "").strip()
    if module_version and not re.match(r"\d+(\.\d+)+$", module_version):
        files.add_unread("driver.loaded", "/sys/module/nvidia/version: not a version")
        module_version = ""
    text = files.text("/proc/driver/nvidia/version", "driver.kind")
    module = None if text is None else parse_driver_version(text)
    if text is not None and module is None:
        files.add_unread("driver.kind", "/proc/driver/nvidia/version: of neither known shape")

    libraries = _find_libcuda(files, directories, architecture)
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


def _find_libcuda(files: NodeFiles, directories: list[str], architecture: str | None) -> list[str]:
    """Every libcuda of this architecture, the one that the loader takes first."""
    linked: list[str] = []
    unlinked: list[str] = []
    hidden = [path for pattern in UNLINKED_DIRECTORIES for path in files.glob(pattern, "driver.libcuda")]
    for directory in directories + hidden:
        for name in files.names(directory, "driver.libcuda"):
            if not re.match(r"libcuda\.so\.\d", name):
                continue
            path = directory + "/" + name
            if _is_library(files, path, architecture, "driver.libcuda"):
                # The loader asks for libcuda.so.1 and looks in its directories only.
                taken = name == "libcuda.so.1" and directory in directories
                (linked if taken else unlinked).append(files.resolve(path))
    if unlinked and not linked:
        files.add_unread("driver.libcuda", f"{unlinked[0]}: no libcuda.so.1 leads the loader to it")
    return list(dict.fromkeys(linked + unlinked))


# --- Libraries --------------------------------------------------------------------------------------


def _library_directories(files: NodeFiles) -> list[str]:
    """Where the loader looks, in its order, links resolved."""
    fact = "library directories"
    wanted = list(_loader_conf_directories(files, "/etc/ld.so.conf", fact)) + list(LOADER_DIRECTORIES)
    return list(dict.fromkeys(files.resolve(path) for path in wanted if files.is_dir(path, fact)))


def _loader_conf_directories(files: NodeFiles, path: str, fact: str) -> Iterator[str]:
    for line in parse_loader_conf(files.text(path, fact) or ""):
        if line.startswith("/"):
            yield line
            continue
        pattern = os.path.join("/etc", line.split(None, 1)[1])
        for included in files.glob(pattern, fact):
            if included != path:
                yield from _loader_conf_directories(files, included, fact)


def _is_library(files: NodeFiles, path: str, architecture: str | None, fact: str) -> bool:
    """There, and built for this architecture: a 32-bit copy may stand in front of the one that counts."""
    try:
        if files.link_target(path) and not files.exists(path, fact):
            files.add_unread(fact, f"{path}: link to {files.resolve(path)}, which is not there")
            return False
    except OSError as error:
        files.add_unread(fact, f"{path}: {error.strerror}")
        return False
    header = files.data(path, fact, 20)
    if header is None:
        return False
    machine = parse_elf_machine(header)
    if machine is None:
        files.add_unread(fact, f"{path}: not an ELF file")
    return machine is not None and architecture in (None, machine)


def _find_cuda(files: NodeFiles, directories: list[str], architecture: str | None) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    libraries = set()
    for prefix in _prefixes(files, CUDA_PREFIXES, "cuda"):
        directory, library = _find_cudart(files, _subdirectories(files, prefix, "cuda"), architecture)
        if library is None:
            files.add_unread("cuda", f"{prefix}: no libcudart for this architecture under it")
            continue
        version = _read_cuda_version(files, prefix, library)
        if version is None:
            files.add_unread("cuda", f"{prefix}: no version file, header or library name says the version")
            continue
        libraries.add(library)
        rows.append({"version": version, "prefix": prefix, "library_directory": directory})
    for directory in directories:
        for name in files.names(directory, "cuda"):
            version = parse_cudart_name(name)
            path = directory + "/" + name
            if version is None or not _is_library(files, path, architecture, "cuda"):
                continue
            if files.resolve(path) not in libraries:
                libraries.add(files.resolve(path))
                prefix = _prefix_of(directory)
                rows.append({"version": version, "prefix": prefix, "library_directory": directory})
    return sorted(rows, key=lambda row: (_natural(row["version"]), row["prefix"]))


def _find_cudart(files: NodeFiles, directories: list[str], architecture: str | None) -> tuple[str, str | None]:
    """The directory and the resolved file of the first CUDA runtime."""
    for directory in directories:
        for name in files.names(directory, "cuda"):
            path = directory + "/" + name
            if re.match(r"libcudart\.so\.\d", name) and _is_library(files, path, architecture, "cuda"):
                return directory, files.resolve(path)
    return "", None


def _read_cuda_version(files: NodeFiles, prefix: str, cudart: str) -> str | None:
    """By the toolkit's own file, else by the name of its runtime, else by its header."""
    for name, parse in (("version.json", parse_cuda_version_json), ("version.txt", parse_cuda_version_txt)):
        text = files.text(prefix + "/" + name, "cuda")
        if text is not None:
            version = parse(text)
            if version is not None:
                return version
            files.add_unread("cuda", f"{prefix}/{name}: names no version of CUDA")
    named = parse_cudart_name(os.path.basename(cudart))
    # Wheels and NVIDIA's component archives bring no version file, and wheels name the soname only.
    return named or parse_cudart_header(files.text(prefix + "/include/cuda_runtime_api.h", "cuda") or "")


def _find_cudnn(
    files: NodeFiles, directories: list[str], cuda: list[dict[str, str]], architecture: str | None
) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    places = directories + [row["library_directory"] for row in cuda]
    for prefix in _prefixes(files, CUDNN_PREFIXES, "cudnn"):
        places += _subdirectories(files, prefix, "cudnn")
    for directory in places:
        for name in files.names(directory, "cudnn"):
            path = directory + "/" + name
            if not re.match(r"libcudnn\.so\.\d", name) or not _is_library(files, path, architecture, "cudnn"):
                continue
            library = files.resolve(path)
            if library in rows:
                continue
            version = parse_cudnn_name(os.path.basename(library))
            version = version or _read_cudnn_header(files, _prefix_of(directory))
            if version is None:
                files.add_unread("cudnn", f"{library}: neither its name nor a header beside says the version")
                continue
            rows[library] = {"version": version, "library": library, "library_directory": directory}
    return sorted(rows.values(), key=lambda row: (_natural(row["version"]), row["library"]))


def _read_cudnn_header(files: NodeFiles, prefix: str) -> str | None:
    for include in ("include", "include/x86_64-linux-gnu", "include/aarch64-linux-gnu"):
        for name in ("cudnn_version.h", "cudnn.h"):
            version = parse_cudnn_header(files.text(f"{prefix}/{include}/{name}", "cudnn") or "")
            if version is not None:
                return version
    return None


def _prefixes(files: NodeFiles, patterns: Iterable[str], fact: str) -> list[str]:
    found = [path for pattern in patterns for path in files.glob(pattern, fact) if files.is_dir(path, fact)]
    return list(dict.fromkeys(files.resolve(path) for path in found))


def _subdirectories(files: NodeFiles, prefix: str, fact: str) -> list[str]:
    found = [path for sub in LIBRARY_SUBDIRECTORIES for path in files.glob(prefix + "/" + sub, fact)]
    return [path for path in found if files.is_dir(path, fact)]


def _prefix_of(library_directory: str) -> str:
    return re.sub(r"/(targets/[^/]+/)?lib(64)?(/[^/]+-linux-gnu)?$", "", library_directory) or "/usr"


# --- Pythons ----------------------------------------------------------------------------------------


def find_pythons(
    *,
    filesystem_root: str = "/",
    environments_root: str | None = None,
    user: User | None = None,
    search_path: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Interpreters of Python 3 that an environment can be built on, and why others were left out."""
    files = NodeFiles(filesystem_root)
    user = user or current_user()
    root = environments_root or default_environments_root(user, environ)
    return _find_pythons(files, user, root, search_path, environ, _read_architecture(files)), files.unread


def _find_pythons(
    files: NodeFiles,
    user: User,
    environments_root: str,
    search_path: str | None,
    environ: Mapping[str, str] | None,
    architecture: str | None,
) -> list[dict[str, Any]]:
    environ = os.environ if environ is None else environ
    path_entries = (environ.get("PATH", "") if search_path is None else search_path).split(os.pathsep)
    pyenv_roots = [environ.get("PYENV_ROOT") or "/opt/pyenv", user.home + "/.pyenv", "/opt/pyenv"]
    uv_roots = [
        environments_root + "/.pythons",
        _data_home(user, environ) + "/uv/python",
        user.home + "/.local/share/uv/python",
    ]
    patterns = (
        [entry for entry in path_entries if entry.startswith("/")]
        + ["/usr/bin", "/usr/local/bin"]
        + [root + "/versions/*/bin" for root in pyenv_roots]
        + [root + "/*/bin" for root in uv_roots]
        + ["/opt/*/bin", "/opt/python*/*/bin"]
    )
    # The more special place names the origin: /opt/tensorflow/.pythons is uv's, not just of /opt.
    origins = [("pyenv", root) for root in pyenv_roots] + [("uv", root) for root in uv_roots]
    origins += [("opt", "/opt"), ("system", "/usr")]
    origins = [(origin, _resolve_if_possible(files, root)) for origin, root in origins]

    rows: list[dict[str, Any]] = []
    seen = set()
    for path in _python_candidates(files, patterns):
        try:
            real = files.resolve(path)
            if real in seen:
                continue
            seen.add(real)
            row = _read_python(files, real, architecture)
            if row is not None:
                under = (origin for origin, root in origins if real.startswith(root + "/"))
                rows.append({**row, "origin": next(under, "path")})
        except _LeftOut as reason:
            files.add_unread("pythons", f"{path}: {reason}")
        except OSError as error:
            files.add_unread("pythons", f"{path}: {error.strerror}")
    return sorted(rows, key=_python_order)


def _python_order(row: dict[str, Any]) -> tuple[Any, ...]:
    return _natural(row["minor"]), row["origin"], _natural(row["version"] or ""), row["path"]


def _resolve_if_possible(files: NodeFiles, path: str) -> str:
    try:
        return files.resolve(path)
    except OSError:  # another user's home
        return path


def _python_candidates(files: NodeFiles, patterns: Iterable[str]) -> Iterator[str]:
    for directory in dict.fromkeys(path for pattern in patterns for path in files.glob(pattern, "pythons")):
        for name in files.names(directory, "pythons"):
            if re.match(r"python3(\.\d+)?$", name):
                yield directory + "/" + name


def _is_venv(files: NodeFiles, directory: str) -> bool:
    places = (directory, os.path.dirname(directory))
    return any(files.is_file(f"{place}/pyvenv.cfg", "pythons") for place in places)


class _LeftOut(Exception):
    """Why a file that is named like an interpreter is none to build on."""


def _read_python(files: NodeFiles, real: str, architecture: str | None) -> dict[str, Any] | None:
    """A row without its origin; None for what is no interpreter of its own. Raises _LeftOut."""
    if not files.exists(real, "pythons"):
        raise _LeftOut(f"link to {real}, which is not there")
    header = files.data(real, "pythons", 20)
    # A script that starts with #! is pyenv's shim or a wrapper: what it starts is found by itself.
    if header is None or header.startswith(b"#!") or _is_venv(files, os.path.dirname(real)):
        return None
    machine = parse_elf_machine(header)
    if machine is None:
        raise _LeftOut("not an ELF file")
    if architecture not in (None, machine):
        raise _LeftOut(f"built for {machine}, this node is {architecture}")
    if not os.access(files.host_path(real), os.X_OK):
        raise _LeftOut("may not be executed by this user")
    named = re.match(r"(?:platform-)?python(3\.\d+)$", os.path.basename(real))  # platform-python: RHEL 8
    if named is None:
        raise _LeftOut(f"{real} is not named python3.N, as a standard build of CPython is")
    minor = named.group(1)
    prefix = os.path.dirname(os.path.dirname(real)).rstrip("/") or "/usr"
    libraries = [f"{prefix}/{lib}/python{minor}" for lib in ("lib", "lib64")]
    library = next((found for found in libraries if files.is_file(found + "/os.py", "pythons")), None)
    if library is None:
        raise _LeftOut("no standard library in {}".format(" or ".join(libraries)))
    return {
        "version": _read_python_version(files, prefix, minor),
        "minor": minor,
        "path": real,
        "ensurepip": files.is_file(library + "/ensurepip/__init__.py", "pythons"),
    }


def _read_python_version(files: NodeFiles, prefix: str, minor: str) -> str | None:
    for abi in ("", "m"):  # 3.7 and older put the ABI flag into the name
        text = files.text(f"{prefix}/include/python{minor}{abi}/patchlevel.h", "pythons")
        version = parse_patchlevel(text or "")
        if version is not None:
            return version
    return parse_python_directory(prefix, minor)


# --- Environments -----------------------------------------------------------------------------------


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


def _read_environments(files: NodeFiles, root: str) -> list[dict[str, Any]]:
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
        missing = [key for key in BUILD_KEYS if key not in record]
        if missing:
            files.add_unread("environments", "{}/build.json: without {}".format(build, ", ".join(missing)))
        elif record["name"] != name:
            files.add_unread("environments", "{}: its build was made for {}".format(link, record["name"]))
        else:
            rows.append({key: record[key] for key in BUILD_KEYS})
    return rows


def _read_json(files: NodeFiles, path: str, fact: str) -> dict[str, Any] | None:
    data = files.data(path, fact)
    if data is None:
        return None
    try:
        value = json.loads(data.decode("utf-8"))
    except ValueError as error:
        files.add_unread(fact, f"{path}: not JSON: {error}")
        return None
    if not isinstance(value, dict):
        files.add_unread(fact, f"{path}: JSON, but not an object")
        return None
    return value


# --- The record -------------------------------------------------------------------------------------


def read_node(
    *,
    filesystem_root: str = "/",
    environments_root: str | None = None,
    user: User | None = None,
    search_path: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The node record of docs/architecture.md.

    `user`, `search_path` and `environ` are those of this process unless given.
    """
    files = NodeFiles(filesystem_root)
    user = user or current_user()
    root = os.path.normpath(environments_root or default_environments_root(user, environ))
    architecture = _read_architecture(files)
    directories = _library_directories(files)
    release = _read_line(files, "/proc/sys/kernel/osrelease", "kernel")
    gpus, nvswitches = _read_pci(files)
    cuda = _find_cuda(files, directories, architecture)
    return {
        "architecture": architecture,
        "os": _read_os(files),
        "glibc": _read_glibc(files, directories, architecture),
        "kernel": {"release": release, "headers": _read_headers(files, release) if release else None},
        "kernels": [
            {"release": os.path.basename(path), "headers": _read_headers(files, os.path.basename(path))}
            for path in files.glob("/lib/modules/*", "kernels")
            if files.is_dir(path, "kernels")
        ],
        "boot_id": _read_line(files, "/proc/sys/kernel/random/boot_id", "boot_id"),
        "user": {"name": user.name, "uid": user.uid, "home": user.home},
        "secure_boot": _read_secure_boot(files),
        "gpus": gpus,
        "nvswitches": nvswitches,
        "driver": _read_driver(files, directories, architecture),
        "modules": _read_modules(files),
        "pythons": _find_pythons(files, user, root, search_path, environ, architecture),
        "cuda": cuda,
        "cudnn": _find_cudnn(files, directories, cuda, architecture),
        "package_managers": [
            name for name, program in PACKAGE_MANAGERS.items() if files.exists(program, "package_managers")
        ],
        "environments_root": _read_environments_root(files, root),
        "environments": _read_environments(files, root),
        "manifest": _read_json(files, root + "/manifest.json", "manifest"),
        "unread": files.unread,
    }
