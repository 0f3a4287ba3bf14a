"""The files of one distribution in a build, compared with the RECORD that its wheel brought.

By `lstat`: that each is a regular file of its size which nobody else may change. By their contents where that was asked
for, or where a file was written to after the build was complete.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
from typing import Iterable, NamedTuple, Sequence

from ..io.reading import digest_of, read_whole
from ..io.trust import Weakness, judge
from ..io.writing import write_text
from ..records.distributions import METADATA_BYTES, RECORD_BYTES, contents_digest, parse_rows, record_fields

_THREADS = 8
# A thread takes so many of the small files at once: handing over one costs as much as hashing it.
_SMALL_BYTES = 1 << 16
_CHUNK = 256
# Of a mode: what kind of file it is.
_KIND = 0o170000


class Recorded(NamedTuple):
    """A file whose contents are in question, with the hash that its wheel has of it."""

    package: str
    name: str
    path: str
    hash: str
    size: int


class Bytecode(NamedTuple):
    """A file of bytecode in question, and its source; both below site-packages."""

    package: str
    source: str
    name: str


class Looked(NamedTuple):
    """What a look at one distribution's files showed."""

    problem: str | None = None  # the first file that is not as it was installed
    in_question: Sequence[Recorded] = ()
    bytecode: Sequence[Bytecode] = ()
    folders: Sequence[str] = ()  # below site-packages, in which something may have been added


