"""The files of a package index that a bundle has, and the pages that serve them as an index of their own."""

from __future__ import annotations

import html
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.parser import HeaderParser
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ..errors import StackError
from ..io.downloads import Source
from ..io.index import MOST_BYTES, read_page, sha256_of
from ..io.reading import read_json
from ..io.writing import write_text
from .fetching import Wanted
from .manifest import BundledFile
from .needs import BundleNeed, describe, project_of

DIRECTORY = "wheels"
PAGES = "simple"
_THREADS = 8
_API = "1.1"  # fact: PEP 700, 2022-10-21
_JSON = {"meta": {"api-version": _API}}
# Of glibc, from the one of manylinux1 on; newer than any that a wheel asks for today.
_GLIBC_MINORS = range(5, 60)
# What a page says of a file beside its address.
_SAID = ("requires-python", "size", "upload-time", "yanked")
Row = dict[str, Any]


def find_wheels(
    source: Source, needs: Sequence[BundleNeed], *, fits: Callable[[str], bool] = lambda name: True
) -> tuple[list[Wanted], dict[str, Row]]:
    """The files of an index that have the digests of the needs, and by file name what its pages say of them."""
    by_project: dict[str, list[BundleNeed]] = {}
    for need in needs:
        by_project.setdefault(need.name, []).append(need)
    with ThreadPoolExecutor(_THREADS) as pool:
        pages = dict(zip(by_project, pool.map(lambda name: read_page(source, name), by_project), strict=True))
    wanted: dict[str, Wanted] = {}
    said: dict[str, Row] = {}
    missing = []
    for project, rows in pages.items():
        by_digest = {sha256_of(row): row for row in rows or () if fits(row["filename"])}
        for need in by_project[project]:
            found = [digest for digest in need.sha256s if digest in by_digest]
            if not found:
                missing.append(need)
            for digest in found:
                row = by_digest[digest]
                file = _wanted(need, row, digest, source)
                wanted[file.path] = file
                said[row["filename"]] = {key: row[key] for key in _SAID if row.get(key) is not None}
    if missing:
        raise StackError(
            f"The package index {source.shown} has no file of {describe(missing)} with a hash of the lock. Set "
            "tensorflow_index_url to one that has, or make the lock again with playbooks/lock.yml."
        )
    return list(wanted.values()), said


def _wanted(need: BundleNeed, row: Mapping[str, Any], digest: str, source: Source) -> Wanted:
    # The size in a lock is that of one of its wheels.
    size = row.get("size") or (need.bytes if len(need.sha256s) == 1 else None)
    kind = "wheel" if row["filename"].endswith(".whl") else "source"
    url = row["url"]
    return Wanted(f"{DIRECTORY}/{row['filename']}", url, digest, size or None, source, kind, need.name, need.version)


# --- The controller's own tools -------------------------------------------------------------------


def needs_of_tools(text: str, minors: Sequence[str]) -> list[BundleNeed]:
    """Of a lock in requirements/, what some of these Pythons install."""
    needs = []
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        requirement, *hashes = re.split(r" --hash=sha256:", line.partition(" # ")[0].strip())
        if not hashes:
            continue
        wish = Requirement(requirement)
        if wish.marker is None or any(wish.marker.evaluate(_marker_values(minor)) for minor in minors):
            version = str(wish.specifier).removeprefix("==")
            needs.append(BundleNeed("wheel", wish.name, version, tuple(digest.strip() for digest in hashes)))
    return needs


def _marker_values(minor: str) -> dict[str, str]:
    values = {"python_version": minor, "python_full_version": f"{minor}.0", "implementation_version": f"{minor}.0"}
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    names = {"platform_python_implementation": "CPython", "implementation_name": "cpython"}
    return {**{key: str(value) for key, value in default_environment().items()}, **linux, **names, **values}


