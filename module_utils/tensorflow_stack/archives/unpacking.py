"""Unpack archives of NVIDIA's into one tree, by a walk of our own that trusts nothing in them.

Nothing is ever laid outside the tree or through a link, whatever an archive says: what is odd is refused before it
touches the disk, and the caller throws the tree away.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import posixpath
import tarfile
import zlib
from typing import IO

from ..errors import StackError

_SPECIAL_BITS = 0o7000
_BLOCK = 1 << 20


class Tree:
    """A directory that is being filled. `files`: path to size, or to `-> target` of a symbolic link."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.files: dict[str, int | str] = {}
        self._directories = {""}
        self._digests: dict[str, str] = {}

    def unpack(self, path: str, *, component: str, name: str) -> None:
        """Lay what the archive at `path` holds below its one top directory.

        Plain files at the top, which are licenses and in every archive, go to share/doc/<component>. Raises
        StackError, calling the archive `name`.
        """
        try:
            with tarfile.open(path, "r:*") as archive:
                _Walk(self, archive, component, name).run()
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk: gzip's own has no number
            raise StackError(
                f"{name} cannot be unpacked: {error}. Its hash is as expected, so the file itself is damaged, or this "
                "node's Python cannot decompress it (for .tar.xz it needs the module lzma)."
            ) from error

    def make_directory(self, path: str) -> None:
        """With its parents, of which none is a link or a file: the walk has looked."""
        if path not in self._directories:
            self.make_directory(posixpath.dirname(path))
            os.mkdir(self.place_of(path), 0o755)
            self._directories.add(path)

    def lay_file(self, path: str, source: IO[bytes], *, executable: bool) -> None:
        digest, size = hashlib.sha256(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self.place_of(path), flags, 0o644), "wb") as stream:
            for block in iter(lambda: source.read(_BLOCK), b""):
                digest.update(block)
                size += len(block)
                stream.write(block)
            os.fchmod(stream.fileno(), 0o755 if executable else 0o644)
        self.files[path] = size
        self._digests[path] = digest.hexdigest()

    def has_file(self, path: str, source: IO[bytes]) -> bool:
        """Is there a regular file at `path` with these contents?"""
        digest = hashlib.sha256()
        for block in iter(lambda: source.read(_BLOCK), b""):
            digest.update(block)
        return self._digests.get(path) == digest.hexdigest()

    def lay_link(self, path: str, target: str) -> None:
        os.symlink(target, self.place_of(path))
        self.files[path] = f"-> {target}"

    def lay_hard_link(self, path: str, target: str) -> None:
        os.link(self.place_of(target), self.place_of(path), follow_symlinks=False)
        self.files[path] = self.files[target]
        self._digests[path] = self._digests[target]

    def place_of(self, path: str) -> str:
        return os.path.join(self.directory, path) if path else self.directory

    def is_directory(self, path: str) -> bool:
        return path in self._directories


class _Walk:
    """One archive, member by member, in its order."""

    def __init__(self, tree: Tree, archive: tarfile.TarFile, component: str, name: str) -> None:
        self._tree = tree
        self._archive = archive
        self._component = component
        self._name = name
        self._top: str | None = None
        self._seen: set[str] = set()
        self._laid: dict[str, str] = {}  # this archive's own regular files: where each one lies in the tree

    def run(self) -> None:
        for member in self._archive:
            path = self._path_of(member.name)
            if path in self._seen:
                raise self._refused(member.name, "is in it twice")
            self._seen.add(path)
            if member.mode & _SPECIAL_BITS:
                raise self._refused(
                    member.name, f"has a set-user-ID, set-group-ID or sticky bit (mode {member.mode:o})"
                )
            if path == "":
                if not member.isdir():
                    raise self._refused(member.name, "is at its top and not a directory")
                continue
            self._lay(member, path)
        if not self._laid:
            raise StackError(f"{self._name} holds no file.")

    def _lay(self, member: tarfile.TarInfo, path: str) -> None:
        place = path
        if member.isreg() and "/" not in path:
            place = f"share/doc/{self._component}/{path}"
        parent = posixpath.dirname(place)
        while parent:
            if parent in self._tree.files:
                raise self._refused(member.name, f"would be unpacked through {parent}, which is no directory")
            parent = posixpath.dirname(parent)
        if member.isdir():
            if place in self._tree.files:
                raise self._refused(member.name, "is a directory in it, but was already unpacked as a file or link")
            self._tree.make_directory(place)
            return
        if self._tree.is_directory(place) or (place in self._tree.files and not member.isreg()):
            raise self._refused(member.name, "was already unpacked from another archive")
        self._tree.make_directory(posixpath.dirname(place))
        if member.isreg():
            self._lay_file(member, path, place)
        elif member.issym():
            self._check_target(member, place)
            self._tree.lay_link(place, member.linkname)
        elif member.islnk():
            target = self._laid.get(self._path_of(member.linkname))
            if target is None:
                raise self._refused(
                    member.name, f"is a hard link to {member.linkname!r}, which is no earlier file of the archive"
                )
            self._tree.lay_hard_link(place, target)
            self._laid[path] = place
        else:
            raise self._refused(member.name, "is a device, a FIFO or of an unknown type")

    def _lay_file(self, member: tarfile.TarInfo, path: str, place: str) -> None:
        source = self._archive.extractfile(member)
        assert source is not None  # a regular file has contents
        if place not in self._tree.files:
            self._tree.lay_file(place, source, executable=bool(member.mode & 0o111))
        elif not self._tree.has_file(place, source):
            raise self._refused(member.name, "was already unpacked from another archive, with other contents")
        self._laid[path] = place

    def _path_of(self, name: str) -> str:
        """The name below the archive's one top directory; empty for that one itself."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise self._refused(name, "points outside of it")
        if not parts:
            return ""
        if self._top is None:
            self._top = parts[0]
        if parts[0] != self._top:
            raise self._refused(name, f"is not below its top directory {self._top}")
        return "/".join(parts[1:])

    def _check_target(self, member: tarfile.TarInfo, place: str) -> None:
        """A link may climb first and only then descend: so no other link on its way changes where it ends."""
        parts = [part for part in member.linkname.split("/") if part not in ("", ".")]
        climbs = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
        depth = place.count("/")
        if member.linkname.startswith("/") or climbs > depth or ".." in parts[climbs:] or not parts:
            raise self._refused(member.name, f"is a link to {member.linkname!r}, which points outside of it")

    def _refused(self, member: str, why: str) -> StackError:
        return StackError(
            f"{self._name} is refused: its member {member!r} {why}. Nothing of it was unpacked. "
            "Take the archive from NVIDIA, with the hash that NVIDIA's manifest names.",
            member=member,
        )
