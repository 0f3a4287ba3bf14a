"""Two distributions that install one path: whichever comes second spoils the first. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

from .wheel_files import FileList

# NVIDIA's wheels of one library for several CUDAs lie in one directory, nvidia/<library>.
_LIBRARY_OF_CUDA = re.compile(r"(?P<library>nvidia-.+)-cu\d+")


@dataclass(frozen=True)
class Clash:
    """`paths` are what both install with different contents, libraries first; none where only their names tell."""

    first: str
    second: str
    paths: tuple[str, ...] = ()

    @property
    def shares_library(self) -> bool:
        return any(map(_is_library, self.paths[:1]))

    def __str__(self) -> str:
        if not self.paths:
            return "both install the same library of NVIDIA into one directory (by their names: no list of files)"
        others = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"both install {self.paths[0]}{others}, with different contents"


def find_clashes(files: Mapping[str, FileList], unread: Collection[str] = ()) -> list[Clash]:
    """Pairs of distributions that cannot be installed together, sorted by name.

    The same contents at one path harm nobody: namespace packages bring empty `__init__.py`. Bytecode is the
    interpreter's to rewrite. `unread` are names whose files are not known.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for name in sorted(files):
        for path in files[name]:
            if not path.endswith(".pyc"):
                owners[path].append(name)
    paths: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, names in owners.items():
        for first, second in combinations(names, 2):
            if files[first][path] != files[second][path]:
                paths[first, second].append(path)
    for first, second in combinations(sorted({*files, *unread}), 2):
        if (first in unread or second in unread) and _is_one_library(first, second):
            paths[first, second] = []
    return [Clash(*pair, tuple(sorted(shared, key=_telling))) for pair, shared in sorted(paths.items())]


def nearest_requirers(project: str, asked: Collection[str], annotated: str) -> set[str]:
    """Those of `asked` that require `project` over the fewest others, from uv's `name==version  # via one, other`."""
    rows = re.findall(r"^([a-z0-9-]+)==\S+ +# via (.+)$", annotated, re.MULTILINE)
    parents = {name: set(via.split(", ")) for name, via in rows}
    generation, seen = {project}, {project}
    while generation and generation.isdisjoint(asked):
        generation = {parent for name in generation for parent in parents.get(name, ())} - seen
        seen |= generation
    return generation & set(asked)


def _telling(path: str) -> tuple[bool, bool, str]:
    return not _is_library(path), not path.endswith(".py"), path


def _is_library(path: str) -> bool:
    return re.search(r"\.so(\.|$)", path) is not None


def _is_one_library(first: str, second: str) -> bool:
    matches = [_LIBRARY_OF_CUDA.fullmatch(name) for name in (first, second)]
    libraries = {match["library"] for match in matches if match}
    return all(matches) and len(libraries) == 1
