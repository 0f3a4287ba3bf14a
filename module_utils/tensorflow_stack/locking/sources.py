"""What a source distribution requires and is built with, read from its files: none of its code runs here."""

from __future__ import annotations

import email.parser
import lzma
import os
import re
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from ..errors import LockError
from ..io.downloads import Source

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_BYTES = 64 << 20
# Of a file in it.
_MOST_TEXT = 1 << 20
_MOST_UNPACKED = 1 << 30
# By what the archives of the standard library say that something is none.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
# What builds a source distribution that does not say.
# fact: setuptools 82 has no pkg_resources, which the setup.py of many old ones imports; 2026-11-22
_BUILT_WITH = ("setuptools<82", "wheel")


@dataclass(frozen=True)
class SourceRecord:
    """One source distribution: what it requires, and what it is built with."""

    name: str
    version: str
    requires: tuple[str, ...]
    built_with: tuple[str, ...]

    @property
    def metadata_row(self) -> str:
        """For the setting `dependency-metadata` of uv."""
        requires = ", ".join(_quoted(text) for text in self.requires)
        return f'{{name = "{self.name}", version = "{self.version}", requires-dist = [{requires}]}}'


def read_source(name: str, version: str, archive: Mapping[str, Any], source: Source) -> SourceRecord:
    """`archive` is what uv says of the file: `url` and `hashes`."""
    what = f"the source distribution of {name} {version}"
    sha256, size = archive["hashes"].get("sha256"), archive.get("size")
    if sha256 is None or (size or 0) > _MOST_BYTES:
        raise LockError(f"{what} has no sha256 on the index, or is over {_MOST_BYTES >> 20} MiB: it is not built.")
    with tempfile.TemporaryDirectory(prefix="tensorflow-source-") as directory:
        path = os.path.join(directory, "archive")
        source.save(archive["url"], path, what=what, sha256=sha256, size=size)
        try:
            texts = _texts(path)
        except _UNREADABLE as error:
            raise LockError(f"{what} cannot be unpacked: {error}.") from error
    return SourceRecord(name, version, _requires(texts), _built_with(texts))


def _texts(path: str) -> dict[str, str]:
    """The files that say something of it, without the directory that everything is in."""
    found = {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if _is_told(member.filename) and member.file_size <= _MOST_TEXT:
                    found[member.filename] = archive.read(member)
    else:
        with tarfile.open(path) as tar:
            for row in tar:
                if row.offset_data + row.size > _MOST_UNPACKED:
                    raise ValueError(f"it unpacks to more than {_MOST_UNPACKED >> 20} MiB")
                is_text = row.isfile() and _is_told(row.name) and row.size <= _MOST_TEXT
                stream = tar.extractfile(row) if is_text else None
                if stream is not None:
                    found[row.name] = stream.read()
    return {name.partition("/")[2]: raw.decode("utf-8", "replace") for name, raw in found.items()}


def _is_told(name: str) -> bool:
    return re.fullmatch(r"[^/]+/(PKG-INFO|pyproject\.toml|(.+/)?[^/]+\.egg-info/requires\.txt)", name) is not None


def _requires(texts: Mapping[str, str]) -> tuple[str, ...]:
    header = email.parser.HeaderParser().parsestr(texts.get("PKG-INFO", ""))
    listed = [str(text) for text in header.get_all("Requires-Dist") or ()]
    if not listed:
        listed = [row for name, text in sorted(texts.items()) if name.endswith("requires.txt") for row in _rows(text)]
    return tuple(dict.fromkeys(text for text in map(_normal, listed) if text))


def _rows(text: str) -> list[str]:
    """The lines of an egg's requires.txt: its sections are extras and markers, `[extra:marker]`."""
    rows, marker = [], ""
    for line in filter(None, map(str.strip, text.splitlines())):
        section = re.fullmatch(r"\[([^:\]]*)(?::(.*))?\]", line)
        if section is None:
            rows.append(f"{line}; {marker}" if marker else line)
            continue
        parts = [f"extra == '{section[1]}'" if section[1] else "", f"({section[2]})" if section[2] else ""]
        marker = " and ".join(filter(None, parts))
    return rows


def _normal(text: str) -> str | None:
    try:
        return str(Requirement(text))
    except InvalidRequirement:
        return None


def _built_with(texts: Mapping[str, str]) -> tuple[str, ...]:
    try:
        system = tomllib.loads(texts.get("pyproject.toml", "")).get("build-system", {})
    except (tomllib.TOMLDecodeError, RecursionError):
        system = {}
    requires = system.get("requires") if isinstance(system, dict) else None
    own = [text for text in map(_normal, map(str, requires if isinstance(requires, list) else ())) if text]
    return tuple(dict.fromkeys((*own, *_BUILT_WITH)))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
