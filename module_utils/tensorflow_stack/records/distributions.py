"""The distributions in a site-packages: their names and versions, and what their RECORDs list."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
from typing import Iterable, Mapping, Sequence

from ..errors import hide_credentials
from ..io.reading import read_json, read_whole

RECORD_BYTES = 64 << 20
METADATA_BYTES = 8 << 20
_SHA256_BYTES = 32

_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info\Z")
# What an installer notes for itself beside what the wheel brought.
_INSTALLERS_OWN = re.compile(r"\.dist-info/(INSTALLER|REQUESTED|direct_url\.json|uv_\w+\.json)\Z")


def distributions_in(entries: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """By normalised name the version and .dist-info of each distribution among the names in a site-packages."""
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in sorted(entries):
        matched = _DIST_INFO.match(entry)
        if matched and not entry.startswith("~"):  # pip calls half removed ones so
            found.setdefault(normalised(matched.group("name")), []).append((matched.group("version"), entry))
    return found


def read_rows(record: str) -> list[list[str]] | None:
    """The rows of a RECORD: path, hash, size. None where it cannot be read as one."""
    try:
        return parse_rows(read_whole(record, RECORD_BYTES, follow=False))
    except (OSError, ValueError, csv.Error):
        return None


def parse_rows(content: bytes) -> list[list[str]]:
    """The rows of a RECORD; ValueError or csv.Error where it is none."""
    text = content.decode("utf-8")
    if "\0" in text:
        raise ValueError("it has a NUL, which no path has")
    # Twice as fast as the reader, which is needed if a name has a comma or a line ends otherwise.
    is_quoted = '"' in text or "\r" in text
    rows = csv.reader(io.StringIO(text, newline="")) if is_quoted else [line.split(",") for line in text.split("\n")]
    return [row for row in rows if len(row) == 3]


def record_fields(content: bytes) -> tuple[str, str]:
    """Hash and size of a file as a RECORD has them."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
    return f"sha256={digest}", str(len(content))


def hex_sha256(field: str) -> str | None:
    """The sha256 that a row of a RECORD has, in the usual form; None if it has none."""
    algorithm, _, digest = field.partition("=")
    try:
        raw = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
    except ValueError:
        return None
    return raw.hex() if algorithm == "sha256" and len(raw) == _SHA256_BYTES else None


def read_requirements(dist_info: str) -> set[str]:
    """The normalised names of what a distribution requires, without its extras; none where that cannot be read."""
    try:
        metadata = read_whole(os.path.join(dist_info, "METADATA"), METADATA_BYTES, follow=False).decode("utf-8")
    except (OSError, ValueError):
        return set()
    header = metadata.replace("\r\n", "\n").partition("\n\n")[0]
    return {
        normalised(line.group("name"))
        for line in re.finditer(r"^Requires-Dist: *(?P<name>[A-Za-z0-9._-]+)(?P<rest>.*)$", header, re.MULTILINE)
        if "extra" not in line.group("rest").partition(";")[2]
    }


def contents_digest(rows: list[list[str]]) -> str:
    """Over what came out of the wheel: without bytecode, start scripts, and what an installer notes for itself."""
    own = [
        row
        for row in rows
        if row[2] and not row[0].endswith(".pyc") and not row[0].startswith("..") and not _INSTALLERS_OWN.search(row[0])
    ]
    return hashlib.sha256(json.dumps(sorted(own)).encode("utf-8")).hexdigest()


def listing_digest(sizes: Mapping[str, int]) -> str:
    """Over the names and sizes of a distribution's files in site-packages, as a wheel's list of files has them, too."""
    own = sorted(
        (path, size)
        for path, size in sizes.items()
        if not path.startswith("..") and not path.endswith(".pyc") and ".dist-info/" not in path
    )
    return hashlib.sha256(json.dumps(own).encode("utf-8")).hexdigest()


def sizes_in(rows: Iterable[Sequence[str]]) -> dict[str, int]:
    """Path to size, of the rows of a RECORD that have a size."""
    return {row[0]: int(row[2]) for row in rows if re.fullmatch("[0-9]{1,18}", row[2])}


def read_origin(dist_info: str, rows: Iterable[Sequence[str]]) -> str | None:
    """Where a distribution came from, if an installer noted it: not from an index, but a path, a URL or a repository.

    What was installed from an index has no such note (PEP 610).
    """
    path = os.path.join(dist_info, "direct_url.json")
    if not os.path.lexists(path):
        is_editable = any(os.path.basename(row[0]).startswith("__editable__") for row in rows)
        return "an editable install" if is_editable else None
    try:
        noted = read_json(path, METADATA_BYTES, follow=False)
        url = hide_credentials(str(noted["url"]))
        info = noted.get("dir_info") or {}
        if info.get("editable"):
            return f"an editable install of {url}"
        return f"{noted['vcs_info']['vcs']}+{url}" if noted.get("vcs_info") else url
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "a place that its direct_url.json does not say"


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_same_version(left: str, right: str) -> bool:
    # A directory name spells a version as its wheel did ("2022.07.01"), a lock in normal form ("2022.7.1").
    return _plain_version(left) == _plain_version(right)


def _plain_version(version: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", version.lower().replace("_", "+").replace("-", "+"))
