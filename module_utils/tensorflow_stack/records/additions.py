"""What a person put into a build beside its lock, or in place of it: theirs, and not to be lost without a word.

Found from the names in the build's directories, which cost nothing to list. Only what was added is opened, for the
files that belong to it.
"""

from __future__ import annotations

import os
from typing import Any, Container, Iterable, Mapping, NamedTuple, Sequence

from .distributions import distributions_in, is_same_version, normalised, read_requirements, read_rows

_SHOWN = 8
# What a person runs on an environment and TensorFlow never imports: another version is named, and nothing to repair.
TOOLS = frozenset({"pip"})
WAYS_OUT = (
    "Name them in a requirements file (tensorflow_requirements), build another environment "
    "(tensorflow_environment), or set tensorflow_additions to drop to continue without them."
)


class Addition(NamedTuple):
    """A distribution with its version, or a file or directory (None). `replaces`: the version that the lock has."""

    name: str
    version: str | None = None
    replaces: str | None = None

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


def find_additions(path: str, record: Mapping[str, Any], installed_again: Container[str] = ()) -> list[Addition]:
    """What was added to the build at `path` or replaced in it; distributions that others required come last of these.

    `record` is its build.json; `installed_again` are distributions that are not the lock's though their version is.
    """
    below = record["site_packages"]
    site_packages = os.path.join(path, below)
    try:
        entries = set(os.listdir(site_packages))
    except OSError:
        return []
    added: list[Addition] = []
    required: set[str] = set()
    replaced: list[Addition] = []
    theirs: set[str] = set()
    for name, found in distributions_in(entries).items():
        locked = record["packages"].get(name)
        for version, entry in found:
            if locked is None:
                added.append(Addition(_shown(name), _shown(version)))
                required |= read_requirements(os.path.join(site_packages, entry))
            elif not is_same_version(version, locked):
                replaced.append(Addition(name, _shown(version), locked))
            elif name in installed_again:
                replaced.append(Addition(name, locked, locked))
            else:
                continue
            theirs |= {entry, *_entries_of(below, read_rows(os.path.join(site_packages, entry, "RECORD")) or [])}
    files = entries - set(record["top_level"]) - theirs
    # A build of an earlier version of this toolkit does not say what else was in its directory.
    if "outside" in record:
        files |= set(outside_entries(path)) - set(record["outside"]) - theirs
    loose = [
        Addition(_shown(name))
        for name in sorted(files)
        if not (_is_passing(name) or _is_empty(os.path.join(site_packages if name in entries else path, name)))
    ]
    added.sort(key=lambda addition: addition.name in required)
    return added + loose + replaced


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


def _is_passing(entry: str) -> bool:
    """What Python, pip (`~` is what an uninstall left) and file systems leave behind."""
    name = os.path.basename(entry)
    return name == "__pycache__" or name.startswith(("~", "."))


def _is_empty(path: str) -> bool:
    """A directory without a file: an uninstall leaves those of what it removed, and bytecode in them."""
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    return not any(not file.endswith(".pyc") for _, _, files in os.walk(path) for file in files)


def _shown(name: str) -> str:
    """A name as it can be said: one may hold bytes that are no text, or what a terminal would obey."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def lost_additions(
    additions: Iterable[Addition], packages: Mapping[str, str], kept: Iterable[Addition] = ()
) -> list[Addition]:
    """Which of them an environment of `packages`, with `kept` added to it, does not have."""
    kept = set(kept)
    return [addition for addition in additions if addition not in kept and not _is_among(addition, packages)]


def _is_among(addition: Addition, packages: Mapping[str, str]) -> bool:
    if addition.is_tool:
        return True
    locked = packages.get(normalised(addition.name))
    if addition.version is None or locked is None:
        return False
    # Whoever adds wants it to be there; whoever replaces wants that version.
    is_other = addition.replaces != addition.version
    return addition.replaces is None or (is_other and is_same_version(addition.version, locked))


def listed(additions: Sequence[Addition]) -> str:
    """For a message: the first of them, and how many more."""
    shown = ", ".join(addition.text for addition in additions[:_SHOWN])
    return shown + (f" and {len(additions) - _SHOWN} more" if len(additions) > _SHOWN else "")
