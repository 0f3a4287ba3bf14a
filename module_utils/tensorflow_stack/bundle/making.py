"""Makes a bundle: collects what plans need, fetches and checks it, and writes pages, manifest and signature."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import StackError
from ..io.clock import timestamp
from ..io.downloads import Source, as_url
from ..io.flock import exclusive_lock
from ..io.space import check_free_space
from ..io.uv import DEFAULT_INDEX, INDEX_VARIABLE, ensure_uv
from ..io.writing import write_text
from ..records.lockfile import Lock, read_lock
from ..tables.load import Tables, load_tables
from . import pythons, redist, wheels
from .fetching import Shelf, Wanted, unwritable
from .manifest import (
    MANIFEST,
    SBOM,
    SIGNATURES,
    BundledFile,
    BundleManifest,
    PlannedFor,
    merge_files,
    parse_manifest,
    render_manifest,
)
from .needs import BundleNeed, needs_of_plan, unique
from .repositories import Mirrored, RepositoryPart, parts_of_plan, read_repository, write_indexes
from .sbom import render_sbom
from .signing import kind_of_key, remove_signatures, sign

_THREADS = 4


@dataclass(frozen=True)
class BundleWish:
    """What goes into a bundle and from where; the fields are the options of the action `tensorflow_bundle`."""

    directory: str
    plans: tuple[tuple[str, Mapping[str, Any]], ...]  # host and its plan
    older: str | None
    tables: str
    tools_lock: str | None
    tools_pythons: tuple[str, ...]
    tools_directory: str
    pythons: tuple[str, ...] = ()
    index_url: str | None = None
    python_mirror: str | None = None
    python_downloads: str | None = None
    repository_url: str | None = None
    redist_url: str | None = None
    signing_key: str | None = None
    # Not for a new node of the kind, but for one run: what the plans change, apart from packages of apt and dnf.
    for_one_run: bool = False


@dataclass
class _Work:
    """What was found to be needed, and what pages of the index say of their files."""

    wanted: list[Wanted] = field(default_factory=list)
    pythons: list[BundleNeed] = field(default_factory=list)
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    repositories: list[tuple[RepositoryPart, Mirrored]] = field(default_factory=list)
    manifests: list[redist.PublishedManifest] = field(default_factory=list)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Requested packages that are the distribution's own."""
        return tuple(sorted({name for _, mirrored in self.repositories for name in mirrored.left_out}))


@dataclass(frozen=True)
class BundleOutcome:
    manifest: BundleManifest
    before: BundleManifest | None
    size_line: str
    left_out: tuple[str, ...]
    fetched_bytes: int
    reused_bytes: int
    is_signed: bool
    # Of the files, those that these plans need, and the pages that lead to them.
    paths: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """A manifest that is only planned has no time, and is of files alone."""
        before = self.before or BundleManifest("", (), ())
        return before.files != self.manifest.files if not self.manifest.made_at else before != self.manifest


def read_bundle(directory: str | None) -> BundleManifest | None:
    """The manifest in a directory, None if it has none."""
    path = os.path.join(directory, MANIFEST) if directory else ""
    try:
        with open(path, encoding="utf-8") as stream:
            return parse_manifest(stream.read(), where=os.path.dirname(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror}.") from error


def make_bundle(wish: BundleWish, *, check_mode: bool) -> BundleOutcome:
    """Fill the directory; what a killed run fetched is kept, and what a bundle there has stays in it."""
    if wish.signing_key:
        kind_of_key(wish.signing_key)
    before, older = read_bundle(wish.directory), read_bundle(wish.older)
    if wish.older and older is None:
        raise StackError(f"bundle_older is {wish.older}, which has no {MANIFEST}. Set it to an earlier bundle.")
    shelf = Shelf(wish.directory, ((str(wish.older), older),) if older else ())
    tables = load_tables(wish.tables)
    uv = _uv(wish, tables)
    work = _collect(wish, tables)
    missing = [one for one in work.wanted if not shelf.seems_to_have(one)]
    to_fetch = sum(one.bytes or 0 for one in missing if not shelf.can_reuse(one.sha256))
    size_line = _size_line(work, missing, to_fetch, wish.directory)
    check_free_space(
        wish.directory, to_fetch, what="The bundle", setting="set bundle_directory to a directory with more space"
    )
    if check_mode:
        known = before.by_path if before else {}
        planned = [_planned_file(one) for one in work.wanted]
        new = [file for file in planned if file.path not in known or known[file.path].sha256 != file.sha256]
        manifest = BundleManifest("", (), merge_files(known.values(), new))
        return BundleOutcome(manifest, before, size_line, work.left_out, 0, 0, is_signed=False)
    is_new = not os.path.isdir(wish.directory)
    with exclusive_lock(os.path.join(wish.directory, ".lock"), what=wish.directory):
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(shelf.bring, work.wanted))
        files = [_file_of(shelf, one) for one in work.wanted]
        known_before = [manifest for manifest in (before, older) if manifest]
        files += [_bring_python(wish, shelf, tables, uv, need, known_before) for need in work.pythons]
        for part, mirrored in work.repositories:
            files += write_indexes(shelf, part, mirrored)
        files += redist.write_manifests(shelf, work.manifests)
        manifest = _write(wish, shelf, before, files, work)
        _open_to_servers(wish.directory, is_new=is_new)
    return BundleOutcome(
        manifest,
        before,
        size_line,
        work.left_out,
        shelf.fetched_bytes,
        shelf.reused_bytes,
        is_signed=bool(wish.signing_key),
        paths=tuple(sorted([*(file.path for file in files), *wheels.paths_of_pages(files)])),
    )


