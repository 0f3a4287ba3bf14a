"""What names and texts of a node say: pure, the callers read the files."""

from __future__ import annotations

import re
from typing import Any, AnyStr, Mapping, NamedTuple

from ..io.reading import parse_object

ELF_MACHINES = {3: "i386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}

OS_FAMILIES = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "rhel",
    "centos": "rhel",
    "fedora": "rhel",
    "suse": "suse",
    "opensuse": "suse",
}


# No version is as long: whoever wrote a longer one did not mean it, and Python makes no number of thousands of digits.
LONGEST_VERSION = 40


class DriverModule(NamedTuple):
    version: str
    kind: str


def parse_driver_version(text: str) -> DriverModule | None:
    """The loaded module by /proc/driver/nvidia/version, in the proprietary and in the open shape."""
    shape = r"^NVRM version:\s+(.*\bKernel Module\b.*?)\s+([0-9]+(?:\.[0-9]+)+)(?:\s|$)"
    match = re.search(shape, text, re.MULTILINE)
    if match is None or len(match.group(2)) > LONGEST_VERSION:
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
    version = _first_group(rb"GNU C Library [^\n]*? version ([0-9]+\.[0-9]+)", data)
    return None if version is None else version.decode()


def parse_cuda_version_json(text: str) -> str | None:
    """Toolkit version (major.minor) by version.json, which CUDA 11.1 and newer have."""
    try:
        return _first_group(r"^([0-9]+\.[0-9]+)", parse_object(text)["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def parse_cuda_version_txt(text: str) -> str | None:
    """Toolkit version (major.minor) by version.txt, which CUDA 11.0 and older have."""
    return _first_group(r"(?m)^CUDA Version ([0-9]+\.[0-9]+)", text)


def parse_cudart_name(name: str) -> str | None:
    """Runtime version (major.minor) by a file name: libcudart.so.11.2.152 is 11.2.

    Two numbers only are the soname: libcudart.so.11.0 is what every CUDA 11 has.
    """
    return _first_group(r"^libcudart\.so\.([0-9]+\.[0-9]+)\.[0-9]+(\.[0-9]+)*$", name)


def parse_cudart_header(text: str) -> str | None:
    """Runtime version (major.minor) by cuda_runtime_api.h: 11020 is 11.2."""
    number = _first_group(r"(?m)^#define CUDART_VERSION\s+([0-9]+)", text)
    return None if number is None else f"{int(number) // 1000}.{int(number) % 1000 // 10}"


def parse_cudnn_name(name: str) -> str | None:
    """Version by a file name: libcudnn.so.8.1.0 is 8.1.0; a name with the major only says nothing."""
    return _first_group(r"^libcudnn\.so\.([0-9]+\.[0-9]+\.[0-9]+)$", name)


def parse_cudnn_header(text: str) -> str | None:
    """Version by cudnn_version.h (cuDNN 8 and newer) or cudnn.h (7 and older)."""
    values = dict(re.findall(r"^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+([0-9]+)", text, re.MULTILINE))
    if len(values) != 3:
        return None
    version = "{MAJOR}.{MINOR}.{PATCHLEVEL}".format(**values)
    return version if len(version) <= LONGEST_VERSION else None


def parse_libcuda_name(name: str) -> str | None:
    """Driver version by a file name: libcuda.so.535.183.01. The libcuda.so.1.1 of Windows names none."""
    return _first_group(r"^libcuda\.so\.([0-9]{3,}(?:\.[0-9]+)+)$", name)


def parse_patchlevel(text: str) -> str | None:
    """Python's version by its patchlevel.h."""
    return _first_group(r'(?m)^#define\s+PY_VERSION\s+"([0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?)\+?"', text)


def parse_python_directory(path: str, minor: str) -> str | None:
    """Python's version by the directory it was installed in, as pyenv and uv name them."""
    found = re.findall(rf"(?<![0-9.]){re.escape(minor)}\.[0-9]+(?:(?:a|b|rc)[0-9]+)?(?![0-9.])", path)
    return found[-1] if found else None


def parse_loader_conf(text: str) -> list[str]:
    """Lines of ld.so.conf that count: directories, and "include PATTERN"."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith(("/", "include "))]


def _first_group(pattern: AnyStr, text: AnyStr) -> AnyStr | None:
    match = re.search(pattern, text)
    return match.group(1) if match and len(match.group(1)) <= LONGEST_VERSION else None


def natural_order(text: str) -> list[Any]:
    """Sort key that puts 3.9 before 3.10."""
    parts: list[Any] = re.split(r"([0-9]+)", text)
    # By length before digits: Python makes no number of very many.
    parts[1::2] = [(len(digits), digits) for digits in (part.lstrip("0") for part in parts[1::2])]
    return parts


def enabled_repositories(text: str) -> list[str]:
    """The names in a .repo file of dnf of those that are enabled, which is what they are unless it says otherwise."""
    enabled: dict[str, bool] = {}
    name = None
    for line in map(str.strip, text.splitlines()):
        section = re.fullmatch(r"\[([^\]]+)\]", line)
        if section:
            name = section.group(1)
            enabled[name] = True
        key, _, value = line.partition("=")
        if name and key.strip() == "enabled":
            enabled[name] = value.strip().lower() in ("1", "true", "yes", "on")
    return [name for name, is_enabled in enabled.items() if is_enabled]
