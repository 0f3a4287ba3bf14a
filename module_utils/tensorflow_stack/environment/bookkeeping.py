"""What the node's manifest says of an environment, and what a run that was stopped left to do."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import StackError
from ..io.clock import timestamp
from ..records import history, manifest
from ..records.history import Position
from .builds import Build, builds_of, live_build
from .in_use import find_position, is_others, point_to, position_of, read_link
from .root import check_program, check_root

_OF_THE_BUILD = ("release", "flavour", "build", "digest", "python", "lock_sha256")


@dataclass(frozen=True)
class Done:
    """What a run did to one environment."""

    action: str
    before: str | None  # the build that its link pointed to
    by: str | None = None
    walked_back: bool = False
    # Of builds: the requirements file on the controller (None for the release alone), and the variables that were set.
    requirements: dict[str, str | None] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)


def record_in_manifest(root: str, name: str, done: Done) -> bool:
    """Point `<root>/current` to what was applied last, and bring the manifest up to date; returns whether it was not.

    Both follow the environment's link: what a run left that was killed after its switch is completed by the next one.
    """
    if not os.path.isdir(os.path.join(root, ".builds")):
        return False
    _claim_link(root, name)
    now = timestamp()

    def change(content: dict[str, Any]) -> None:
        in_use = manifest.name_in_use(content, read_link(root))
        before = position_of(root, in_use)
        if in_use == name:
            # By now its link points elsewhere, or is gone.
            before = Position(name, done.before) if done.before else None
        live = live_build(root, name)
        if live is not None and live.record is not None:
            after: Position | None = Position(name, live.name)
            builds = [build.name for build in builds_of(root, name) if build.record]
            _fill_entry(content["environments"].setdefault(name, {"check": None}), live, builds, done)
        else:
            after = None if before is None or before.environment == name else before
            content["environments"].pop(name, None)
        entries = history.completed(content.get("history", []), before, at=now)
        if after != before or done.action == "remove":
            entry = history.make_entry(
                done.action if done.action != "keep" else "switch",
                environment=name,
                before=before,
                after=after,
                at=now,
                by=done.by,
                walked_back=done.walked_back,
            )
            entries = history.with_entry(entries, entry)
        content.update(history=entries, current=after and after.environment)
        if not is_others(root, content, content["current"]):
            point_to(root, content["current"])

    return manifest.update(root, change)


def with_notes_of_before(done: Done, root: str, name: str, build: str) -> Done:
    """A build from the lock of the one before it was asked for by the same file and variables."""
    entry = manifest.read(root)["environments"].get(name, {})

    def known(key: str) -> dict[str, Any]:
        notes = entry.get(key)
        return {build: notes[done.before]} if isinstance(notes, dict) and done.before in notes else {}

    return replace(done, requirements=known("requirements"), asked=known("asked"))


def without_credentials(url: str) -> str:
    """An address for a file that others may read: without user and password, and without its query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _claim_link(root: str, name: str) -> None:
    """Note that `<root>/current` is this toolkit's, before it makes it: it never changes what others made."""

    def change(content: dict[str, Any]) -> None:
        if not content.get("has_current_link") and not is_others(root, content, name):
            content["has_current_link"] = True

    manifest.update(root, change)


def _fill_entry(entry: dict[str, Any], live: Build, builds: list[str], done: Done) -> None:
    record = live.record or {}
    for key in _OF_THE_BUILD:
        entry[key] = record[key]
    entry["builds"] = builds
    for key, noted in (("requirements", done.requirements), ("asked", done.asked)):
        known = entry.get(key)
        known = {**(known if isinstance(known, dict) else {}), **noted}
        entry[key] = {build: known[build] for build in builds if build in known}


def leftovers(root: str, name: str) -> list[Build]:
    """Builds that were never completed."""
    live = live_build(root, name)
    return [build for build in builds_of(root, name) if build.record is None and (not live or build.name != live.name)]


def find_unfinished(root: str, build: Build, content: dict[str, Any]) -> list[str]:
    """What `tensorflow_venv` would still do to, or refuse of, an environment that is whole; reads only.

    `build` is the complete one in use, `content` is the manifest.
    """
    if build.record is None:
        return [f"{build.name} is not complete"]
    name = build.record["name"]
    found = [f"{leftover.name} was never completed" for leftover in leftovers(root, name)]
    before = content["environments"].get(name)
    after = dict(before or {})
    _fill_entry(after, build, [other.name for other in builds_of(root, name) if other.record], Done("keep", None))
    if before != after:
        found.append(f"manifest.json does not say what is in {name}")
    found += _unrecorded(root, name, content)
    try:
        check_root(root)
        check_program(os.path.join(build.path, "bin", "python"))
    except StackError as error:
        found.append(error.message)
    return found


def _unrecorded(root: str, name: str, content: dict[str, Any]) -> list[str]:
    """What is not yet as it should be of the environment that was applied last."""
    position = find_position(root, content)
    if position is None or position.environment != name:
        return []
    entries = content.get("history", [])
    found = []
    if not is_others(root, content, name) and (read_link(root) != name or not content.get("has_current_link")):
        found.append(f"{os.path.join(root, history.CURRENT_LINK)} does not point to {name}")
    if not entries or history.read_position(entries[-1]["after"]) != position:
        found.append(f"the history does not end with {position.build}")
    return found
