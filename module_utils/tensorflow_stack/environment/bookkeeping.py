"""What the node's manifest says of an environment, and what a run that was stopped left to do."""

from __future__ import annotations

import os
from typing import Any

from ..errors import StackError
from ..records import manifest
from .builds import Build, builds_of, live_build
from .root import check_program, check_root

_OF_THE_BUILD = ("release", "flavour", "build", "digest", "python", "lock_sha256")


def record_in_manifest(root: str, name: str, built_for: dict[str, str | None] | None = None) -> bool:
    """Bring the environment's entry in the node's manifest up to date; returns whether it was not.

    `built_for` has the requirements file of a build, None for the release alone. The manifest follows the disk: a run
    killed between the switch and this is made good by the next one.
    """
    if not os.path.isdir(os.path.join(root, ".builds")):
        return False
    live = live_build(root, name)
    builds = [build.name for build in builds_of(root, name) if build.record]

    def change(content: dict[str, Any]) -> None:
        if live is None or live.record is None:
            content["environments"].pop(name, None)
            if content.get("current") == name:
                content["current"] = None
            return
        _fill_entry(content["environments"].setdefault(name, {"check": None}), live.record, builds, built_for or {})
        content["current"] = name

    return manifest.update(root, change)


def _fill_entry(
    entry: dict[str, Any], record: dict[str, Any], builds: list[str], built_for: dict[str, str | None]
) -> None:
    for key in _OF_THE_BUILD:
        entry[key] = record[key]
    entry["builds"] = builds
    known = entry.get("requirements")
    files = {**(known if isinstance(known, dict) else {}), **built_for}
    entry["requirements"] = {build: files[build] for build in builds if build in files}


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
    _fill_entry(after, build.record, [other.name for other in builds_of(root, name) if other.record], {})
    if before != after:
        found.append(f"manifest.json does not say what is in {name}")
    try:
        check_root(root)
        check_program(os.path.join(build.path, "bin", "python"))
    except StackError as error:
        found.append(error.message)
    return found