def _size_line(work: _Work, missing: Sequence[Wanted], to_fetch: int, directory: str) -> str:
    count = len(work.wanted) + len(work.pythons)
    reused = len(work.wanted) - len(missing)
    pythons_line = f", and {len(work.pythons)} builds of Python" if work.pythons else ""
    return (
        f"Bundle in {directory}: {count} files are needed, {reused} of them are there already; "
        f"about {to_fetch / 1e6:,.0f} MB are fetched{pythons_line}"
    )


def _uv(wish: BundleWish, tables: Tables) -> str:
    row = tables.uv(platform.machine())
    if row is None:
        raise StackError(f"There is no pinned uv for {platform.machine()}, so no bundle can be made on this machine.")
    return ensure_uv(directory=wish.tools_directory, record=row._asdict(), index_url=wish.index_url)


# --- Collecting -----------------------------------------------------------------------------------


def _collect(wish: BundleWish, tables: Tables) -> _Work:
    needs: list[BundleNeed] = []
    for host, plan in wish.plans:
        needs += needs_of_plan(plan, _lock_of(host, plan), all_of_it=not wish.for_one_run)
    architectures = dict.fromkeys(str(plan["lock"]["architecture"]) for _, plan in wish.plans)
    needs += [] if wish.for_one_run else need_of_controllers_uv(tables)
    needs += [
        BundleNeed("python", "cpython", minor, architecture=architecture, component="python")
        for minor in wish.pythons
        for architecture in architectures or (platform.machine(),)
    ]
    # Packages are taken from their repository, which stays configured on a node after the run.
    needs = [need for need in unique(needs) if need.kind != "package" or not wish.for_one_run]
    index = Source(
        wish.index_url or os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX,
        name="package index",
        settings=f"tensorflow_index_url (or {INDEX_VARIABLE} in the environment)",
    )
    work = _Work()
    locked, work.said = wheels.find_wheels(index, [need for need in needs if need.kind in ("wheel", "source")])
    minors = wish.tools_pythons or sorted(tables.uv_pythons)
    tools, said = wheels.find_wheels(
        index, _needs_of_tools(wish, minors), fits=wheels.fitting(minors, platform.machine())
    )
    work.said.update(said)
    found = {one.path: one for one in [*locked, *tools]}
    found.update({one.path: one for one in redist.find_archives(needs, wish.redist_url)})
    # Nodes of one kind take the same, and a repository is read once for all of them.
    plans = [] if wish.for_one_run else [plan for _, plan in wish.plans]
    parts = {repr(part): part for plan in plans for part in parts_of_plan(plan, wish.repository_url)}
    for part in parts.values():
        mirrored = read_repository(part)
        work.repositories.append((part, mirrored))
        found.update({one.path: one for one in mirrored.wanted})
    work.manifests = redist.read_manifests(plans, wish.redist_url)
    work.wanted = list(found.values())
    work.pythons = [need for need in needs if need.kind == "python"]
    return work


def need_of_controllers_uv(tables: Tables) -> list[BundleNeed]:
    row = tables.uv(platform.machine())
    return [BundleNeed("wheel", "uv", row.version, (row.sha256,), row.bytes)] if row else []


def _lock_of(host: str, plan: Mapping[str, Any]) -> Lock:
    path = plan["lock"]["path"]
    if plan["lock"]["state"] == "applied":
        raise StackError(
            f"The plan of {host} has its lock on the node alone ({path}). Name the release or the requirements file "
            "(tensorflow_version or tensorflow_requirements), so that the lock is on this machine."
        )
    lock = read_lock(path)
    if lock is None:
        raise StackError(
            f"The plan of {host} needs the lock {path}, which does not exist yet, so nobody knows what it has. In "
            "check mode no lock is made: make it with make lock, "
            "or run make bundle without CHECK."
        )
    return lock


def _needs_of_tools(wish: BundleWish, minors: Sequence[str]) -> list[BundleNeed]:
    if not wish.tools_lock:
        return []
    with open(wish.tools_lock, encoding="utf-8") as stream:
        return wheels.needs_of_tools(stream.read(), minors)


