"""What the package index has of a project: for which Pythons a requirement has wheels, and whether only sources."""

from __future__ import annotations

import enum
import functools
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from ..io.downloads import Source
from ..io.index import read_page
from ..io.uv import DEFAULT_INDEX, INDEX_VARIABLE
from .inputs import GLIBC_MINOR

_THREADS = 16
# The oldest patch of each minor that a supported system has. Projects exclude older ones: torch 1.8 wants >=3.6.2.
# fact: RHEL 8, Debian 10, Ubuntu 20.04, Debian 11, Ubuntu 22.04, Debian 12, Ubuntu 24.04, 2026-11-27
_OLDEST_PATCHES = {"3.6": 8, "3.7": 3, "3.8": 10, "3.9": 2, "3.10": 4, "3.11": 2, "3.12": 3}


class Lack(enum.Enum):
    """Why nothing of a project fits a target."""

    PROJECT = "no such project"
    VERSION = "no such version"
    LOCAL = "a build of another index"
    WHEEL = "sources alone"
    PYTHON = "wheels for other Pythons"
    PLATFORM = "wheels for other systems"


def full_version(python: str) -> str:
    """The version of a minor that wheels have to support."""
    return f"{python}.{_OLDEST_PATCHES.get(python, 0)}"


@dataclass(frozen=True)
class IndexFile:
    """A wheel, or a source distribution if it has no tags."""

    filename: str
    version: Version
    tags: frozenset[Tag]
    requires_python: SpecifierSet

    @property
    def is_wheel(self) -> bool:
        return bool(self.tags)

    def fits(self, python: str, architecture: str) -> bool:
        # uv ignores where a Requires-Python ends: dataclasses 0.8 says <3.7, and many files have it.
        begins = SpecifierSet(",".join(str(one) for one in self.requires_python if one.operator not in ("<", "<=")))
        is_supported = begins.contains(full_version(python))
        return is_supported and not self.tags.isdisjoint(_tag_set(python, architecture))


@dataclass(frozen=True)
class Offer:
    """What the index has for one requirement and target; `lack` is None if a wheel fits.

    `pythons` are those that have wheels, of the ones asked about. `nearest` is a version without a wheel, such as the
    one that was asked for.
    """

    lack: Lack | None
    pythons: tuple[str, ...] = ()
    nearest: str | None = None


@dataclass
class Offers:
    """Reads each project's page of the index once, as of `cutoff`."""

    index_url: str | None
    cutoff: str
    opener: Any = None
    _pages: dict[str, tuple[IndexFile, ...] | None] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def read(self, projects: Iterable[str]) -> None:
        """Read the pages of these projects at once, so that later questions need not wait."""
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self.files, dict.fromkeys(projects)))

    def files(self, project: str) -> tuple[IndexFile, ...] | None:
        """Its files that are not yanked, None if the index does not know the project."""
        with self._guard:
            if project in self._pages:
                return self._pages[project]
        files = self._read(project)
        with self._guard:
            self._pages[project] = files
        return files

    def of(self, requirement: Requirement, python: str, architecture: str, pythons: Sequence[str] = ()) -> Offer:
        """What there is for `requirement`; `pythons` are other ones that might do."""
        files = self.files(str(canonicalize_name(requirement.name)))
        if files is None:
            return Offer(Lack.PROJECT)
        asked = [file for file in files if requirement.specifier.contains(file.version, prereleases=True)]
        if any(file.fits(python, architecture) for file in asked):
            return Offer(None)
        public = without_local_version(requirement)
        if not asked:
            has_public = public is not None and self.of(public, python, architecture).lack is None
            return Offer(Lack.LOCAL if has_public else Lack.VERSION)
        newest = str(max(file.version for file in asked))
        others = tuple(minor for minor in pythons if any(file.fits(minor, architecture) for file in asked))
        usable = [file for file in asked if _is_for_system(file, architecture)]
        if others or usable:
            return Offer(Lack.PYTHON, others, newest)
        has_sources = any(not file.is_wheel for file in asked)
        return Offer(Lack.WHEEL if has_sources else Lack.PLATFORM, nearest=newest)

    def _read(self, project: str) -> tuple[IndexFile, ...] | None:
        url = self.index_url or os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX
        source = Source(url, name="package index", settings="tensorflow_index_url", opener=self.opener)
        rows = read_page(source, project)
        if rows is None:
            return None
        files = [_file(row, project) for row in rows if not row.get("yanked") and self._is_early(row)]
        return tuple(file for file in files if file is not None)

    def _is_early(self, row: Mapping[str, Any]) -> bool:
        uploaded = row.get("upload-time")
        # Both are UTC, and alike up to the second.
        return uploaded is None or uploaded[:19] < self.cutoff[:19]


def without_local_version(requirement: Requirement) -> Requirement | None:
    """`torch==2.4.1` for `torch==2.4.1+cu124`, None for a requirement without a local version."""
    specifiers = [str(specifier).partition("+")[0] for specifier in requirement.specifier]
    if not any("+" in str(specifier) for specifier in requirement.specifier):
        return None
    public = Requirement(str(requirement))
    public.specifier = SpecifierSet(",".join(specifiers))
    return public


@functools.lru_cache(maxsize=64)
def _tag_set(python: str, architecture: str) -> frozenset[Tag]:
    return frozenset(target_tags(python, architecture))


def target_tags(python: str, architecture: str) -> list[Tag]:
    """The wheel tags that the target takes, best first."""
    version = [int(part) for part in python.split(".")]
    interpreter = f"cp{version[0]}{version[1]}"
    abi = interpreter + ("m" if version < [3, 8] else "")
    platforms = _platforms(architecture)
    return [
        *cpython_tags(python_version=version, abis=[abi], platforms=platforms),
        *compatible_tags(python_version=version, interpreter=interpreter, platforms=platforms),
    ]


def _platforms(architecture: str) -> list[str]:
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    oldest = 5 if architecture == "x86_64" else 17
    platforms = []
    for minor in range(GLIBC_MINOR, oldest - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{architecture}")
        if minor in legacy:
            platforms.append(f"{legacy[minor]}_{architecture}")
    return [*platforms, f"linux_{architecture}"]


def _is_for_system(file: IndexFile, architecture: str) -> bool:
    """Is it a wheel for some Python 3 on Linux?"""
    platforms = {*_platforms(architecture), "any"}
    return any(tag.platform in platforms and not tag.interpreter.startswith(("py2", "cp2")) for tag in file.tags)


def _file(row: Mapping[str, Any], project: str) -> IndexFile | None:
    filename = row["filename"]
    tags: frozenset[Tag] = frozenset()
    try:
        if filename.endswith(".whl"):
            name, version, _, tags = parse_wheel_filename(filename)
        else:
            name, version = parse_sdist_filename(filename)
        requires_python = SpecifierSet(row.get("requires-python") or "")
        requires_python.contains("3")  # what has thousands of digits can be compared with nothing
    except ValueError:  # for what is no name, version or specifier, and for thousands of digits
        return None
    if name != project:
        return None
    return IndexFile(filename, version, tags, requires_python)
