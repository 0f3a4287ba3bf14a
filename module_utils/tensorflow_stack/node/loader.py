"""What the dynamic loader of a node takes: its architecture, its directories, its C library."""

from __future__ import annotations

import os
import re
from typing import Iterator, NamedTuple

from ..records.libraries import LOADER_DIRECTORIES
from .files import NodeFiles
from .texts import parse_elf_machine, parse_glibc, parse_loader_conf

# The shell comes first: a loader of a second architecture may be there for cross building.
ELF_WITNESSES = ("/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")

# glibc's, which wheels and downloaded Pythons are built for.
_GLIBC_LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}

# A libc has 2 MB.
_LIBRARY_BYTES = 64 << 20


class Loader(NamedTuple):
    files: NodeFiles
    architecture: str | None
    directories: list[str]  # where it looks, in its order, links resolved

    def libraries(self, directory: str, pattern: str, fact: str) -> Iterator[str]:
        """Those of a directory whose names match the pattern and that fit."""
        for name in self.files.names(directory, fact):
            path = directory + "/" + name
            if re.match(pattern, name) and self.fits(path, fact):
                yield path

    def fits(self, path: str, fact: str) -> bool:
        """There, and built for this architecture: a 32-bit copy may stand in front of the one that counts."""
        try:
            if self.files.link_target(path) and not self.files.exists(path, fact):
                self.files.add_unread(fact, f"{path}: link to {self.files.resolve(path)}, which is not there")
                return False
        except OSError as error:
            self.files.add_unread(fact, f"{path}: {error.strerror}")
            return False
        header = self.files.head(path, fact, 20)
        if header is None:
            return False
        machine = parse_elf_machine(header)
        if machine is None:
            self.files.add_unread(fact, f"{path}: not an ELF file")
        return machine is not None and self.architecture in (None, machine)


def read_loader(files: NodeFiles) -> Loader:
    architecture = read_architecture(files)
    fact = "library directories"
    wanted = [*_loader_conf_directories(files, "/etc/ld.so.conf", fact, set()), *LOADER_DIRECTORIES]
    directories = dict.fromkeys(files.resolve(path) for path in wanted if files.is_dir(path, fact))
    return Loader(files, architecture, list(directories))


def read_architecture(files: NodeFiles) -> str | None:
    for path in ELF_WITNESSES:
        machine = parse_elf_machine(files.head(path, "architecture", 20) or b"")
        if machine in ("x86_64", "aarch64"):
            return machine
        if machine is not None:
            files.add_unread("architecture", f"{path} is built for {machine}")
            return None
    files.add_unread("architecture", "no ELF file among {}".format(", ".join(ELF_WITNESSES)))
    return None


def read_c_library(loader: Loader) -> str | None:
    """Which one starts programs from elsewhere: glibc or musl; None if there is neither at its usual place."""
    files = loader.files
    place = _GLIBC_LOADERS.get(loader.architecture or "")
    if place and files.exists(place, "c_library"):
        return "glibc"
    return "musl" if files.glob("/lib/ld-musl-*.so.1", "c_library") else None


def read_glibc(loader: Loader) -> str | None:
    files = loader.files
    for directory in loader.directories:
        library = directory + "/libc.so.6"
        if not loader.fits(library, "glibc"):
            continue
        named = re.match(r"libc-([0-9]+\.[0-9]+)\.so$", os.path.basename(files.resolve(library)))
        version = named.group(1) if named else parse_glibc(files.data(library, "glibc", _LIBRARY_BYTES) or b"")
        if version is None:
            files.add_unread("glibc", f"{library} does not say its version")
        return version
    files.add_unread("glibc", "no libc.so.6 for this architecture in a directory of the loader")
    return None


def _loader_conf_directories(files: NodeFiles, path: str, fact: str, read: set[str]) -> Iterator[str]:
    """Each file counts once, at its first place: they may include each other."""
    read.add(path)
    for line in parse_loader_conf(files.text(path, fact) or ""):
        if line.startswith("/"):
            yield line
            continue
        pattern = os.path.join("/etc", line.split(None, 1)[1])
        for included in files.glob(pattern, fact):
            if included not in read:
                yield from _loader_conf_directories(files, included, fact, read)
