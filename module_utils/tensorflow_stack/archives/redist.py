"""NVIDIA's archives as one tree at a versioned prefix: whole or not at all.

On disk, `<parent>` being the directory that holds the prefix:

    <prefix>/.tensorflow-gpu-stack.json         record of the tree, written last: its archives, every file's size
    <parent>/.<name of the prefix>.new/         archives and new tree of the run at work; swept by the next one
    <parent>/.locks/<name of the prefix>        flock of one run
    /etc/tensorflow-gpu-stack/<component>.json  what this toolkit installed of the component last

A tree is filled beside and comes to its prefix by one rename. One that is to be replaced changes places with the new
one (RENAME_EXCHANGE), so there is always a tree, where the file system can do that. The prefix is a directory, not a
link to one: environments hold links to the files in it by their real paths, and these have to outlive a repair.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import urllib.parse
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

from ..errors import BuildError, BusyError, StackError, UnwritableError
from ..io.downloads import Source, has_credentials
from ..io.files import sync_file_system
from ..io.flock import exclusive_lock
from ..io.processes import name_processes, processes_using
from ..io.space import check_free_space, nearest_directory
from ..io.trust import check_place
from ..io.writing import write_json
from ..records.component import STATE_DIRECTORY, record_path
from .manifest import PLATFORMS, Archive, read_manifest
from .prefix import (
    TREE_RECORD,
    environments_using,
    find_drift,
    move_away,
    put_in_place,
    read_json_or_none,
    read_tree,
)
from .unpacking import Tree

RECORDS = STATE_DIRECTORY
# Bump when archives are laid in another way, so that every tree is laid anew once.
_LAYOUT = 1
# Headers, and static libraries that compress well.
_UNPACKED_PER_ARCHIVE_BYTE = 3
_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class WantedTree:
    """One component of NVIDIA's at one version, from these archives, at this prefix."""

    component: str
    version: str
    prefix: str
    archives: tuple[Archive, ...]

    @property
    def identity(self) -> str:
        rows = sorted([archive.component, archive.sha256] for archive in self.archives)
        return hashlib.sha256(json.dumps([_LAYOUT, self.version, rows]).encode("utf-8")).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "component": self.component,
            "source": "redist",
            "version": self.version,
            "prefix": self.prefix,
            "archives": [archive.row for archive in self.archives],
        }


@dataclass(frozen=True)
class TreeOutcome:
    """What was or, in check mode, would be done to one prefix."""

    action: str  # keep, install, repair, replace, record, remove
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    bytes_to_fetch: int = 0

    @property
    def changed(self) -> bool:
        return self.action != "keep"


def open_source(url: str) -> Source:
    if has_credentials(url):
        raise StackError(
            "nvidia_redist_url contains credentials, which the output of every task would show. Put them into ~/.netrc "
            "(mode 0600) of the user who runs the tasks."
        )
    return Source(url, name="server of NVIDIA's archives", settings="nvidia_redist_url")


def fetch_manifest(
    source: Source, path: str, *, sha256: str, components: Sequence[str], variant: str | None
) -> list[Archive]:
    """The archives for this machine that a manifest below the source names; the manifest is checked first."""
    machine = os.uname().machine
    if machine not in PLATFORMS:
        raise StackError(f"NVIDIA has archives for {' and '.join(PLATFORMS)}; this node is {machine}.")
    body = source.get(f"{source.shown}/{urllib.parse.quote(path)}", what=path, limit=_MANIFEST_BYTES).body
    found = hashlib.sha256(body).hexdigest()
    if found != sha256.lower():
        raise StackError(
            f"{path} from {source.shown} is not the pinned manifest: expected sha256 {sha256}, found {found}. None "
            "of its archives was downloaded.",
            expected=sha256,
            found=found,
        )
    return read_manifest(
        body.decode("utf-8", "replace"), name=path, platform=PLATFORMS[machine], components=components, variant=variant
    )


# --------------------------------------------------------------------------------------------- planning


