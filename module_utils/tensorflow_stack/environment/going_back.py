"""Where a rollback leads: to what was in use before the last change, by the history of the root."""

from __future__ import annotations

import os
from typing import Any

from ..errors import BuildError
from ..io.clock import timestamp
from ..records import manifest
from ..records.additions import lost_additions
from ..records.build import BUILD_RECORD, read_record
from ..records.environment import check_name
from ..records.history import (
    Position,
    builds_before,
    completed,
    is_of_earlier_version,
    positions_before,
    positions_left,
)
from .builds import Build, builds_of, environment_names, live_build
from .changes import EnvironmentOutcome, listed_environments
from .damage import compare_build, find_added, find_damage
from .in_use import find_position
from .root import check_root

_SHOWN = 5


def read_history(root: str) -> tuple[list[dict[str, Any]], Position | None]:
    """The history as the next run completes it, and what is in use."""
    content = manifest.read(root)
    position = find_position(root, content)
    now = timestamp()
    return completed(content.get("history", []), position, at=now), position


def plan_previous(root: str, name: str | None = None) -> EnvironmentOutcome:
    """The rollback to what was in use before, with a name to the build of that environment that was.

    Reads only. A build that is gone or damaged is passed over, with the reason.
    """
    check_root(root)
    entries, in_use = read_history(root)
    if name is None:
        candidates, from_here = _of_the_root(root, entries, in_use), in_use
    else:
        check_name(name)
        candidates, from_here = _of_one(root, entries, name)
    passed_over: list[str] = []
    for position in candidates:
        path = os.path.join(root, ".builds", position.build)
        build = Build(path, read_record(path))
        reason = _why_not(root, position, build)
        if reason is None:
            return _outcome(root, build, position, from_here, named=name, in_use=in_use, passed_over=passed_over)
        passed_over.append(f"{position.build} ({reason})")
    raise BuildError(_nothing_left(root, name, from_here, passed_over))


def next_back(root: str) -> Position | None:
    """What a rollback would switch to, without a look at the files of the build."""
    entries, in_use = read_history(root)
    candidates = _of_the_root(root, entries, in_use)
    return next(
        (row for row in candidates if os.path.exists(os.path.join(root, ".builds", row.build, BUILD_RECORD))), None
    )


def _of_the_root(root: str, entries: list[dict[str, Any]], in_use: Position | None) -> list[Position]:
    found = positions_before(entries)
    if in_use is None:
        # After a removal everything is better than nothing, also what an earlier rollback left.
        found += [position for position in positions_left(entries) if position not in found]
    return found + _unrecorded(root, entries, in_use)


def _of_one(root: str, entries: list[dict[str, Any]], name: str) -> tuple[list[Position], Position]:
    live = live_build(root, name)
    if live is None:
        raise BuildError(f"There is no environment {name} in {root}: {listed_environments(environment_names(root))}.")
    from_here = Position(name, live.name)
    found = [Position(name, build) for build in builds_before(entries, name, live.name)]
    earlier = [position for position in _unrecorded(root, entries, from_here) if position.environment == name]
    return found + earlier, from_here


def _unrecorded(root: str, entries: list[dict[str, Any]], from_here: Position | None) -> list[Position]:
    """Builds that were built before this one by an earlier version of this toolkit, which wrote no history."""
    if not is_of_earlier_version(entries):
        return []
    # The record of a build is written last, and never again.
    times = {
        Position(name, build.name): os.stat(os.path.join(build.path, BUILD_RECORD)).st_mtime_ns
        for name in environment_names(root)
        for build in builds_of(root, name)
        if build.record
    }
    start = times.get(from_here) if from_here else None
    known = {*positions_left(entries), from_here}
    latest_first = sorted(times, key=times.__getitem__, reverse=True)
    return [row for row in latest_first if row not in known and (start is None or times[row] < start)]


def _why_not(root: str, position: Position, build: Build) -> str | None:
    if not os.path.isdir(build.path):
        return "was removed"
    if build.record is None:
        return "is not complete"
    try:
        live_build(root, position.environment)
    except BuildError as error:
        return error.message
    damage = find_damage(build)
    return damage[0].text if damage else None


def _outcome(
    root: str,
    build: Build,
    position: Position,
    from_here: Position | None,
    *,
    named: str | None,
    in_use: Position | None,
    passed_over: list[str],
) -> EnvironmentOutcome:
    before, left = None, []
    theirs = find_added(build, compare_build(build))
    if from_here:
        path = os.path.join(root, ".builds", from_here.build)
        before = Build(path, read_record(path))
        # These stay in their build, which is not removed for it.
        if before.record:
            left = lost_additions(find_added(before, compare_build(before)), build.packages, theirs)
    return EnvironmentOutcome(
        "rollback",
        before,
        build.packages,
        build=build.name,
        additions=tuple(theirs),
        dropped=tuple(left),
        target=position.environment,
        walked_back=named is None or (in_use is not None and in_use.environment == named),
        passed_over=tuple(passed_over),
    )


def _nothing_left(root: str, name: str | None, from_here: Position | None, passed_over: list[str]) -> str:
    if name is None and from_here is None and not passed_over:
        return f"Nothing was applied below {root} yet, so there is nothing to roll back to."
    where = f"{name} has no build" if name else f"There is nothing below {root}"
    than = f" that was in use before {from_here.build}" if from_here else ""
    more = f" and {len(passed_over) - _SHOWN} more" if len(passed_over) > _SHOWN else ""
    tried = f" Not usable: {'; '.join(passed_over[:_SHOWN])}{more}." if passed_over else ""
    return (
        f"{where} to roll back to{than}.{tried} tensorflow_keep sets the number of builds of an environment to keep; "
        "`make history` lists what was in use."
    )
