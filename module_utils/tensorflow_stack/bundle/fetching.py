"""Bring one file into a bundle: kept if it is there, linked from an older bundle, or fetched; always by its sha256."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from dataclasses import dataclass, field

from ..errors import StackError
from ..io.downloads import Source
from ..io.reading import digest_of
from .manifest import BundledFile, BundleManifest


@dataclass(frozen=True)
class Wanted:
    """A file that a bundle is to have at `path`, and where it can be fetched."""

    path: str
    url: str
    sha256: str
    bytes: int | None
    source: Source
    kind: str
    name: str
    version: str | None


@dataclass
class Shelf:
    """The directory of a bundle. `older` has bundles from which files are taken that are the same."""

    directory: str
    older: tuple[tuple[str, BundleManifest], ...] = ()
    fetched_bytes: int = 0
    reused_bytes: int = 0
    # Paths that were compared with their sha256 in this run.
    _whole: set[str] = field(default_factory=set)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def path_of(self, path: str) -> str:
        return os.path.join(self.directory, *path.split("/"))

    def has(self, path: str, sha256: str) -> bool:
        if path not in self._whole and is_file_of(self.path_of(path), sha256):
            self._whole.add(path)
        return path in self._whole

    def seems_to_have(self, wanted: Wanted) -> bool:
        """By its size: before everything is fetched, that has to do."""
        try:
            return wanted.bytes in (None, os.path.getsize(self.path_of(wanted.path)))
        except OSError:
            return False

    def can_reuse(self, sha256: str) -> bool:
        return any(sha256 in manifest.by_sha256 for _, manifest in self.older)

    def bring(self, wanted: Wanted) -> None:
        """Raises StackError unless the file is there afterwards, and is the wanted one."""
        if self.has(wanted.path, wanted.sha256):
            return
        if not self.reuse(wanted.path, wanted.sha256):
            self.fetch(wanted.path, wanted.url, wanted.source, sha256=wanted.sha256, size=wanted.bytes)
        self._whole.add(wanted.path)

    def reuse(self, path: str, sha256: str) -> bool:
        """Take the file from an older bundle, if one has it whole."""
        target = self.path_of(path)
        try:
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            if not self._reuse(sha256, target):
                return False
        except OSError as error:
            raise unwritable(target, error) from error
        self._count("reused_bytes", os.path.getsize(target))
        return True

    def _count(self, name: str, size: int) -> None:
        """Several files are brought at once."""
        with self._counting:
            setattr(self, name, getattr(self, name) + size)

    def fetch(self, path: str, url: str, source: Source, *, sha256: str | None = None, size: int | None = None) -> None:
        """Without a sha256 the caller has to find out whether the file is the right one."""
        target = self.path_of(path)
        part = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.part")
        try:
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            source.save(url, part, what=path, sha256=sha256, size=size)
            os.chmod(part, 0o644)
            os.replace(part, target)
        except StackError as error:
            # The beginning of a file whose sha256 and size are known stays: the next run goes on there.
            if "expected" in error.details or sha256 is None or size is None:
                _remove(part)
            raise
        except OSError as error:
            raise unwritable(target, error) from error
        self._count("fetched_bytes", os.path.getsize(target))

    def file_at(self, path: str, *, kind: str, name: str = "", source: str | None = None) -> BundledFile:
        """A file that is there, as the manifest has it."""
        place = self.path_of(path)
        return BundledFile(path, digest_of(place).hex(), os.path.getsize(place), kind, name, None, source)

    def _reuse(self, sha256: str, target: str) -> bool:
        for directory, manifest in self.older:
            file = manifest.by_sha256.get(sha256)
            path = os.path.join(directory, *file.path.split("/")) if file else ""
            if not path or not is_file_of(path, sha256):
                continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
            try:
                os.link(path, target)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(path, target)
            return True
        return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def is_file_of(path: str, sha256: str) -> bool:
    try:
        return os.path.isfile(path) and digest_of(path).hex() == sha256
    except OSError:
        return False


def unwritable(path: str, error: OSError) -> StackError:
    return StackError(
        f"{path} cannot be written: {error.strerror or error}. Free some space there or set bundle_directory to "
        "another directory, and run again: what was fetched is kept."
    )