# --- Fetching -------------------------------------------------------------------------------------


def _planned_file(wanted: Wanted) -> BundledFile:
    return BundledFile(
        wanted.path, wanted.sha256, wanted.bytes or 0, wanted.kind, wanted.name, wanted.version, _shown(wanted.url)
    )


def _file_of(shelf: Shelf, wanted: Wanted) -> BundledFile:
    path = shelf.path_of(wanted.path)
    found = replace(_planned_file(wanted), bytes=os.path.getsize(path))
    return replace(found, license=wheels.license_of(path)) if wanted.kind == "wheel" else found


def _bring_python(
    wish: BundleWish, shelf: Shelf, tables: Tables, uv: str, need: BundleNeed, before: Sequence[BundleManifest]
) -> BundledFile:
    """Only uv knows the sha256 of a build, so that uv checks what was fetched."""
    version, url, place = pythons.find_python(uv, need, wish.python_downloads)
    path = f"{pythons.DIRECTORY}/{place}"
    for known in [manifest.by_path[path] for manifest in before if path in manifest.by_path]:
        if shelf.has(path, known.sha256) or shelf.reuse(path, known.sha256):
            return known
    row = tables.uv(need.architecture)
    faults = []
    for source in pythons.sources(url, place, wish.python_mirror, row.python_hosts if row else ()):
        try:
            shelf.fetch(path, source.shown, source)
        except StackError as error:
            faults.append(error.message)
            continue
        file = replace(
            shelf.file_at(path, kind="python", name="cpython", source=source.shown),
            version=version,
            license="PSF-2.0",  # fact: its name in the list of SPDX, 2026-11-26
        )
        try:
            pythons.check_python(uv, wish.directory, file, wish.python_downloads)
        except StackError:
            os.unlink(shelf.path_of(path))
            raise
        return file
    raise StackError(f"Python {need.version} could not be fetched: {' '.join(faults)}")


def _shown(url: str) -> str:
    """Without credentials, and without what a server adds to an address to let somebody in."""
    parts = as_url(url).partition("?")[0]
    scheme, _, rest = parts.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


# --- Writing --------------------------------------------------------------------------------------


def _write(
    wish: BundleWish, shelf: Shelf, before: BundleManifest | None, files: Sequence[BundledFile], work: _Work
) -> BundleManifest:
    """Pages, bill of materials, manifest and signature, in this order; nothing is written if nothing changes."""
    kept = [file for file in before.files if not _is_made(file)] if before else []
    merged = merge_files(kept, files)
    plans = tuple(dict.fromkeys([*(before.plans if before else ()), *_planned_for(wish)]))
    try:
        paths = wheels.write_pages(
            wish.directory, [file for file in merged if file.kind in ("wheel", "source")], work.said
        )
        pages = [shelf.file_at(path, kind="index") for path in paths]
        content = merge_files(merged, pages)
        if before and plans == before.plans and _without_sbom(before.files) == content and _is_signed(wish):
            return before
        made_at = timestamp()
        if not wish.for_one_run:
            write_text(os.path.join(wish.directory, SBOM), render_sbom(merged, made_at=made_at))
            content = merge_files(content, [shelf.file_at(SBOM, kind="sbom")])
        manifest = BundleManifest(made_at, plans, content)
        write_text(os.path.join(wish.directory, MANIFEST), render_manifest(manifest))
    except OSError as error:
        if isinstance(error, StackError):
            raise
        raise unwritable(str(error.filename or wish.directory), error) from error
    remove_signatures(wish.directory)
    if wish.signing_key:
        sign(wish.directory, wish.signing_key)
    return manifest


def _open_to_servers(directory: str, *, is_new: bool) -> None:
    """A web server reads as another user, whatever the umask was. A directory that was there stays as it was."""
    for path, _, _ in os.walk(directory):
        if path != directory or is_new:
            os.chmod(path, 0o755)


def _is_made(file: BundledFile) -> bool:
    """Whether it is made from the other files: pages of the index and the bill of materials."""
    return file.kind == "sbom" or (file.kind == "index" and file.source is None)


def _is_signed(wish: BundleWish) -> bool:
    """Whether there is the signature that is asked for, if one is."""
    if not wish.signing_key:
        return True
    return os.path.exists(os.path.join(wish.directory, SIGNATURES[kind_of_key(wish.signing_key)]))


def _without_sbom(files: Sequence[BundledFile]) -> tuple[BundledFile, ...]:
    return tuple(file for file in files if file.kind != "sbom")


def _planned_for(wish: BundleWish) -> list[PlannedFor]:
    return [
        PlannedFor(host, plan["release"], plan["flavour"], plan["python"]["minor"], plan["lock"]["architecture"])
        for host, plan in wish.plans
    ]
