"""Archives in NVIDIA's format, and some that nobody should unpack."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.tensorflow_stack.archives.manifest import Archive
from ansible.module_utils.tensorflow_stack.archives.redist import WantedTree

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"", mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    member.uid, member.gid, member.uname = 4321, 4321, "builder"
    return member, data


def special(name: str, kind: bytes, target: str = "", mode: int = 0o755) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, mode
    return member, b""


def folder(name: str) -> Member:
    return special(name, tarfile.DIRTYPE)


def link(name: str, target: str) -> Member:
    return special(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> Member:
    return special(name, tarfile.LNKTYPE, target)


def pack(path: Path, members: Iterable[Member], mode: str = "w:xz") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # the mode is checked by tarfile
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return path


def library(component: str, name: str, version: str, data: bytes = b"\x7fELF") -> list[Member]:
    """The archive of one component: its license, a library with its links, a header."""
    top = f"{component}-linux-x86_64-{version}-archive"
    major = version.partition(".")[0]
    return [
        folder(top),
        file(f"{top}/LICENSE", component.encode()),
        folder(f"{top}/lib"),
        file(f"{top}/lib/lib{name}.so.{version}", data, 0o755),
        link(f"{top}/lib/lib{name}.so.{major}", f"lib{name}.so.{version}"),
        link(f"{top}/lib/lib{name}.so", f"lib{name}.so.{major}"),
        folder(f"{top}/include"),
        file(f"{top}/include/{name}.h", b"/* header */"),
    ]


def archive_of(path: Path, base: Path, component: str, version: str = "1") -> Archive:
    data = path.read_bytes()
    return Archive(component, version, str(path.relative_to(base)), hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Shelf:
    """A folder of archives, as a server has it."""

    path: Path

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def component(self, component: str, name: str, version: str, data: bytes = b"\x7fELF") -> Archive:
        path = self.path / component / f"{component}-{version}-archive.tar.xz"
        return archive_of(pack(path, library(component, name, version, data)), self.path, component, version)

    def cuda(self, prefix: Path, cudart: str = "11.2.152", data: bytes = b"\x7fELF") -> WantedTree:
        """CUDA of two components, `data` being what its runtime holds."""
        archives = (
            self.component("cuda_cudart", "cudart", cudart, data),
            self.component("libcublas", "cublas", "11.4.1.1043"),
        )
        return WantedTree("cuda", cudart.rpartition(".")[0], str(prefix), archives)


# What is wrong with it: its members, and what the refusal says.
HOSTILE: dict[str, tuple[Callable[[Path], list[Member]], str]] = {
    "path_with_dots": (lambda outside: [file("a/../../evil", b"x")], "points outside of it"),
    "absolute_path": (lambda outside: [file(str(outside / "evil"), b"x")], "points outside of it"),
    "second_top": (lambda outside: [file("a/lib/x"), file("b/lib/y")], "not below its top directory a"),
    "file_at_the_top": (lambda outside: [file("evil", b"x")], "is at its top and not a directory"),
    "absolute_link": (lambda outside: [link("a/lib", str(outside))], "which points outside of it"),
    "climbing_link": (lambda outside: [link("a/lib/x", "../../outside/evil")], "which points outside of it"),
    "link_that_climbs_late": (
        # By its text it stays inside; through `up`, which is the tree itself, it does not.
        lambda outside: [folder("a/lib"), link("a/lib/up", ".."), link("a/lib/x", "up/../../outside")],
        "which points outside of it",
    ),
    "file_through_a_link": (
        lambda outside: [folder("a/real"), link("a/lib", "real"), file("a/lib/evil", b"x")],
        "would be unpacked through lib, which is no directory",
    ),
    "file_through_a_file": (
        lambda outside: [file("a/lib/x", b"x"), file("a/lib/x/evil", b"x")],
        "would be unpacked through lib/x, which is no directory",
    ),
    "file_over_a_link": (
        lambda outside: [link("a/lib/x", "y"), file("a/lib/./x", b"x")],
        "is in it twice",
    ),
    "hard_link_out": (lambda outside: [hard_link("a/lib/x", str(outside / "secret"))], "points outside of it"),
    "hard_link_up": (lambda outside: [hard_link("a/lib/x", "a/../../outside/secret")], "points outside of it"),
    "hard_link_to_nothing": (
        lambda outside: [hard_link("a/lib/x", "a/lib/later"), file("a/lib/later")],
        "is a hard link to 'a/lib/later', which is no earlier file",
    ),
    "hard_link_to_a_link": (
        lambda outside: [link("a/lib/y", "z"), hard_link("a/lib/x", "a/lib/y")],
        "is a hard link to 'a/lib/y', which is no earlier file",
    ),
    "character_device": (lambda outside: [special("a/lib/x", tarfile.CHRTYPE)], "is a device, a FIFO"),
    "block_device": (lambda outside: [special("a/lib/x", tarfile.BLKTYPE)], "is a device, a FIFO"),
    "fifo": (lambda outside: [special("a/lib/x", tarfile.FIFOTYPE)], "is a device, a FIFO"),
    "set_user_id": (lambda outside: [file("a/bin/x", b"x", 0o4755)], "sticky bit (mode 4755)"),
    "set_group_id_directory": (
        lambda outside: [special("a/bin", tarfile.DIRTYPE, mode=0o2755)],
        "sticky bit (mode 2755)",
    ),
    "twice": (lambda outside: [file("a/lib/x", b"1"), file("a/lib/x", b"2")], "is in it twice"),
    "directory_over_a_file": (
        lambda outside: [file("a/lib/x", b"1"), folder("a/lib/x/")],
        "is in it twice",
    ),
    "empty": (lambda outside: [folder("a"), folder("a/lib")], "holds no file"),
}