def fitting(minors: Sequence[str], architecture: str) -> Callable[[str], bool]:
    """Whether a file is a wheel for one of these Pythons on a Linux with glibc."""
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in reversed(_GLIBC_MINORS)]
    platforms += [f"{name}_{architecture}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    tags: set[Tag] = set()
    for minor in minors:
        version = tuple(map(int, minor.split(".")))
        tags |= {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}

    def fits(filename: str) -> bool:
        try:
            return bool(parse_wheel_filename(filename)[3] & tags)
        except InvalidWheelFilename:
            return False

    return fits


# --- Pages ----------------------------------------------------------------------------------------


def write_pages(directory: str, files: Iterable[BundledFile], said: Mapping[str, Row]) -> list[str]:
    """The pages of an index of these files; their paths below the bundle."""
    by_project: dict[str, list[BundledFile]] = {}
    for file in files:
        by_project.setdefault(project_of(os.path.basename(file.path)), []).append(file)
    written = []
    for project, ones in sorted(by_project.items()):
        before = _rows_of(os.path.join(directory, PAGES, project, "index.json"))
        rows = [
            {
                **before.get(os.path.basename(file.path), {}),
                **said.get(os.path.basename(file.path), {}),
                "filename": os.path.basename(file.path),
                "url": f"../../{file.path}",
                "hashes": {"sha256": file.sha256},
                "size": file.bytes,
            }
            for file in sorted(ones, key=lambda one: one.path)
        ]
        versions = sorted({str(file.version) for file in ones})
        page = json.dumps({**_JSON, "name": project, "versions": versions, "files": rows}, indent=1)
        written += _write_page(directory, f"{PAGES}/{project}", page, "".join(map(_anchor, rows)), project)
    names = "".join(f'<a href="{name}/">{name}</a><br>\n' for name in sorted(by_project))
    projects = json.dumps({**_JSON, "projects": [{"name": name} for name in sorted(by_project)]}, indent=1)
    return written + _write_page(directory, PAGES, projects, names, "Package index")


def paths_of_pages(files: Iterable[BundledFile]) -> list[str]:
    """The pages of the index that lead to these files."""
    names = {project_of(os.path.basename(file.path)) for file in files if file.kind in ("wheel", "source")}
    return [f"{PAGES}/{name}/{page}" for name in sorted(names) for page in ("index.html", "index.json")]


def _anchor(row: Row) -> str:
    python = row.get("requires-python")
    attribute = f' data-requires-python="{html.escape(python)}"' if python else ""
    address = f"{row['url']}#sha256={row['hashes']['sha256']}"
    return f'<a href="{html.escape(address)}"{attribute}>{html.escape(row["filename"])}</a><br>\n'


def _write_page(directory: str, place: str, as_json: str, body: str, title: str) -> list[str]:
    os.makedirs(os.path.join(directory, place), mode=0o755, exist_ok=True)
    meta = f'<meta name="pypi:repository-version" content="{_API}">'
    page = f"<!DOCTYPE html>\n<html><head>{meta}<title>{title}</title>"
    texts = {"index.html": f"{page}</head><body>\n{body}</body></html>\n", "index.json": as_json + "\n"}
    for name, text in texts.items():
        write_text(os.path.join(directory, place, name), text)
    return [f"{place}/{name}" for name in texts]


def _rows_of(path: str) -> dict[str, Row]:
    """What a page of the bundle says already, by file name."""
    try:
        rows = read_json(path, MOST_BYTES)["files"]
        return {str(row["filename"]): {key: row[key] for key in _SAID if key in row} for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# --- Licenses -------------------------------------------------------------------------------------


def license_of(path: str) -> str | None:
    """What a wheel's METADATA says: an SPDX expression, else its classifiers, else a short text; None without any."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            fields = HeaderParser().parsestr(archive.read(names[0]).decode("utf-8", "replace")) if names else None
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, struct.error, zlib.error):
        return None
    if fields is None:
        return None
    rows = [str(text) for text in fields.get_all("Classifier", [])]
    classifiers = [text.rpartition(" :: ")[2] for text in rows if text.startswith("License")]
    text = str(fields["License"] or "").strip()
    known = [name for name in classifiers if name != "OSI Approved"]
    return str(fields["License-Expression"] or "") or " and ".join(known) or (text if 0 < len(text) < 100 else None)