def plan_present(wish: WantedTree, *, records: str = RECORDS) -> TreeOutcome:
    """What has to be done so that the tree is there; reads only, and refuses what applying would refuse."""
    _check_place(wish.prefix, records)
    described = _described(wish.record)
    if not os.path.lexists(wish.prefix):
        return _to_be_laid("install", wish, (), ())
    tree = read_tree(wish.prefix)
    recorded = read_json_or_none(record_path(wish.component, records))
    if tree is None:
        if not _names(recorded, wish.prefix):
            raise BuildError(
                f"{wish.prefix} exists and was not made by this toolkit (it has no {TREE_RECORD}). Move it away, or "
                f"set {wish.component}_source to found to use it.",
                path=wish.prefix,
            )
        return _to_be_laid("repair", wish, described, (f"{TREE_RECORD} is missing or cannot be read",))
    if tree["identity"] != wish.identity:
        return _to_be_laid("replace", wish, _described(tree), ())
    drift = find_drift(wish.prefix, tree)
    if drift:
        return _to_be_laid("repair", wish, described, tuple(drift))
    if recorded != wish.record:
        before = _described(recorded) if recorded and recorded.get("source") == "redist" else ()
        return TreeOutcome("record", before, described)
    return TreeOutcome("keep", described, described)


def plan_absent(
    component: str, prefix: str, *, roots: Sequence[str] = (), force: bool = False, records: str = RECORDS
) -> TreeOutcome:
    """What removing the tree takes away; raises BuildError where something still uses it, unless forced."""
    _check_place(prefix, records)
    tree = read_tree(prefix)
    recorded = read_json_or_none(record_path(component, records))
    if tree is None and not _names(recorded, prefix):
        if os.path.lexists(prefix):
            raise BuildError(f"{prefix} was not made by this toolkit (it has no {TREE_RECORD}), so it is not removed.")
        return TreeOutcome("keep")
    environments = environments_using(prefix, roots)
    processes = processes_using([prefix])
    if (environments or processes) and not force:
        users = [f"environment {name}" for name in environments] + ([name_processes(processes)] if processes else [])
        raise BuildError(
            f"{prefix} is in use by {', '.join(users)}; nothing was removed. Remove these environments and end these "
            "processes first, or set force.",
            environments=environments,
            processes=processes,
        )
    return TreeOutcome("remove", _described(tree or recorded or {}), ())


def _to_be_laid(action: str, wish: WantedTree, before: tuple[str, ...], drift: tuple[str, ...]) -> TreeOutcome:
    bytes_to_fetch = sum(archive.bytes or 0 for archive in wish.archives)
    place = nearest_directory(os.path.dirname(wish.prefix))
    if not os.access(place, os.W_OK | os.X_OK):
        raise BuildError(f"{wish.prefix} cannot be unpacked: user {os.geteuid()} may not write {place}. Run as root.")
    needed = bytes_to_fetch * (1 + _UNPACKED_PER_ARCHIVE_BYTE)
    check_free_space(place, needed, what=f"{wish.component} {wish.version}")
    return TreeOutcome(action, before, _described(wish.record), drift, bytes_to_fetch)


def _check_place(prefix: str, records: str) -> None:
    """Raises BuildError for a prefix where a tree could be planted or swapped by somebody else."""
    if not os.path.isabs(prefix) or os.path.normpath(prefix) != prefix or os.path.dirname(prefix) == "/":
        raise BuildError(f"The prefix is {prefix!r}: set an absolute path that is not directly below /.")
    if os.path.islink(prefix) or (os.path.lexists(prefix) and not os.path.isdir(prefix)):
        raise BuildError(f"{prefix} is a link or a file, not a directory that this toolkit made. Move it away.")
    # Beside the prefix a run puts its lock and what it unpacks.
    for path in (nearest_directory(os.path.dirname(prefix)), prefix, records):
        check_place(path, why="everybody's TensorFlow would load their files.", setting="Make it root's, mode 0755.")


def _described(record: dict[str, Any]) -> tuple[str, ...]:
    """For a diff: what is installed where, then its archives."""
    if not record:
        return ()
    rows = sorted(f"{row['component']} {row['version']}" for row in record.get("archives", ()))
    return (f"{record['component']} {record['version']} in {record['prefix']}", *rows)