def compare_files(
    package: str,
    site_packages: str,
    dist_info: str,
    record_sha256: str,
    *,
    contents_sha256: str | None = None,
    hashes: bool = False,
    complete_since: int | None = None,
    tag: str | None = None,
) -> Looked:
    """What is wrong with the first file that is not as it was installed, and what is to be compared by contents.

    `contents_sha256` is the digest of what its wheel brought, which a second installation of the same wheel keeps.
    `complete_since` is when the build was complete, in nanoseconds; None for one that is not. `tag` is the one in the
    names of the interpreter's bytecode ("cpython-310"); None leaves bytecode out.
    """
    try:
        content = read_whole(os.path.join(site_packages, dist_info, "RECORD"), RECORD_BYTES, follow=False)
        rows = parse_rows(content)
    except (OSError, ValueError, csv.Error):
        return Looked("its RECORD was changed")
    if hashlib.sha256(content).hexdigest() != record_sha256 and contents_digest(rows) != contents_sha256:
        return Looked("its RECORD was changed")
    try:
        # Relative to an open directory a file is found in half the time.
        here = os.open(site_packages, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return Looked(f"{site_packages} is missing")
    try:
        look = _Look(package, site_packages, here, hashes=hashes, complete_since=complete_since)
        look.at_files(rows)
        if tag:
            look.at_bytecode(rows, tag)
        return Looked(look.problem, look.in_question, look.bytecode, look.folders)
    finally:
        os.close(here)


class _Look:
    """At the files of one distribution, by `lstat`. The first problem counts, and all are looked at.

    Tens of thousands of files are looked at in each run, so that each step of a loop costs milliseconds.
    """

    def __init__(
        self, package: str, site_packages: str, here: int, *, hashes: bool, complete_since: int | None
    ) -> None:
        self._package = package
        self._site_packages = site_packages
        self._here = here
        self._hashes = hashes
        # Nothing is newer than one that is not complete.
        self._since = (1 << 63) if complete_since is None else complete_since
        self._trusted = (0, os.geteuid())
        self._seen: set[str] = set()
        self.problem: str | None = None
        self.in_question: list[Recorded] = []
        self.bytecode: list[Bytecode] = []
        self.folders: list[str] = []

    def at_files(self, rows: Iterable[Sequence[str]]) -> None:
        here, trusted, since, seen = self._here, self._trusted, self._since, self._seen
        for name, recorded_hash, size in rows:
            # Bytecode is the interpreter's to rewrite; a RECORD does not list its own size.
            if not size or "__pycache__/" in name:
                continue
            folder = name.rpartition("/")[0]
            try:
                status = os.lstat("./" + name, dir_fd=here)
                above = None if folder in seen else self._weakness_above(folder)
            except (OSError, ValueError):
                self.problem = self.problem or f"{name} is missing"
                continue
            # Those that are in order are not judged one by one.
            is_plain = status.st_mode & (_KIND | 0o022) == stat.S_IFREG and status.st_uid in trusted
            if above or not is_plain or str(status.st_size) != size:
                path = f"{self._site_packages}/{name}"
                self.problem = self.problem or _problem(name, path, status, size, above)
            if self._hashes or status.st_mtime_ns >= since:
                path = f"{self._site_packages}/{name}"
                self.in_question.append(Recorded(self._package, name, path, recorded_hash, status.st_size))

    def at_bytecode(self, rows: Iterable[Sequence[str]], tag: str) -> None:
        """Of the sources that the rows list. None has to be there: Python then compiles them.

        Without hashes only its directories are looked at: each file would take half as long again as all else.
        """
        sources = [row[0] for row in rows if row[0].endswith(".py")]
        for folder in {source.rpartition("/")[0] for source in sources}:
            compiled = f"{folder}/__pycache__" if folder else "__pycache__"
            try:
                status = os.lstat("./" + compiled, dir_fd=self._here)
            except (OSError, ValueError):
                continue
            if status.st_mode & (_KIND | 0o022) != stat.S_IFDIR or status.st_uid not in self._trusted:
                self.problem = self.problem or self._weakness_above(compiled)
        if self._hashes:
            self._at_each(sources, tag)

    def _at_each(self, sources: Iterable[str], tag: str) -> None:
        for source in sources:
            folder, _, file = source.rpartition("/")
            for ending in (f".{tag}.pyc", f".{tag}.opt-1.pyc", f".{tag}.opt-2.pyc"):
                name = os.path.join(folder, "__pycache__", file[: -len(".py")] + ending)
                try:
                    status = os.lstat("./" + name, dir_fd=self._here)
                except (OSError, ValueError):
                    continue
                path = f"{self._site_packages}/{name}"
                self.problem = self.problem or _problem(name, path, status, str(status.st_size), None)
                if stat.S_ISREG(status.st_mode):
                    self.bytecode.append(Bytecode(self._package, source, name))

    def _weakness_above(self, folder: str) -> str | None:
        """The directory of a file, and those between it and site-packages; each is looked at once."""
        while folder not in self._seen:
            self._seen.add(folder)
            status = os.lstat("./" + folder, dir_fd=self._here)
            if (self._hashes or status.st_mtime_ns >= self._since) and not folder.endswith("__pycache__"):
                self.folders.append(folder)
            if not stat.S_ISDIR(status.st_mode):
                return f"its directory {folder} is no longer one"
            if status.st_mode & 0o022 or status.st_uid != 0:
                path = f"{self._site_packages}/{folder}".rstrip("/")
                weakness = judge(path, status, shared=False)
                if weakness:
                    return f"its directory {path} {weakness.text}"
            folder = folder.rpartition("/")[0]
        return None


def _problem(name: str, path: str, status: os.stat_result, size: str, above: str | None) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is no longer a regular file"
    if str(status.st_size) != size:
        return f"{name} has {status.st_size} bytes, not {size}"
    weakness = None if above else judge(path, status)
    return f"{name} {weakness.text}" if weakness else above


def find_changed(files: Iterable[Recorded]) -> list[tuple[str, str]]:
    """Package and text of those whose contents are not what was installed, the first of each package."""
    # Half of all bytes are in one file: it is begun first.
    queue = sorted(files, key=lambda file: -file.size)
    if not queue:
        return []
    from concurrent.futures import ThreadPoolExecutor  # a run that changes nothing does without the import

    large = sum(file.size >= _SMALL_BYTES for file in queue)
    shares = [[file] for file in queue[:large]]
    shares += [queue[start : start + _CHUNK] for start in range(large, len(queue), _CHUNK)]
    changed: dict[str, str] = {}
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for share in pool.map(_without_recorded_hash, shares):
            for file in share:
                changed.setdefault(file.package, f"the contents of {file.name} differ from what was installed")
    return sorted(changed.items())


def _without_recorded_hash(files: Iterable[Recorded]) -> list[Recorded]:
    return [file for file in files if not _has_recorded_hash(file)]


def correct_metadata_row(site_packages: str, dist_info: str) -> bool:
    """Let the RECORD of a wheel that was just installed say of METADATA what is there; False if it did already.

    Somebody edited METADATA in the wheel of TensorFlow 1.15.0 for cp37 when its RECORD was made, and left the RECORD.
    """
    record = os.path.join(site_packages, dist_info, "RECORD")
    metadata = f"{dist_info}/METADATA"
    try:
        fields = record_fields(read_whole(os.path.join(site_packages, metadata), METADATA_BYTES, follow=False))
        text = read_whole(record, RECORD_BYTES, follow=False).decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error):
        return False
    corrected = [[metadata, *fields] if row[:1] == [metadata] else row for row in rows]
    if corrected == rows:
        return False
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(corrected)
    write_text(record, stream.getvalue())
    return True


def find_foreign(build: str, directories: Iterable[str]) -> Weakness | None:
    """The first thing that was installed into a build and that others could change, listed in a RECORD or not."""
    trusted = (0, os.geteuid())
    for top in directories:
        for directory, names, files, here in os.fwalk(os.path.join(build, top)):
            for name in names + files:
                status = os.lstat(name, dir_fd=here)
                # Those that are in order are not judged one by one.
                if not status.st_mode & 0o022 and status.st_uid in trusted:
                    continue
                weakness = judge(os.path.join(directory, name), status, shared=False)
                if weakness:
                    return weakness
    return None


def sha256_or_none(path: str) -> str | None:
    try:
        return digest_of(path).hex()
    except OSError:
        return None


def _has_recorded_hash(file: Recorded) -> bool:
    algorithm, _, expected = file.hash.partition("=")
    if not expected:
        return True
    try:
        digest = digest_of(file.path, algorithm)
    except (OSError, ValueError, TypeError):  # one that Python does not know
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii") == expected
