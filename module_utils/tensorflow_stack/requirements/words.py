"""Requirements that are given as words of one text, as on make's command line: `pandas<3 ipykernel`."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..errors import StackError
from .parse import OTHER_BUILDS, TENSORFLOW_PROJECTS

_OPERATORS = r"(?:===|==|~=|!=|<=|>=|<|>)"
_SHOWN = 80


def read_words(text: str, variable: str) -> list[str]:
    """Each requirement as a line of its own; StackError, in one message, for whatever is none.

    Only names, extras and versions: a place to install from could not be locked, and a marker is for a file that serves
    several systems.
    """
    lines: dict[str, str] = {}
    for word in _words(text):
        requirement = _parse(word, text, variable)
        project = str(canonicalize_name(requirement.name))
        if project in TENSORFLOW_PROJECTS or project in OTHER_BUILDS:
            raise StackError(
                f"{variable} has {word}: an environment has one TensorFlow, that of its release. Set "
                "tensorflow_version to another release, and leave it out here."
            )
        if lines.setdefault(project, str(requirement)) != str(requirement):
            raise StackError(f"{variable} has {project} twice: {lines[project]} and {requirement}. Keep one of them.")
    return [lines[project] for project in sorted(lines)]


def read_names(text: str, variable: str) -> list[str]:
    """Projects that are named without versions."""
    names = []
    for word in _words(text):
        if _parse(word, text, variable).name != word:
            raise StackError(f"{variable} has {word[:_SHOWN]!r}, but takes names alone, such as pandas.")
        names.append(str(canonicalize_name(word)))
    return sorted(set(names))


def _words(text: str) -> list[str]:
    # "pandas >= 2, < 3" is one requirement, "pandas, ipykernel" are two.
    joined = re.sub(rf"\s*({_OPERATORS})\s*", r"\1", text)
    joined = re.sub(rf",\s*(?={_OPERATORS})", ",", joined)
    return [word for word in re.split(rf"\s+|,(?!{_OPERATORS})(?![^\[]*\])", joined) if word]


def _parse(word: str, text: str, variable: str) -> Requirement:
    try:
        requirement = Requirement(word)
    except (InvalidRequirement, RecursionError):
        requirement = None
    specifier = str(requirement.specifier) if requirement else ""
    if (
        requirement is None
        or requirement.url is not None
        or requirement.marker is not None
        # uv has 64 bits for each number of a version, and compares versions where packaging compares texts.
        or re.search(r"[0-9]{20}|===", specifier)
    ):
        raise StackError(
            f"{variable} is {text[:_SHOWN]!r}, but must be names of packages with or without versions, such as "
            f"'pandas<3 ipykernel'; {word[:_SHOWN]!r} is none. URLs, paths, options and markers are not taken: a lock "
            "has only what the package index has."
        )
    return requirement
