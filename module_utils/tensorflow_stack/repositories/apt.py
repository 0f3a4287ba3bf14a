"""Repositories of apt: one entry each, with its own key; entries in its way disabled; refreshed and judged."""

from __future__ import annotations

import os
import re
import time
import urllib.parse
from dataclasses import dataclass
from typing import Iterator, Sequence

from ..errors import StackError
from ..io.commands import Completed
from .apt_sources import (
    Entry,
    disable,
    entries_of_distribution,
    further_components,
    is_at,
    read_entries,
    stanza,
)
from .common import SignedRepository, VerificationError, Work, describe, run_when_unlocked

_SOURCES = "/etc/apt/sources.list"
_SOURCES_DIRECTORY = "/etc/apt/sources.list.d"
_KEYS_DIRECTORY = "/etc/apt/keyrings"
_PACKAGED_KEYS_DIRECTORY = "/usr/share/keyrings"
# By Valid-Until and Date of a Release file, compared with the clock.
_OUT_OF_DATE = re.compile(r"(is expired|is not valid yet) \(invalid ")
_FAILURE = re.compile(r"E: |W: .*(?:Failed to fetch|GPG error)|W: An error occurred")


@dataclass(frozen=True)
class _Index:
    """An index that a refresh has to fetch."""

    name: str
    url: str
    suite: str = ""
    components: frozenset[str] = frozenset()

    def is_named_in(self, line: str) -> bool:
        """apt names `URL suite`, or the URL of a file; of a flat repository the URL without its last slash."""
        suite = f"(?: |/dists/){re.escape(self.suite)}" if self.suite else ""
        return re.search(re.escape(self.url.rstrip("/")) + "/?" + suite + r"(?![\w.%-])", line) is not None


@dataclass(frozen=True)
class _Target:
    """A list of packages that apt has on disk."""

    url: str
    suite: str
    component: str
    origin: str
    refreshed: float  # when apt last compared it with the repository


class AptRepositories:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._indexes: list[_Index] = []

    def add(self, repository: SignedRepository) -> None:
        work = self._work
        key_path = f"{_KEYS_DIRECTORY}/{repository.name}.asc"
        own_path = f"{_SOURCES_DIRECTORY}/{repository.name}.sources"
        work.provide_key(key_path, repository)
        uri = _uri_of(repository.url)
        reason = f"the same repository is in {own_path}, with its own key"
        for path, entries in self._entries(own_path).items():
            found = [entry for entry in entries if _is_in_the_way(entry, set(repository.places))]
            if found:
                text = disable(self._text(path), found, set(repository.places), reason)
                work.files.edit(path, text.encode("utf-8", "surrogateescape"))
            for entry in found:
                options = " ".join(f"{name}: {value}" for name, value in entry.options.items() if "\n" not in value)
                shown = " ".join([*entry.types, *entry.uris, *entry.suites]) + (f" ({options})" if options else "")
                work.report(path, shown, "disabled, " + reason)
        work.files.write(own_path, stanza([uri], ["/"], [], {"Signed-By": key_path}).encode())
        self._drop_retired_keys(key_path, repository)
        self._indexes.append(_Index(f"The repository {repository.url}", uri))

    def add_components(self, components: Sequence[str]) -> None:
        """The distribution's own repositories with these components, too, at the addresses of its other ones."""
        own_path = f"{_SOURCES_DIRECTORY}/tensorflow-gpu-stack-{'-'.join(components)}.sources"
        distribution, codename = self._distribution()
        entries = [entry for found in self._entries(own_path).values() for entry in found]
        origins = {(target.url.rstrip("/"), target.suite): target.origin for target in self._targets()}
        own = entries_of_distribution(entries, distribution, codename, origins)
        if not own:
            raise StackError(
                f"The requested packages are in {' and '.join(components)} of {distribution} {codename}, but no enabled"
                f" entry of its own archive was found in {_SOURCES} and {_SOURCES_DIRECTORY}. Add one that has these"
                " components, and run again."
            )
        text = further_components(own, entries, components, codename)
        if text:
            self._work.files.write(own_path, text.encode())
        else:
            self._work.files.remove(own_path)
        release = next((entry for entry in own if codename in entry.suites), own[0])
        url, suite = release.uris[0], codename if codename in release.suites else release.suites[0]
        name = f"The repository {url} {suite} with {' and '.join(components)}"
        self._indexes.append(_Index(name, url, suite, frozenset(components)))

    @property
    def is_changed(self) -> bool:
        return bool(self._work.files)

    def refreshed_at(self) -> float:
        """When the oldest of the indexes was last compared with its repository; 0 if one does not exist."""
        targets = self._targets()
        return min((_refreshed(index, targets) for index in self._indexes), default=time.time())

    def diff(self) -> list[dict[str, str]]:
        return self._work.files.diff(describe)

    def apply(self, *, lock_timeout: float) -> None:
        """Change everything, or nothing if an index is not as it has to be afterwards."""
        with self._work.files.written():
            self._refresh(lock_timeout)

    def _refresh(self, lock_timeout: float) -> None:
        # The clock of a file system's times is a few milliseconds behind.
        started = time.time() - 1
        # As an option apt-get that does not know it ignores it; without it a repository that is down is no error.
        command = ["apt-get", "update", "-o", "APT::Update::Error-Mode=any"]
        ended = run_when_unlocked(lambda: self._work.run(command), _lock_holder, lock_timeout)
        failures = [line for line in ended.lines if _FAILURE.match(line)]
        targets = self._targets()
        for index in self._indexes:
            reasons = [line for line in failures if index.is_named_in(line)]
            if reasons or _refreshed(index, targets) < started:
                text = "; ".join(dict.fromkeys(reasons or failures)) or "apt-get update fetched no list of its packages"
                raise VerificationError(
                    f"{index.name} cannot be used: {text.rstrip('.')}. The node's lists of repositories and keys are"
                    f" unchanged. {_remedy(text)}",
                    cmd=command,
                    rc=ended.code,
                    stderr="\n".join(failures),
                )
        self._work.warnings += [f"apt-get update reports of another repository: {line}" for line in failures]

    def _targets(self) -> list[_Target]:
        ended = self._work.run(["apt-get", "indextargets", "Created-By: Packages"])
        return [] if ended.code else list(_read_targets(ended.lines))

    def _entries(self, own_path: str) -> dict[str, list[Entry]]:
        paths = [_SOURCES, *self._work.names_in(_SOURCES_DIRECTORY, (".list", ".sources"))]
        return {path: read_entries(path, self._text(path)) for path in paths if path != own_path}

    def _distribution(self) -> tuple[str, str]:
        """Its id and the codename of its release."""
        text = self._text("/etc/os-release")
        names = dict(re.findall(r"""^(ID|VERSION_CODENAME)=["']?([\w.-]+)""", text, re.M))
        if len(names) != 2:
            raise StackError(
                "/etc/os-release has no ID and VERSION_CODENAME, so the distribution's own entries cannot be "
                "recognised."
            )
        return names["ID"], names["VERSION_CODENAME"]

    def _text(self, path: str) -> str:
        return (self._work.files.read(path) or b"").decode("utf-8", "surrogateescape")

    def _drop_retired_keys(self, key_path: str, repository: SignedRepository) -> None:
        """Not from files of packages, which would restore them; none of the remaining entries trusts such a file."""
        endings = (".gpg", ".asc")
        work = self._work
        found = [*work.names_in("/etc/apt/trusted.gpg.d", endings), *work.names_in(_KEYS_DIRECTORY, endings)]
        if work.files.read("/etc/apt/trusted.gpg"):
            found.append("/etc/apt/trusted.gpg")
        for path in work.names_in(_PACKAGED_KEYS_DIRECTORY, endings):
            if work.run(["dpkg-query", "--search", path]).code != 0:
                found.append(path)
        work.drop_retired_keys([path for path in found if path != key_path], repository)


