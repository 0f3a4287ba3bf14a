"""What a run would do to an environment: reads only, and refuses what doing it would refuse."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import Container, Iterable

from ..errors import BuildError
from ..io.processes import processes_using
from ..io.space import check_free_space, is_noexec
from ..io.uv import cached_wheels
from ..records.additions import WAYS_OUT, Addition, listed, lost_additions, projects_of
from ..records.build import BUILD_RECORD, read_record
from ..records.environment import EnvironmentSpec, check_name
from ..records.history import CURRENT_LINK
from . import images
from .builds import Build, builds_of, environment_names, live_build
from .damage import Damage, compare_build, find_added
from .root import check_program, check_root

# Installed bytes (bytecode included) over wheel bytes: 2.6 for TensorFlow 2.8.0 (1,417 MB from 553 MB of wheels).
_INSTALLED_PER_WHEEL_BYTE = 3


@dataclass(frozen=True)
class EnvironmentOutcome:
    """What was or, in check mode, would be done to one environment."""

    action: str  # keep, build, repair, switch, rollback, remove
    before: Build | None  # the one in use: of this environment, or, of a rollback, what was applied last
    after_packages: dict[str, str]
    damage: tuple[Damage, ...] = ()
    build: str | None = None
    removed_builds: tuple[str, ...] = ()
    # Of those beyond `keep`, what stays because something was added to it.
    kept_builds: tuple[str, ...] = ()
    # What somebody added to the build that is in use afterwards, and what the one before had and this one has not.
    additions: tuple[Addition, ...] = ()
    dropped: tuple[Addition, ...] = ()
    # What somebody had added to the build before.
    found: tuple[Addition, ...] = ()
    bytes_to_fetch: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    # Of a rollback: the environment that it switches to, whether along the history, and which builds could not be
    # used.
    target: str | None = None
    walked_back: bool = False
    passed_over: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.action != "keep"


def plan_present(
    spec: EnvironmentSpec, *, keep: int = 2, hashes: bool = False, drop_additions: bool = False
) -> EnvironmentOutcome:
    """What has to be done so that the environment is there; reads only, and refuses what applying would refuse."""
    check_name(spec.name)
    check_root(spec.root)
    check_program(spec.python)
    live = live_build(spec.root, spec.name)
    wanted = spec.lock.packages
    hashed = wanted if hashes else ()
    compared = compare_build(live, hashed=hashed) if live else None
    damage = compared.damage if compared else []
    additions = find_added(live, compared) if live else []
    is_wanted = live is not None and spec.is_made_of(live.record)
    if live and is_wanted and not damage:
        return EnvironmentOutcome("keep", live, wanted, build=live.name, additions=tuple(additions))
    action, build, theirs = ("repair", None, []) if is_wanted else _build_to_switch_to(spec, hashed, additions)
    dropped = lost_additions(additions, wanted, theirs, named=projects_of(spec.lock.added))
    if dropped and not drop_additions:
        raise _would_lose(spec, dropped, damage if is_wanted else [])
    bytes_to_fetch = 0
    if build is None:
        if spec.image:
            images.check_can_mount()
        bytes_to_fetch = _bytes_to_fetch(spec)
        _check_writable(spec.root)
        check_free_space(
            spec.root,
            bytes_to_fetch * (1 if spec.image else _INSTALLED_PER_WHEEL_BYTE),
            what=spec.name,
            setting="set tensorflow_root to a larger file system",
        )
    removed, kept = superfluous_builds(spec, build, keep, None if drop_additions else theirs, before=live)
    return EnvironmentOutcome(
        action,
        live,
        wanted,
        damage=tuple(damage) if is_wanted else (),
        build=build,
        removed_builds=tuple(build.name for build in removed),
        kept_builds=tuple(build.name for build in kept),
        additions=tuple(theirs),
        dropped=tuple(dropped),
        found=tuple(additions),
        bytes_to_fetch=bytes_to_fetch,
    )


def _build_to_switch_to(
    spec: EnvironmentSpec, hashed: Container[str], additions: list[Addition]
) -> tuple[str, str | None, list[Addition]]:
    """The action, the newest whole build of the wanted lock (one that has the additions, too, first), what it has."""
    found: list[tuple[str, str | None, list[Addition]]] = []
    for build in reversed(builds_of(spec.root, spec.name)):
        if not spec.is_made_of(build.record):
            continue
        compared = compare_build(build, hashed=hashed)
        if not compared.damage:
            theirs = find_added(build, compared)
            if not lost_additions(additions, spec.lock.packages, theirs, named=projects_of(spec.lock.added)):
                return "switch", build.name, theirs
            found.append(("switch", build.name, theirs))
    return found[0] if found else ("build", None, [])


def _would_lose(spec: EnvironmentSpec, dropped: list[Addition], damage: list[Damage]) -> BuildError:
    others = [text for package, text in damage if not any(package == addition.name for addition in dropped)]
    why = f" to repair it ({'; '.join(others[:3])})" if others else ""
    return BuildError(
        f"{spec.path} would be built again{why} and lose what somebody added to it: {listed(dropped)}. "
        f"Nothing was changed. {WAYS_OUT}",
        additions=[addition.text for addition in dropped],
    )


def superfluous_builds(
    spec: EnvironmentSpec,
    live: str | None,
    keep: int,
    additions: Iterable[Addition] | None,
    *,
    before: Build | None,
) -> tuple[list[Build], list[Build]]:
    """The oldest builds beyond `keep`, counting the live one (None: one still to be built); none that is in use.

    What was live `before` is the last of them to go, also if it is older than others: a rollback leads there.
    Apart from them those that stay, because somebody added something to them that the live one does not have: neither
    its lock nor its own `additions`. If these are None, that is no reason.
    """
    others = [build for build in builds_of(spec.root, spec.name) if build.record and build.name != live]
    others.sort(key=lambda build: before is not None and build.name == before.name)
    removed, kept = [], []
    for build in others[: max(0, len(others) - max(0, keep - 1))]:
        theirs = [] if additions is None else find_added(build, compare_build(build))
        if lost_additions(theirs, spec.lock.packages, additions or ()):
            kept.append(build)
        elif not processes_using([build.path]):
            removed.append(build)
    return removed, kept


def plan_absent(root: str, name: str) -> EnvironmentOutcome:
    """What removing the environment takes away."""
    # An earlier version of this toolkit allowed that name.
    if name != CURRENT_LINK or name not in environment_names(root):
        check_name(name)
    check_root(root)
    live = live_build(root, name)
    builds = builds_of(root, name)
    if live is None and not builds:
        return EnvironmentOutcome("keep", None, {})
    added = [addition for build in builds if build.record for addition in find_added(build, compare_build(build))]
    return EnvironmentOutcome(
        "remove",
        live,
        {},
        removed_builds=tuple(build.name for build in builds),
        dropped=tuple(dict.fromkeys(added)),
    )


def _bytes_to_fetch(spec: EnvironmentSpec) -> int:
    """Of the image, or of the wheels that neither a complete build under this root nor uv's cache holds yet."""
    if spec.image:
        return 0 if images.has_file(spec.root, spec.image) else int(spec.image["bytes"])
    held = cached_wheels(os.path.join(spec.root, ".cache", "uv"), spec.lock.python)
    for path in glob.glob(os.path.join(glob.escape(spec.root), ".builds", "*", BUILD_RECORD)):
        record = read_record(os.path.dirname(path))
        held |= set(record["packages"].items()) if record else set()
    return sum(d.bytes for d in spec.lock.distributions if (d.name, d.version) not in held)


def listed_environments(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there are none"


def _check_writable(root: str) -> None:
    if is_noexec(root):
        raise BuildError(
            f"The environments' root {root} is on a file system that is mounted noexec, so no Python starts there. "
            "Set tensorflow_root to a directory of another one, or mount it with exec. Nothing was changed.",
            path=root,
        )
    for path in (os.path.join(root, ".builds"), root):
        if os.path.lexists(path):
            if not os.path.isdir(path):
                raise not_writable(root, f"{path} is no directory")
            if not os.access(path, os.W_OK | os.X_OK):
                raise not_writable(root, f"user {os.geteuid()} may not write {path}")
            return


def not_writable(root: str, why: str) -> BuildError:
    return BuildError(
        f"The environments' root {root} cannot be written: {why}. "
        "Set tensorflow_root to a directory of yours, or run as its owner or as root.",
        path=root,
    )
