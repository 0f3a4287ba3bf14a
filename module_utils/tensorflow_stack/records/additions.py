"""What a person put into a build beside its lock, or in place of it: theirs, and not to be lost without a word.

Found from the names in the build's directories, which cost nothing to list. Only what was added is opened, for the
files that belong to it.
"""

from __future__ import annotations

import os
import re
from typing import Any, Container, Iterable, Mapping, NamedTuple, Sequence

from .distributions import (
    distributions_in,
    is_same_version,
    listing_digest,
    normalised,
    read_origin,
    read_requirements,
    read_rows,
    sizes_in,
)

_SHOWN = 8
# What a person runs on an environment and TensorFlow never imports: another version is named, and nothing to repair.
TOOLS = frozenset({"pip"})
WAYS_OUT = (
    "Name them in a requirements file (tensorflow_requirements), build another environment "
    "(tensorflow_environment), or set tensorflow_additions to drop to continue without them."
)
CARRY = "Set tensorflow_additions to keep to build them in at their versions."


class Addition(NamedTuple):
    """A distribution with its version, or a file or directory (None). `replaces`: the version that the lock has.

    `origin` is where it came from, None for a package index; `listing` a digest of its files' names and sizes.
    `is_required`: another addition requires it.
    """

    name: str
    version: str | None = None
    replaces: str | None = None
    origin: str | None = None
    listing: str | None = None
    is_required: bool = False

    @property
    def is_tool(self) -> bool:
        """A tool of the lock at another version: a new build may have that of the lock again."""
        return self.name in TOOLS and self.replaces is not None

    @property
    def text(self) -> str:
        if self.replaces is None:
            return f"{self.name} {self.version}" if self.version else self.name
        if self.replaces == self.version:
            return f"{self.name} {self.version} was installed again, but not from the lock"
        return f"{self.name} is {self.version}, not {self.replaces}"


def find_additions(
    path: str, record: Mapping[str, Any], installed_again: Container[str] = (), inside: Iterable[str] = ()
) -> list[Addition]:
    """What was added to the build at `path` or replaced in it; distributions that others required come last of these.

    `record` is its build.json; `installed_again` are distributions that are not the lock's though their version is;
    `inside` are files and directories that no distribution lists, in those of packages.
    """
    below = record["site_packages"]
    site_packages = os.path.join(path, below)
    try:
        entries = set(os.listdir(site_packages))
    except OSError:
        return []
    added: list[Addition] = []
    requires: dict[str, set[str]] = {}
    replaced: list[Addition] = []
    theirs: set[str] = set()
    for name, found in distributions_in(entries).items():
        locked = record["packages"].get(name)
        for version, entry in found:
            is_other = locked is not None and not is_same_version(version, locked)
            if locked is not None and not is_other and name not in installed_again:
                continue
            dist_info = os.path.join(site_packages, entry)
            rows = read_rows(os.path.join(dist_info, "RECORD")) or []
            source = (_origin(dist_info, rows), listing_digest(sizes_in(rows)) if rows else None)
            if locked is None:
                added.append(Addition(_shown(name), _shown(version), None, *source))
                requires[name] = read_requirements(dist_info)
            else:
                replaced.append(Addition(name, _shown(version) if is_other else locked, locked, *source))
            theirs |= {entry, *_entries_of(below, rows)}
    files = entries - set(record["top_level"]) - theirs
    # A build of an earlier version of this toolkit does not say what else was in its directory.
    if "outside" in record:
        files |= set(outside_entries(path)) - set(record["outside"]) - theirs
    loose = [
        Addition(_shown(name))
        for name in sorted(files)
        if not (is_passing(name) or is_empty(os.path.join(site_packages if name in entries else path, name)))
    ]
    required = _required(requires)
    loose += [Addition(_shown(name)) for name in sorted(inside)]
    added = [addition._replace(is_required=normalised(addition.name) in required) for addition in added]
    added.sort(key=lambda addition: addition.is_required)
    return added + loose + replaced


def _required(requires: Mapping[str, set[str]]) -> set[str]:
    """Those that come with another one. Of some that only require each other the first comes by itself."""
    everything = set().union(*requires.values()) if requires else set()
    found: set[str] = set()
    roots: set[str] = set()
    for name in sorted(requires, key=lambda name: (name in everything, name)):
        if name in found:
            continue
        roots.add(name)
        waiting = [name]
        while waiting:
            wanted = requires[waiting.pop()] & requires.keys() - found - roots
            found |= wanted
            waiting += sorted(wanted)
    return found


def _origin(dist_info: str, rows: Sequence[Sequence[str]]) -> str | None:
    origin = read_origin(dist_info, rows)
    return None if origin is None else _shown(origin)


def outside_entries(path: str) -> list[str]:
    """What lies in a build's directory beside site-packages: names there, and programs in `bin`."""
    programs = os.path.join(path, "bin")
    return [*os.listdir(path), *(f"bin/{name}" for name in (os.listdir(programs) if os.path.isdir(programs) else ()))]


def _entries_of(below: str, rows: Iterable[Sequence[str]]) -> set[str]:
    """What a distribution brought of site-packages (`below` its build), of `bin` and of the build's directory."""
    start = below.split(os.sep)
    entries = set()
    for row in rows:
        parts = os.path.normpath(os.path.join(below, row[0])).split(os.sep)
        if parts[: len(start)] == start:
            entries.update(parts[len(start) : len(start) + 1])
        else:
            entries.add("/".join(parts[:2]) if parts[0] == "bin" else parts[0])
    return entries


def is_passing(entry: str) -> bool:
    """What Python, pip (`~` is what an uninstall left) and file systems leave behind."""
    name = os.path.basename(entry)
    return name == "__pycache__" or name.startswith(("~", "."))


def is_empty(path: str) -> bool:
    """A directory without a file: an uninstall leaves those of what it removed, and bytecode in them."""
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    return not any(not file.endswith(".pyc") for _, _, files in os.walk(path) for file in files)


def _shown(name: str) -> str:
    """A name as it can be said: one may hold bytes that are no text, or what a terminal would obey."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def lost_additions(
    additions: Iterable[Addition],
    packages: Mapping[str, str],
    kept: Iterable[Addition] = (),
    *,
    named: Container[str] = (),
) -> list[Addition]:
    """Which of them an environment of `packages`, with `kept` added to it, does not have.

    `named` are projects that were added to its lock by name: which of them to take was decided then.
    """
    kept = set(kept)
    return [addition for addition in additions if addition not in kept and not _is_among(addition, packages, named)]


def _is_among(addition: Addition, packages: Mapping[str, str], named: Container[str]) -> bool:
    if addition.is_tool:
        return True
    project = normalised(addition.name)
    locked = packages.get(project)
    if addition.version is None or locked is None:
        return False
    if project in named:
        return True
    # Of an index's package and one from elsewhere only the name need be the same.
    if addition.origin is not None:
        return False
    # Whoever adds wants it to be there; whoever replaces wants that version.
    is_other = addition.replaces != addition.version
    return addition.replaces is None or (is_other and is_same_version(addition.version, locked))


def projects_of(lines: Iterable[str]) -> set[str]:
    """The normalised names of requirements."""
    return {normalised(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines}


def line_of(addition: Addition) -> str:
    """The requirement that an addition becomes where it is carried into a lock."""
    return f"{normalised(addition.name)}=={addition.version}"


def listed(additions: Sequence[Addition]) -> str:
    """For a message: the first of them, and how many more."""
    shown = ", ".join(addition.text for addition in additions[:_SHOWN])
    return shown + (f" and {len(additions) - _SHOWN} more" if len(additions) > _SHOWN else "")
