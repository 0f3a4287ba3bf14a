"""Installed packages that builds share: compared with their wheels and compiled once, then linked into each build.

The store is beside uv's cache and has what a line of a lock installs, with its bytecode:

    <root>/.cache/installed/<version of Python>/<name>-<version>-<digest of the line>/
        index                                    what each file is, and how it looked (shared_index.py)
        files/0 ...                              links to those of the build that it was installed into first
        scripts/bin/...                          programs, without the path of that environment

Whoever edits a file in place in one build changes it in the store, too. So a file is only taken if it has the size,
time and mode that it had when it was compared. If anything else was done to it since then, which the kernel notes in
its ctime, it is compared by its contents. On a file system that can clone files, builds get clones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
from typing import Container, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ..errors import BusyError, UnwritableError
from ..io.flock import exclusive_lock
from ..io.reading import check_regular, digest_of, read_head, read_whole
from ..io.sharing import can_clone, clone_file, link_file, open_directory
from ..io.trust import judge
from ..io.writing import opened_directory, write_new
from ..records.distributions import contents_digest, distributions_in, hex_sha256, read_rows, record_fields
from ..records.environment import EnvironmentSpec
from .scripts import update_record
from .shared_index import INDEX, SharedFile, SharedHead, SharedIndex, files_of, folder_of, read_index, write_index
from .shared_store import Store, entries_of, entry_of, find_store

_SCRIPT_BYTES = 1 << 20
# In a script of the store, for the path of an environment: no text has a NUL.
_ENVIRONMENT = b"\0environment\0"
# The kernel starts no script whose first line is longer.
_MOST_OF_A_LINE = 127
# Of a file of bytecode, behind its magic number: PEP 552's flags, then time and size of its source.
_VALIDITY = slice(4, 16)


class Linked(NamedTuple):
    """What the record of a build says of a package that was linked into it."""

    record_sha256: str
    contents_sha256: str


class _Spoiled(Exception):
    """The store has something else than what was kept."""


def link_packages(
    store: Store, spec: EnvironmentSpec, build: str, site_packages: str, without: Container[str] = ()
) -> dict[str, Linked]:
    """Link into an empty build what the store has of its lock; the rest is still to be installed."""
    linked: dict[str, Linked] = {}
    clones: bool | None = None
    for distribution in spec.lock.distributions:
        entry = entry_of(store, distribution)
        if distribution.from_source or distribution.name in without or not os.path.isdir(entry):
            continue
        clones = can_clone(store.path) if clones is None else clones
        attempt = _Linking(entry, build, site_packages, spec.path, clones)
        found = attempt.run()
        if found:
            linked[distribution.name] = found
    return linked


def keep_packages(
    store: Store,
    spec: EnvironmentSpec,
    build: str,
    site_packages: str,
    *,
    without: Container[str],
    loose: Iterable[str],
) -> None:
    """Take the packages of a build that was just compared into the store, in the place of what that has of them.

    `loose` are files that no RECORD lists: a package in whose directories they are is not taken. Nothing depends on
    the store: if another run writes to it, or it cannot be written, the next build installs and compiles.
    """
    try:
        with exclusive_lock(store.lock, what=store.path):
            os.makedirs(store.path, mode=0o755, exist_ok=True)
            for name in os.listdir(store.path):
                if name.startswith("."):  # of a run that was killed
                    shutil.rmtree(os.path.join(store.path, name))
            installed = distributions_in(os.listdir(os.path.join(build, site_packages)))
            keeping = _Keeping(store, build, site_packages, spec.path, {os.path.dirname(name) for name in loose})
            for distribution in spec.lock.distributions:
                if distribution.name in installed and distribution.name not in without and not distribution.from_source:
                    keeping.keep(entry_of(store, distribution), installed[distribution.name][0][1])
    except (BusyError, UnwritableError, OSError):
        pass


@contextlib.contextmanager
def while_unlinking(build: str, packages: Mapping[str, str]) -> Iterator[None]:
    """Around the removal of a build: what the store has of its packages was right before, so it still is afterwards.

    Without this the kernel's note that a link was removed would have the next build compare the contents.
    """
    cache = os.path.join(os.path.dirname(os.path.dirname(build)), ".cache", "uv")
    store = find_store(cache, build)
    right = [entry for entry in entries_of(store, packages) if _is_untouched(entry)] if store else []
    yield
    for entry in right:
        with contextlib.suppress(OSError):
            os.utime(os.path.join(entry, INDEX))


def known_digests(store: Store, site_packages: str, packages: Iterable[str]) -> dict[str, str]:
    """The sha256 of each file of bytecode that the store has of these packages, by its path below site-packages."""
    installed = distributions_in(os.listdir(site_packages))
    known: dict[str, str] = {}
    for name in packages:
        for version, dist_info in installed.get(name, [])[:1]:
            contents = contents_digest(read_rows(os.path.join(site_packages, dist_info, "RECORD")) or [])
            for entry in entries_of(store, {name: version}):
                with contextlib.suppress(OSError, ValueError):
                    index = read_index(entry)
                    if index.head.contents == contents:
                        known.update(_bytecode_in(index))
    return known


def _bytecode_in(index: SharedIndex) -> Iterator[tuple[str, str]]:
    for file in files_of(index):
        if file.name.endswith(".pyc"):
            # lib/python3.10/site-packages/...
            yield "/".join([*file.folder.split("/")[3:], file.name]), file.sha256


def _is_untouched(entry: str) -> bool:
    """By what the kernel notes of each file."""
    try:
        index = read_index(entry)
        here = open_directory(os.path.join(entry, "files"))
        try:
            files = enumerate(files_of(index))
            return all(_is_as_noted(file, str(number), here, index.checked_ns) for number, file in files)
        finally:
            os.close(here)
    except (OSError, ValueError):
        return False


def _is_as_noted(file: SharedFile, kept: str, here: int, checked_ns: int) -> bool:
    status = os.lstat(kept, dir_fd=here)
    noted = (file.mode, file.size, file.mtime_ns, file.inode)
    found = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
    return found == noted and status.st_ctime_ns <= checked_ns


class _Linking:
    """One package from the store into a build. If anything is not right, nothing of it is in the build afterwards."""

    def __init__(self, entry: str, build: str, site_packages: str, environment: str, clones: bool) -> None:
        self._entry = entry
        self._build = build
        self._site_packages = os.path.join(build, site_packages)
        self._environment = environment
        self._place = clone_file if clones else link_file
        self._made: list[str] = []
        self._doubtful: list[tuple[str, str]] = []
        self._trusted = (0, os.geteuid())

    def run(self) -> Linked | None:
        try:
            index = read_index(self._entry)
            self._link_files(index)
            self._compare_doubtful()
            linked = self._finish(index.head)
            # From now on what the kernel noted of the links is no reason to compare the contents again.
            os.utime(os.path.join(self._entry, INDEX))
            return linked
        except (OSError, ValueError, _Spoiled):
            for path in self._made:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            return None

    def _link_files(self, index: SharedIndex) -> None:
        target = -1
        number = 0
        source = self._opened(os.path.join(self._entry, "files"))
        try:
            for line in index.lines:
                if line.startswith("/"):
                    if target >= 0:
                        os.close(target)
                        target = -1
                    self._folder = os.path.join(self._build, folder_of(line))
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(self._folder, 0o755)
                    target = open_directory(self._folder)
                else:
                    self._link(line, str(number), source, target, index.checked_ns)
                    number += 1
        finally:
            for descriptor in (source, target):
                if descriptor >= 0:
                    os.close(descriptor)

    def _opened(self, folder: str) -> int:
        descriptor = open_directory(folder)
        if judge(folder, os.fstat(descriptor), shared=False):
            os.close(descriptor)
            raise _Spoiled
        return descriptor

    def _link(self, line: str, kept: str, source: int, target: int, checked_ns: int) -> None:
        """Tens of thousands of files go through here, so nothing is done twice."""
        sha256, mode, size, mtime_ns, inode, name = line.split(" ", 5)
        status = os.lstat(kept, dir_fd=source)
        if (
            status.st_mtime_ns != int(mtime_ns)
            or status.st_size != int(size)
            or status.st_mode != int(mode, 8)
            or status.st_uid not in self._trusted
            or "/" in name
        ):
            raise _Spoiled
        path = f"{self._folder}/{name}"
        if status.st_ctime_ns > checked_ns or status.st_ino != int(inode):
            self._doubtful.append((path, sha256))
        try:
            self._place(kept, source, name, target, status)
        except FileExistsError:  # two packages may have one file, if it is the same
            if digest_of(path).hex() != sha256:
                raise _Spoiled from None
        else:
            self._made.append(path)

    def _compare_doubtful(self) -> None:
        if not self._doubtful:
            return
        from concurrent.futures import ThreadPoolExecutor  # seldom needed

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            if not all(pool.map(lambda file: digest_of(file[0]).hex() == file[1], self._doubtful)):
                raise _Spoiled

    def _finish(self, head: SharedHead) -> Linked:
        record = head.record
        changed = {}
        for script, sha256 in head.scripts.items():
            changed[os.path.join(self._build, script)] = self._write_script(script, sha256)
        if changed:
            (place,) = [path for path in self._made if path.endswith(".dist-info/RECORD")]
            update_record(place, self._site_packages, changed)
            record = digest_of(place).hex()
        return Linked(record, head.contents)

    def _write_script(self, script: str, sha256: str) -> tuple[str, str]:
        content = read_whole(os.path.join(self._entry, "scripts", script), _SCRIPT_BYTES, follow=False)
        if hashlib.sha256(content).hexdigest() != sha256 or not script.startswith("bin/") or script.count("/") > 1:
            raise _Spoiled
        content = content.replace(_ENVIRONMENT, os.fsencode(self._environment))
        if content.startswith(b"#!/") and content.find(b"\n") > _MOST_OF_A_LINE:
            raise _Spoiled  # for such a path an installer writes another script
        path = os.path.join(self._build, script)
        try:
            write_new(path, content, mode=0o755)
            self._made.append(path)
        except FileExistsError:
            if read_whole(path, _SCRIPT_BYTES, follow=False) != content:
                raise _Spoiled from None
        return record_fields(content)


class _Keeping:
    """The packages of one build into the store. `loose` are directories below it with what no RECORD lists."""

    def __init__(self, store: Store, build: str, site_packages: str, environment: str, loose: Container[str]) -> None:
        self._store = store
        self._build = build
        self._below = site_packages
        self._environment = os.fsencode(environment)
        self._loose = loose
        self._place = clone_file if can_clone(store.path) else link_file

    def keep(self, entry: str, dist_info: str) -> None:
        filling = os.path.join(self._store.path, f".{os.path.basename(entry)}")
        rows = read_rows(os.path.join(self._build, self._below, dist_info, "RECORD")) or []
        self._files: list[SharedFile] = []
        self._scripts: dict[str, str] = {}
        try:
            os.mkdir(filling, 0o755)
            wanted = self._wanted([*rows, [f"{dist_info}/RECORD", "", ""]])
            os.mkdir(os.path.join(filling, "files"), 0o755)
            # In the order in which the index has them.
            for folder in sorted(wanted):
                self._keep_folder(filling, folder, wanted[folder])
            record = [file.sha256 for file in self._files if file.folder.endswith(dist_info) and file.name == "RECORD"]
            write_index(filling, SharedHead(contents_digest(rows), record[0], self._scripts), self._files)
        except (OSError, ValueError, IndexError, _Spoiled):
            shutil.rmtree(filling, ignore_errors=True)
            return
        if os.path.isdir(entry):
            shutil.rmtree(entry)
        os.rename(filling, entry)

    def _wanted(self, rows: Iterable[Sequence[str]]) -> dict[str, dict[str, str | None]]:
        """By directory below the build the names of the files, with the sha256 that the wheel has of them."""
        wanted: dict[str, dict[str, str | None]] = {}
        for name, recorded, _ in rows:
            folder, _, file = os.path.normpath(os.path.join(self._below, name)).rpartition("/")
            if folder in self._loose or folder.split("/")[0] == "..":
                raise _Spoiled
            is_compiled = folder.endswith("__pycache__")  # which is in the place of what the wheel has
            wanted.setdefault(folder, {})[file] = None if is_compiled else hex_sha256(recorded)
            if file.endswith(".py"):
                wanted.setdefault(f"{folder}/__pycache__", {})[f"{file[: -len('.py')]}.{self._store.tag}.pyc"] = None
        return wanted

    def _keep_folder(self, filling: str, folder: str, hashes: Mapping[str, str | None]) -> None:
        with contextlib.ExitStack() as opened:
            try:
                source = opened.enter_context(opened_directory(os.path.join(self._build, folder)))
            except FileNotFoundError:
                if folder.endswith("__pycache__"):
                    return
                raise
            target = opened.enter_context(opened_directory(os.path.join(filling, "files")))
            for name, sha256 in hashes.items():
                self._keep_file(filling, folder, name, sha256, (source, target))

    def _keep_file(
        self, filling: str, folder: str, name: str, sha256: str | None, directories: tuple[int, int]
    ) -> None:
        source, target = directories
        path = os.path.join(self._build, folder, name)
        try:
            status = os.lstat(name, dir_fd=source)
        except FileNotFoundError:
            if folder.endswith("__pycache__"):
                return
            raise
        check_regular(status, path)
        if folder == "bin" and self._keep_script(filling, name, path):
            return
        if name.endswith(f".{self._store.tag}.pyc") and not self._is_valid(folder, name):
            return
        kept = str(len(self._files))
        self._place(name, source, kept, target, status)
        found = os.lstat(kept, dir_fd=target)
        sha256 = sha256 or digest_of(path).hex()
        self._files.append(
            SharedFile(folder, name, sha256, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino)
        )

    def _is_valid(self, folder: str, name: str) -> bool:
        source = os.path.join(self._build, os.path.dirname(folder), f"{name[: -len(f'.{self._store.tag}.pyc')]}.py")
        head = read_head(os.path.join(self._build, folder, name), _VALIDITY.stop, follow=False)
        status = os.lstat(source)
        times = (0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        return head[_VALIDITY] == struct.pack("<III", *times)

    def _keep_script(self, filling: str, name: str, path: str) -> bool:
        """Whether it is a program that names its environment; all others are files like those of packages."""
        if os.lstat(path).st_size > _SCRIPT_BYTES:
            return False
        content = read_whole(path, _SCRIPT_BYTES, follow=False)
        python = os.path.join(self._environment, b"bin", b"python")
        if python not in content:
            return False
        if b"\0" in content:
            raise _Spoiled
        content = content.replace(python, _ENVIRONMENT + b"/bin/python")
        os.makedirs(os.path.join(filling, "scripts", "bin"), mode=0o755, exist_ok=True)
        write_new(os.path.join(filling, "scripts", "bin", name), content)
        self._scripts[f"bin/{name}"] = hashlib.sha256(content).hexdigest()
        return True
