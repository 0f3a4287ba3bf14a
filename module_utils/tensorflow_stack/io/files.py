"""Changes to files: planned first, shown, then written whole, and taken back where what they were for fails."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from dataclasses import dataclass
from typing import Callable, Iterator

from ..errors import StackError, UnwritableError
from .reading import open_regular, read_open
from .writing import write_bytes

# Of a file of settings.
_MOST_BYTES = 16 << 20


def sync_file_system(path: str) -> None:
    """Write everything of the file system of `path` to disk: of that one alone, since another may hang (NFS)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _File:
    data: bytes
    mode: int
    owner: tuple[int, int]
    link: str | None = None


class FileChanges:
    """Paths are the node's own; `root` is where its file system is mounted."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")
        self._before: dict[str, _File | None] = {}
        self._after: dict[str, _File | None] = {}
        self._written: list[str] = []
        self._directories: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._changed())

    def read(self, path: str) -> bytes | None:
        """What the file will hold; None where there is none."""
        file = self._planned(path)
        return None if file is None else file.data

    def write(self, path: str, data: bytes) -> None:
        """A file of this toolkit's own: everybody may read it, and apt has to."""
        self._planned(path)
        self._after[path] = _File(data, 0o644, (os.geteuid(), os.getegid()))

    def edit(self, path: str, data: bytes) -> None:
        """A file of somebody else, which keeps its owner and mode."""
        file = self._planned(path)
        if file is None:
            raise ValueError(f"{path} does not exist, so it cannot be edited")
        self._after[path] = _File(data, file.mode, file.owner)

    def remove(self, path: str) -> None:
        self._planned(path)
        self._after[path] = None

    def diff(self, describe: Callable[[bytes], str]) -> list[dict[str, str]]:
        def text(file: _File | None) -> str:
            if file is None:
                return ""
            return ("" if file.mode == 0o644 else f"# mode {file.mode:04o}\n") + describe(file.data)

        return [
            {
                "before_header": path,
                "after_header": path,
                "before": text(self._before[path]),
                "after": text(self._after[path]),
            }
            for path in self._changed()
        ]

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Write everything; what was there comes back where the body fails, or a write does."""
        try:
            for path in self._changed():
                self._put(path, self._after[path])
            yield
        except BaseException:
            self._restore()
            raise

    def _changed(self) -> list[str]:
        return [path for path, file in self._after.items() if file != self._before[path]]

    def _planned(self, path: str) -> _File | None:
        if path in self._after:
            return self._after[path]
        if path not in self._before:
            self._before[path] = self._look(path)
        return self._before[path]

    def _look(self, path: str) -> _File | None:
        place = self._root + path
        try:
            found = os.lstat(place)
            link = os.readlink(place) if stat.S_ISLNK(found.st_mode) else None
            descriptor = open_regular(place)
            try:
                status = os.fstat(descriptor)
                data = read_open(descriptor, _MOST_BYTES)
            finally:
                os.close(descriptor)
            return _File(data, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid), link)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StackError(
                f"{path} cannot be read: {error.strerror}. Repair it or move it away.", path=path
            ) from error

    def _put(self, path: str, file: _File | None) -> None:
        place = self._root + path
        self._written.append(path)
        try:
            if file is None:
                os.unlink(place)
            elif file.link is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(place)
                os.symlink(file.link, place)
            else:
                self._make_directory(os.path.dirname(place))
                write_bytes(place, file.data, mode=file.mode, owner=file.owner)
        except OSError as error:
            raise UnwritableError(
                f"{path} cannot be written: {error.strerror}. Free some space or remove its protection, and run as "
                "root.",
                path=path,
            ) from error

    def _make_directory(self, directory: str) -> None:
        if not os.path.isdir(directory):
            self._make_directory(os.path.dirname(directory))
            os.mkdir(directory)
            os.chmod(directory, 0o755)  # whatever the umask
            self._directories.append(directory)

    def _restore(self) -> None:
        for path in reversed(self._written[:]):
            # What cannot be put back must not hide why it has to be.
            with contextlib.suppress(OSError):
                self._put(path, self._before[path])
        for directory in reversed(self._directories):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
