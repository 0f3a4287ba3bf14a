"""The lists of repositories that apt reads, one-line and deb822: found entries, disabled entries, new ones. Pure."""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from dataclasses import dataclass, replace
from typing import Iterator, Mapping, Sequence

_ONE_LINE = re.compile(r"\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)")
_OFF = ("no", "false", "without", "off", "disable")
_ALIASES = ("stable", "oldstable", "oldoldstable", "testing")
# One-line options that deb822 calls otherwise; their values are lists.
_LISTS = {
    "arch": "Architectures",
    "arch+": "Architectures-Add",
    "arch-": "Architectures-Remove",
    "lang": "Languages",
    "target": "Targets",
}
_MARK = "# Disabled by tensorflow-gpu-stack: "


@dataclass(frozen=True)
class Entry:
    """An enabled entry: a line, or a stanza. `options` have the names and the text of deb822."""

    path: str
    start: int
    end: int
    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: Mapping[str, str]


def read_entries(path: str, text: str) -> list[Entry]:
    return list((_stanzas if path.endswith(".sources") else _lines)(path, text.splitlines()))


def place_of(url: str, suite: str = "/") -> str:
    """What tells a flat repository apart, however its URL is written."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return host + posixpath.normpath(posixpath.join("/", parts.path.lstrip("/"), suite.strip("/")))


def is_at(uri: str, suite: str, places: set[str]) -> bool:
    return suite.endswith("/") and place_of(uri, suite) in places


def disable(text: str, entries: Sequence[Entry], places: set[str], reason: str) -> str:
    """The text of a file without what `entries` (of that file) have at `places`; what they have elsewhere stays."""
    lines = text.splitlines()
    for entry in sorted(entries, key=lambda entry: -entry.start):
        old = lines[entry.start : entry.end]
        if not entry.path.endswith(".sources"):
            new = [_MARK + reason, *("# " + line for line in old)]
        else:
            kept = [uri for uri in entry.uris if not any(is_at(uri, suite, places) for suite in entry.suites)]
            name, value = ("URIs", " ".join(kept)) if kept else ("Enabled", "no")
            new = [*_without_field(old, name), _MARK + reason, f"{name}: {value}"]
        lines[entry.start : entry.end] = new
    return "\n".join(lines) + "\n"


def stanza(uris: Sequence[str], suites: Sequence[str], components: Sequence[str], options: Mapping[str, str]) -> str:
    fields = {"Types": "deb", "URIs": " ".join(uris), "Suites": " ".join(suites)}
    if components:
        fields["Components"] = " ".join(components)
    return "".join(f"{name}: {value}\n" for name, value in {**fields, **options}.items())


def entries_of_distribution(
    entries: Sequence[Entry], distribution: str, codename: str, origins: Mapping[tuple[str, str], str]
) -> list[Entry]:
    """Those of its own packages (debian, ubuntu), with only the suites of release, updates and security.

    `origins` are what the indexes at hand say of themselves, by URI (without a slash at its end) and suite. Without an
    index a key that is not the distribution's tells a foreign entry.
    """
    own = {name + end for name in (codename, *_ALIASES) for end in ("", "-updates", "-security", "/updates")}
    archive_key = distribution + "-archive"
    found = []
    for entry in entries:
        suites = tuple(suite for suite in entry.suites if suite in own)
        indexes = {(uri.rstrip("/"), suite) for uri in entry.uris for suite in suites}
        found_origins = {origins[index].lower() for index in indexes if index in origins}
        is_own = (
            found_origins == {distribution}
            if found_origins
            else archive_key in entry.options.get("Signed-By", archive_key)
        )
        if "deb" in entry.types and "main" in entry.components and suites and is_own:
            found.append(replace(entry, suites=suites))
    return found


def further_components(own: Sequence[Entry], entries: Sequence[Entry], wanted: Sequence[str], codename: str) -> str:
    """Stanzas that add the wanted components to the distribution's own entries; empty if the release has them."""

    def missing(entry: Entry) -> list[str]:
        have = {
            component
            for other in entries
            if "deb" in other.types and set(entry.uris) <= set(other.uris) and set(entry.suites) <= set(other.suites)
            for component in other.components
        }
        return [component for component in wanted if component not in have]

    releases = [entry for entry in own if {codename, *_ALIASES} & set(entry.suites)]
    if any(not missing(entry) for entry in releases):
        return ""
    texts = [stanza(entry.uris, entry.suites, missing(entry), entry.options) for entry in own if missing(entry)]
    return "\n".join(dict.fromkeys(texts))


def _lines(path: str, lines: Sequence[str]) -> Iterator[Entry]:
    for number, line in enumerate(lines):
        match = _ONE_LINE.match(line)
        if match and not match.group(3).startswith("cdrom:"):
            kind, options, uri, suite, components = match.groups()
            named = {}
            for option in (options or "").split():
                name, _, value = option.partition("=")
                named[_LISTS.get(name, name.title())] = value.replace(",", " ") if name in _LISTS else value
            yield Entry(path, number, number + 1, (kind,), (uri,), (suite,), tuple(components.split()), named)


def _stanzas(path: str, lines: Sequence[str]) -> Iterator[Entry]:
    start = 0
    for end in range(len(lines) + 1):
        if end < len(lines) and lines[end].strip():
            continue
        fields = _fields(lines[start:end])
        if fields and fields.pop("Enabled", "yes").strip().lower() not in _OFF:
            types, uris, suites, components = (
                tuple(fields.pop(name, "").split()) for name in ("Types", "Uris", "Suites", "Components")
            )
            yield Entry(path, start, end, types, uris, suites, components, fields)
        start = end + 1


def _fields(lines: Sequence[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith("#"):
            continue
        if line[0] in " \t":
            fields[name] = fields.get(name, "") + "\n" + line
        else:
            name, _, value = line.partition(":")
            name = name.strip().title()
            fields[name] = value.strip()
    return fields


def _without_field(lines: Sequence[str], name: str) -> list[str]:
    kept, dropping = [], False
    for line in lines:
        if not line.startswith((" ", "\t", "#")):
            dropping = line.partition(":")[0].strip().lower() == name.lower()
        if not dropping or line.startswith("#"):
            kept.append(line)
    return kept
