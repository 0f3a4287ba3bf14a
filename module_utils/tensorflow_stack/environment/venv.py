"""Environments: build beside the live one, check, switch by one rename, roll back, remove.

On disk (see docs/architecture.md, "On a node"): a build is a whole venv at its final path, complete once
`build.json` is in it; the environment is a symbolic link to one build. Nothing but the link ever changes
under a running program.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from typing import Callable, Container

from ..errors import BuildError, BusyError, StackError, UnwritableError
from ..io.files import sync_file_system
from ..io.flock import exclusive_lock
from ..io.processes import processes_using
from ..io.reading import read_whole
from ..io.trust import check_program, check_root
from ..io.writing import sync_directory, write_json
from ..records.additions import WAYS_OUT, Addition, listed, lost_additions, outside_entries
from ..records.build import BUILD_RECORD, read_record
from ..records.environment import EnvironmentSpec, check_name
from ..records.lockfile import parse_lock
from .bookkeeping import leftovers
from .builds import (
    Build,
    Damage,
    builds_of,
    describe_frame,
    describe_records,
    environment_names,
    find_added,
    find_damage,
    live_build,
    remove_build,
)
from .installing import (
    BuildLog,
    Installer,
    compare,
    import_tensorflow,
    install,
    link_compiler,
    link_libraries,
    point_to_compiler,
)

# Installed bytes (bytecode included) over wheel bytes: 2.6 for TensorFlow 2.8.0 (1,417 MB from 553 MB of wheels).
_INSTALLED_PER_WHEEL_BYTE = 3
_LOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Outcome:
    """What was or, in check mode, would be done to one environment."""

    action: str  # keep, build, repair, switch, rollback, remove
    before: Build | None
    after_packages: dict[str, str]
    damage: tuple[Damage, ...] = ()
    build: str | None = None
    removed_builds: tuple[str, ...] = ()
    # Of those beyond `keep`, what stays because something was added to it.
    kept_builds: tuple[str, ...] = ()
    # What somebody added to the build that is in use afterwards, and what the one before had and this one has not.
    additions: tuple[Addition, ...] = ()
    dropped: tuple[Addition, ...] = ()
    bytes_to_fetch: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.action != "keep"


# --------------------------------------------------------------------------------------------- planning


def plan_present(
    spec: EnvironmentSpec, *, keep: int = 2, hashes: bool = False, drop_additions: bool = False
) -> Outcome:
    """What has to be done so that the environment is there; reads only, and refuses what applying would refuse."""
    check_name(spec.name)
    check_root(spec.root)
    check_program(spec.python)
    live = live_build(spec.root, spec.name)
    wanted = spec.lock.packages
    hashed = wanted if hashes else ()
    damage = find_damage(live, hashed=hashed) if live else []
    additions = find_added(live, damage) if live else []
    is_wanted = live is not None and live.record is not None and live.record["digest"] == spec.digest
    if live and is_wanted and not damage:
        return Outcome("keep", live, wanted, build=live.name, additions=tuple(additions))
    action, build, theirs = ("repair", None, []) if is_wanted else _build_to_switch_to(spec, hashed, additions)
    dropped = lost_additions(additions, wanted, theirs)
    if dropped and not drop_additions:
        raise _would_lose(spec, dropped, damage if is_wanted else [])
    bytes_to_fetch = 0
    if build is None:
        bytes_to_fetch = _bytes_to_fetch(spec)
        _check_writable(spec.root)
        _check_disk(spec, bytes_to_fetch)
    removed, kept = _superfluous(spec.root, spec.name, build, keep, drop_additions)
    return Outcome(
        action,
        live,
        wanted,
        damage=tuple(damage) if is_wanted else (),
        build=build,
        removed_builds=tuple(build.name for build in removed),
        kept_builds=tuple(build.name for build in kept),
        additions=tuple(theirs),
        dropped=tuple(dropped),
        bytes_to_fetch=bytes_to_fetch,
    )


def _build_to_switch_to(
    spec: EnvironmentSpec, hashed: Container[str], additions: list[Addition]
) -> tuple[str, str | None, list[Addition]]:
    """The action, the newest whole build of the wanted lock (one that has the additions, too, first), what it has."""
    found: list[tuple[str, str | None, list[Addition]]] = []
    for build in reversed(builds_of(spec.root, spec.name)):
        if build.record and build.record["digest"] == spec.digest and not find_damage(build, hashed=hashed):
            theirs = find_added(build)
            if not lost_additions(additions, spec.lock.packages, theirs):
                return "switch", build.name, theirs
            found.append(("switch", build.name, theirs))
    return found[0] if found else ("build", None, [])


def _would_lose(spec: EnvironmentSpec, dropped: list[Addition], damage: list[Damage]) -> BuildError:
    others = [text for package, text in damage if not any(package == addition.name for addition in dropped)]
    why = f" to mend it ({'; '.join(others[:3])})" if others else ""
    return BuildError(
        f"{spec.path} would be built anew{why} and lose what somebody put into it: {listed(dropped)}. "
        f"Nothing was changed. {WAYS_OUT}",
        additions=[addition.text for addition in dropped],
    )


def _superfluous(
    root: str, name: str, live: str | None, keep: int, drop_additions: bool
) -> tuple[list[Build], list[Build]]:
    """The oldest builds beyond `keep`, counting the live one (None: one still to be built); none that is in use.

    Apart from them those that stay, since somebody added something to them.
    """
    others = [build for build in builds_of(root, name) if build.record and build.name != live]
    removed, kept = [], []
    for build in others[: max(0, len(others) - max(0, keep - 1))]:
        if not drop_additions and find_added(build, find_damage(build)):
            kept.append(build)
        elif not processes_using([build.path]):
            removed.append(build)
    return removed, kept


def plan_previous(root: str, name: str) -> Outcome:
    """The build to roll back to: the newest undamaged one that is older than the live one."""
    check_name(name)
    check_root(root)
    live = live_build(root, name)
    if live is None:
        raise BuildError(f"There is no environment {name} in {root}: {_listed(environment_names(root))}.")
    spoiled = []
    for build in reversed(builds_of(root, name)):
        if build.number >= live.number or build.record is None:
            continue
        damage = find_damage(build)
        if not damage:
            theirs = find_added(build)
            # These stay in their build, which is not removed for it.
            left = lost_additions(find_added(live, find_damage(live)), build.packages, theirs)
            return Outcome(
                "rollback", live, build.packages, build=build.name, additions=tuple(theirs), dropped=tuple(left)
            )
        spoiled.append(f"{build.name} ({damage[0].text})")
    tried = f" Damaged builds are not used: {'; '.join(spoiled)}." if spoiled else ""
    raise BuildError(
        f"{name} has no build to roll back to that is older than {live.name}.{tried} "
        "tensorflow_venv_keep says how many builds are kept."
    )


def plan_absent(root: str, name: str) -> Outcome:
    """What removing the environment takes away."""
    check_name(name)
    check_root(root)
    live = live_build(root, name)
    builds = builds_of(root, name)
    if live is None and not builds:
        return Outcome("keep", None, {})
    added = [addition for build in builds if build.record for addition in find_added(build, find_damage(build))]
    return Outcome(
        "remove",
        live,
        {},
        removed_builds=tuple(build.name for build in builds),
        dropped=tuple(dict.fromkeys(added)),
    )


def _bytes_to_fetch(spec: EnvironmentSpec) -> int:
    """Wheel bytes of what no complete build under this root holds yet (the cache has the rest)."""
    held = set()
    for path in glob.glob(os.path.join(glob.escape(spec.root), ".builds", "*", BUILD_RECORD)):
        record = read_record(os.path.dirname(path))
        held |= set(record["packages"].items()) if record else set()
    return sum(d.bytes for d in spec.lock.distributions if (d.name, d.version) not in held)


def _listed(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there are none"


# --------------------------------------------------------------------------------------------- applying


def apply_present(
    spec: EnvironmentSpec,
    *,
    installer: Callable[[], Installer],
    keep: int,
    lock_timeout: float,
    hashes: bool = False,
    drop_additions: bool = False,
    import_timeout: float = 300,
) -> Outcome:
    """Make the environment present. `installer` is called only when something has to be installed."""
    outcome = plan_present(spec, keep=keep, hashes=hashes, drop_additions=drop_additions)
    if outcome.action == "keep":
        if leftovers(spec.root, spec.name):
            # A run that was killed while it removed old builds. One that builds at this moment is left alone.
            with contextlib.suppress(BusyError, UnwritableError):
                with exclusive_lock(_lock_path(spec.root, spec.name), what=spec.path):
                    _sweep(spec.root, spec.name)
        return outcome
    _make_root(spec.root)
    with exclusive_lock(_lock_path(spec.root, spec.name), what=spec.path, wait=lock_timeout):
        # Another run may have done it while this one waited.
        outcome = plan_present(spec, keep=keep, hashes=hashes, drop_additions=drop_additions)
        if outcome.action == "keep":
            return outcome
        seconds: dict[str, float] = {}
        _sweep(spec.root, spec.name)
        if outcome.action == "switch":
            build = Build(os.path.join(spec.root, ".builds", str(outcome.build)), None)
        else:
            build = _build(spec, installer(), import_timeout, seconds)
        _switch(spec.root, spec.name, build.name)
        removed, kept = _superfluous(spec.root, spec.name, build.name, keep, drop_additions)
        for superfluous in removed:
            remove_build(superfluous)
    return replace(
        outcome,
        build=build.name,
        removed_builds=tuple(superfluous.name for superfluous in removed),
        kept_builds=tuple(superfluous.name for superfluous in kept),
        seconds=seconds,
    )


def apply_previous(root: str, name: str, *, lock_timeout: float) -> Outcome:
    plan_previous(root, name)
    with exclusive_lock(_lock_path(root, name), what=os.path.join(root, name), wait=lock_timeout):
        outcome = plan_previous(root, name)
        _switch(root, name, str(outcome.build))
    return outcome


def apply_absent(root: str, name: str, *, lock_timeout: float) -> Outcome:
    outcome = plan_absent(root, name)
    if outcome.action == "keep":
        return outcome
    with exclusive_lock(_lock_path(root, name), what=os.path.join(root, name), wait=lock_timeout):
        outcome = plan_absent(root, name)
        builds = builds_of(root, name)
        users = processes_using([os.path.join(root, name), *(build.path for build in builds)])
        if users:
            raise BuildError(
                f"{os.path.join(root, name)} is in use by {_processes(users)}; nothing was removed. "
                "End these processes and run again.",
                processes=users,
            )
        # The link goes first: a run killed after it leaves unused directories, never a broken environment.
        if os.path.islink(os.path.join(root, name)):
            os.unlink(os.path.join(root, name))
        for build in builds:
            remove_build(build)
        if os.path.lexists(_log_path(root, name)):
            os.unlink(_log_path(root, name))
    return outcome


def lock_in_use(root: str, name: str) -> str:
    """The lock that the environment in use was built from, as it lies in its build."""
    live = live_build(root, name)
    if live is None or live.record is None:
        raise BuildError(f"There is no environment {name} in {root}: {_listed(environment_names(root))}.")
    path = os.path.join(live.path, "lock.txt")
    try:
        text = read_whole(path, _LOCK_BYTES, follow=False).decode("utf-8")
        if parse_lock(text, path=path).sha256 == live.record["lock_sha256"]:
            return text
        found = "is not the one that it was built from"
    except (OSError, ValueError, StackError):
        found = "cannot be read as a lock"
    raise BuildError(f"{path} {found}. Set tensorflow_version, and tensorflow_requirements if a file was applied.")


def _lock_path(root: str, name: str) -> str:
    return os.path.join(root, ".locks", name)


def _log_path(root: str, name: str) -> str:
    return os.path.join(root, ".builds", f"{name}.log")


def _make_root(root: str) -> None:
    for path in (root, os.path.join(root, ".builds")):
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        except OSError as error:
            raise _not_writable(root, str(error.strerror)) from error
    check_root(root)


def _check_writable(root: str) -> None:
    for path in (os.path.join(root, ".builds"), root):
        if os.path.lexists(path):
            if not os.path.isdir(path):
                raise _not_writable(root, f"{path} is no directory")
            if not os.access(path, os.W_OK | os.X_OK):
                raise _not_writable(root, f"user {os.geteuid()} may not write {path}")
            return


def _not_writable(root: str, why: str) -> BuildError:
    return BuildError(
        f"The environments' root {root} cannot be written: {why}. "
        "Set tensorflow_root to a directory of yours, or run as its owner or as root.",
        path=root,
    )


def _check_disk(spec: EnvironmentSpec, bytes_to_fetch: int) -> None:
    place = spec.root
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    needed = bytes_to_fetch * _INSTALLED_PER_WHEEL_BYTE
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise BuildError(
            f"{spec.name} needs about {needed >> 20:,} MiB below {spec.root}, {free >> 20:,} MiB are free. "
            "Free some space, or set tensorflow_root to a larger file system. Nothing was changed.",
            needed_bytes=needed,
            free_bytes=free,
        )


def _build(
    spec: EnvironmentSpec,
    installer: Installer,
    import_timeout: float,
    seconds: dict[str, float],
) -> Build:
    """A complete new build beside the live one; on any failure it is removed again."""
    number = max([build.number for build in builds_of(spec.root, spec.name)] or [0]) + 1
    path = os.path.join(spec.root, ".builds", f"{spec.name}-{spec.digest[:12]}-{number}")
    with BuildLog(_log_path(spec.root, spec.name)) as log:
        try:
            return _fill(spec, installer, path, log, import_timeout, seconds)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise


def _fill(
    spec: EnvironmentSpec,
    installer: Installer,
    path: str,
    log: BuildLog,
    import_timeout: float,
    seconds: dict[str, float],
) -> Build:
    log.say(f"Building {os.path.basename(path)}")
    os.mkdir(path, 0o755)
    started = time.monotonic()
    install(spec, installer, path, log)
    site_packages = os.path.join("lib", "python" + spec.lock.python, "site-packages")
    links = {
        **link_libraries(path, site_packages, spec.library_directories),
        **link_compiler(path, site_packages, spec.cuda_prefixes),
    }
    point_to_compiler(path, site_packages, spec.release)
    build = compare(spec, installer, path, log, lambda: _describe(spec, path, site_packages, links))
    seconds["install"] = round(time.monotonic() - started, 3)
    log.say("Importing TensorFlow from the new build")
    started = time.monotonic()
    import_tensorflow(spec, path, log, timeout=import_timeout)
    seconds["import"] = round(time.monotonic() - started, 3)
    # Without this a power cut after the rename could leave a live build with empty files.
    sync_file_system(path)
    write_json(os.path.join(path, BUILD_RECORD), build.record)
    log.say("Complete")
    return build


def _describe(spec: EnvironmentSpec, path: str, site_packages: str, links: dict[str, str]) -> Build:
    record = {
        "name": spec.name,
        "release": spec.release,
        "flavour": spec.flavour,
        "digest": spec.digest,
        "build": os.path.basename(path),
        "python": {"minor": spec.lock.python, "path": spec.python},
        "cuda": spec.cuda,
        "cudnn": spec.cudnn,
        "lock_sha256": spec.lock.sha256,
        "packages": spec.lock.packages,
        "site_packages": site_packages,
        "links": links,
        "frame": describe_frame(path),
        "top_level": sorted(os.listdir(os.path.join(path, site_packages))),
        "outside": sorted([*outside_entries(path), BUILD_RECORD]),
        **describe_records(path, site_packages, spec.lock.packages),
    }
    return Build(path, record)


def _switch(root: str, name: str, build: str) -> None:
    temporary = os.path.join(root, ".builds", f".{name}.link")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(os.path.join(".builds", build), temporary)
    os.replace(temporary, os.path.join(root, name))
    sync_directory(root)


def _sweep(root: str, name: str) -> None:
    """Remove what killed runs left behind; the caller holds the lock, so nobody is building."""
    for build in leftovers(root, name):
        shutil.rmtree(build.path)


def _processes(pids: list[int]) -> str:
    return ("process " if len(pids) == 1 else "processes ") + ", ".join(str(pid) for pid in pids)