def _names(record: dict[str, Any] | None, prefix: str) -> bool:
    return bool(record and record.get("source") == "redist" and record.get("prefix") == prefix)


# --------------------------------------------------------------------------------------------- applying


def apply_present(wish: WantedTree, *, source: Source, lock_timeout: float, records: str = RECORDS) -> TreeOutcome:
    outcome = plan_present(wish, records=records)
    if outcome.action == "keep":
        if os.path.lexists(_work_path(wish.prefix)):
            # A run that was killed before it had cleaned up. One that is at work is left alone.
            with contextlib.suppress(BusyError, UnwritableError):
                with _locked(wish.prefix, 0):
                    _sweep(wish.prefix)
        return outcome
    with _locked(wish.prefix, lock_timeout):
        # Another run may have done it while this one waited.
        outcome = plan_present(wish, records=records)
        _sweep(wish.prefix)
        if outcome.action in ("install", "repair", "replace"):
            try:
                _lay(wish, source)
            finally:
                _sweep(wish.prefix)
        if outcome.changed:
            _write_record(records, wish)
    return outcome


def apply_absent(
    component: str,
    prefix: str,
    *,
    lock_timeout: float,
    roots: Sequence[str] = (),
    force: bool = False,
    records: str = RECORDS,
) -> TreeOutcome:
    outcome = plan_absent(component, prefix, roots=roots, force=force, records=records)
    if outcome.action == "keep":
        return outcome
    with _locked(prefix, lock_timeout):
        outcome = plan_absent(component, prefix, roots=roots, force=force, records=records)
        _sweep(prefix)
        if os.path.isdir(prefix):
            move_away(prefix, _work_path(prefix))
            _sweep(prefix)
        path = record_path(component, records)
        if _names(read_json_or_none(path), prefix):
            os.unlink(path)
    return outcome


def _lay(wish: WantedTree, source: Source) -> None:
    work = _work_path(wish.prefix)
    os.mkdir(work, 0o700)
    os.mkdir(os.path.join(work, "archives"))
    fetched = []
    for number, archive in enumerate(wish.archives):
        path = os.path.join(work, "archives", str(number))
        url = f"{source.shown}/{urllib.parse.quote(archive.relative_path)}"
        source.save(url, path, what=archive.name, sha256=archive.sha256, size=archive.bytes)
        fetched.append((archive, path))
    tree = Tree(os.path.join(work, "tree"))
    os.mkdir(tree.directory, 0o755)
    for archive, path in fetched:
        tree.unpack(path, component=archive.component, name=archive.name)
        os.unlink(path)
    record = {**wish.record, "identity": wish.identity, "files": tree.files}
    # Without this a power cut after the rename could leave a complete tree of empty files.
    sync_file_system(tree.directory)
    write_json(os.path.join(tree.directory, TREE_RECORD), record)
    put_in_place(tree.directory, wish.prefix)


@contextlib.contextmanager
def _locked(prefix: str, wait: float) -> Iterator[None]:
    parent, name = os.path.split(prefix)
    lock = os.path.join(parent, ".locks", name)
    with exclusive_lock(lock, what=prefix, wait=wait, wait_setting="raise package_lock_timeout"):
        try:
            yield
        except OSError as error:
            raise BuildError(
                f"{prefix} was not finished: {error}. The previous files are unchanged. Correct the cause "
                "and run again."
            ) from error


def _sweep(prefix: str) -> None:
    """Remove what a run left, this one or a killed one; the caller holds the lock."""
    work = _work_path(prefix)
    if os.path.lexists(work):
        shutil.rmtree(work)


def _work_path(prefix: str) -> str:
    parent, name = os.path.split(prefix)
    return os.path.join(parent, f".{name}.new")


def _write_record(records: str, wish: WantedTree) -> None:
    path = record_path(wish.component, records)
    os.makedirs(records, mode=0o755, exist_ok=True)
    write_json(path, wish.record)
