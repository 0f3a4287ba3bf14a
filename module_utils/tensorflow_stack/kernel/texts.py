"""What DKMS, modinfo and the initramfs tools say of kernel modules: pure, the callers run the commands."""

from __future__ import annotations

import re
from dataclasses import dataclass

NOUVEAU_DRIVERS = ("nouveau", "nova_core")


@dataclass(frozen=True)
class DkmsSource:
    """A source tree that DKMS builds NVIDIA's module from: Debian's is nvidia-current, and its file is named so too."""

    name: str
    version: str
    module: str


@dataclass(frozen=True)
class DkmsBuild:
    """One line of `dkms status`; `kernel` is None for a source that is built for none yet."""

    name: str
    version: str
    kernel: str | None
    state: str


@dataclass(frozen=True)
class ModuleFile:
    """What modinfo says of a kernel module's file; `signer` is None for a module that nobody signed."""

    version: str
    kind: str
    signer: str | None


def parse_dkms_conf(text: str) -> DkmsSource | None:
    """The source of the module "nvidia", None for a dkms.conf that builds none or does not say of what version."""
    values: dict[str, str] = {}
    for name, _, value in re.findall(r"^\s*([A-Z_]+(?:\[\d+\])?)=([\"']?)([^\"'\n#]*)\2", text, re.MULTILINE):
        for known in ("PACKAGE_NAME", "PACKAGE_VERSION"):
            value = re.sub(r"\$(%s\b|\{%s\})" % (known, known), values.get(known, ""), value)
        values[name] = value.strip()
    for name, value in values.items():
        if name.startswith("BUILT_MODULE_NAME") and value == "nvidia":
            module = values.get(name.replace("BUILT", "DEST")) or value
            package, version = values.get("PACKAGE_NAME"), values.get("PACKAGE_VERSION")
            return DkmsSource(package, version, module) if package and version else None
    return None


def parse_dkms_status(text: str) -> list[DkmsBuild]:
    """Lines of `dkms status`: "name/version, kernel, architecture: state" since DKMS 3, with a comma before."""
    shape = r"^([^\s,/]+)(?:/|, )([^\s,:]+)(?:, ([^\s,]+), [^\s,:]+)?: ([\w-]+)"
    rows = re.findall(shape, text, re.MULTILINE)
    return [DkmsBuild(name, version, kernel or None, state) for name, version, kernel, state in rows]


def parse_modinfo(text: str) -> ModuleFile | None:
    """None if modinfo found no such module."""
    fields = dict(reversed(re.findall(r"^(\w+):[ \t]+(\S.*)$", text, re.MULTILINE)))
    if "version" not in fields:
        return None
    # NVIDIA's own licence is "NVIDIA"; the open modules say "Dual MIT/GPL".
    kind = "proprietary" if fields.get("license") == "NVIDIA" else "open"
    return ModuleFile(version=fields["version"], kind=kind, signer=fields.get("signer"))


def parse_listing(text: str) -> list[str]:
    """Paths by lsinitramfs (bare) and lsinitrd (as `ls -l`), without the slash in front."""
    lines = [line.partition(" -> ")[0].split() for line in text.splitlines()]
    return [words[-1].lstrip("/") for words in lines if words]


def nouveau_files(paths: list[str]) -> list[str]:
    names = "|".join(name.replace("_", "[_-]") for name in NOUVEAU_DRIVERS)
    return [path for path in paths if re.search(rf"/({names})\.ko(\.\w+)?$", path)]


def last_lines(text: str, count: int = 20) -> str:
    """Compiler commands are longer than anybody reads."""
    return "\n".join([line.rstrip()[:300] for line in text.splitlines() if line.strip()][-count:])


def first_error(log: str) -> str | None:
    """What failed, by DKMS's make.log: the compiler's error, else the line before make's "***"."""
    previous = None
    for line in log.splitlines():
        if ": *** " in line:
            return previous or line.strip()
        if re.search(r"\berror:", line):
            return line.strip()
        previous = line.strip() or previous
    return None