def _uri_of(url: str) -> str:
    """As apt reads a repository. One in a directory is copied: apt's links to `file:` do not say when it read it."""
    parts = urllib.parse.urlsplit(url)
    return "copy:" + urllib.parse.unquote(parts.path) if parts.scheme == "file" else url


def _is_in_the_way(entry: Entry, places: set[str]) -> bool:
    return any(is_at(uri, suite, places) for uri in entry.uris for suite in entry.suites)


def _remedy(failure: str) -> str:
    if _OUT_OF_DATE.search(failure):
        return (
            "Its list of packages is only valid for a time. Set the clock of the node if that is wrong. Otherwise"
            " whoever keeps that mirror has to renew it; until then set nvidia_repository_url to another one (for the"
            " distribution's, correct its entry)."
        )
    return (
        "If it is not reachable from the node, set nvidia_repository_url to a mirror that is (for the distribution's,"
        " correct its entry); if it is signed by another key that you trust, set nvidia_repository_fingerprints to that"
        " one's."
    )


def _refreshed(index: _Index, targets: Sequence[_Target]) -> float:
    found = [target for target in targets if target.url == index.url.rstrip("/") + "/" and target.suite == index.suite]
    if not found or not index.components <= {target.component for target in found}:
        return 0
    return min(target.refreshed for target in found)


def _read_targets(lines: Sequence[str]) -> Iterator[_Target]:
    fields: dict[str, str] = {}
    for line in [*lines, ""]:
        if line.strip():
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield _Target(
                url=fields["Repo-URI"],
                suite=fields.get("Release", "").strip("/"),
                component=fields.get("Component", ""),
                origin=fields.get("Origin", ""),
                refreshed=_changed_at(fields["Filename"], fields["MetaKey"]),
            )
            fields = {}


def _changed_at(filename: str, key: str) -> float:
    """When apt last accepted the signed index; it touches nothing of it if the repository is down.

    By the status change: the modification time is the server's.
    """
    repository = filename.rpartition("_" + key.replace("/", "_"))[0]
    indexes = [f"{repository}_{name}" for name in ("InRelease", "Release")]
    return max((os.stat(path).st_ctime for path in indexes if os.path.exists(path)), default=0)


def _lock_holder(ended: Completed) -> str:
    return next((line for line in ended.lines if "Could not get lock" in line), "")
