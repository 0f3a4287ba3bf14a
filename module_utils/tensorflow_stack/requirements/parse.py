"""What a user's requirement file asks for, each line with its place.

A lock answers for every byte it installs, so the file may say *which* distributions are wanted, not *where
from*: anything that would bring another source is refused.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ..errors import StackError
from .formats import (
    Line,
    Refused,
    environment_lines,
    hidden_character,
    pyproject_lines,
    read_text,
    refuse,
    requirements_lines,
    visible,
)

TENSORFLOW_PROJECTS = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu")

# Other builds of it, which install the same files.
OTHER_BUILDS = {
    "tensorflow-intel": "the build for Windows",
    "tensorflow-macos": "the build for macOS",
    "tensorflow-directml": "the build for DirectML",
    "intel-tensorflow": "Intel's build",
    "intel-tensorflow-avx512": "Intel's build",
    "nvidia-tensorflow": "NVIDIA's build",
    "tensorflow-aarch64": "a build for aarch64",
    "tensorflow-cpu-aws": "a build for aarch64",
    "tensorflow-rocm": "the build for AMD's GPUs",
    "tf-nightly": "a nightly build",
    "tf-nightly-cpu": "a nightly build",
    "tf-nightly-gpu": "a nightly build",
    "tf-nightly-intel": "a nightly build",
}

_ENVIRONMENT_VARIABLE = re.compile(r"\$\{[A-Za-z0-9_]+\}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(git|hg|svn|bzr)\+")
_INCLUDES = {
    "-r": "requirements",
    "--requirement": "requirements",
    "-c": "constraints",
    "--constraint": "constraints",
}
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "--pypi-url", "--trusted-host", "--no-index")
_OTHER_FORMATS = {
    "setup.py": "a program, which is not run",
    "setup.cfg": "the settings of setuptools",
    "pipfile": "a file of Pipenv",
    "pipfile.lock": "a file of Pipenv",
    "poetry.lock": "the lock of Poetry",
    "pdm.lock": "the lock of PDM",
    "uv.lock": "the lock of uv",
    "pylock.toml": "a lock",
}
# `pyproject.toml[gpu,test]` takes these extras or dependency groups as well.
_WITH_GROUPS = re.compile(r"(?P<path>.+\.toml)\[(?P<groups>[^\[\]]*)\]")
_MOST_FILES = 100
# Nobody corrects more by hand.
_MOST_REFUSALS = 50
# After these nothing else of the file is worth reading.
_OF_A_WHOLE_FILE = {refused.name.lower() for refused in (Refused.TOO_LARGE, Refused.TOO_MANY_FILES)}
_MOST_BYTES = 32 << 20


@dataclass(frozen=True)
class UserRequirement:
    requirement: Requirement
    path: str
    line: int

    @property
    def where(self) -> str:
        # A line of no file has no number.
        return f"{self.path}:{self.line}" if self.line else self.path

    @property
    def project(self) -> str:
        return str(canonicalize_name(self.requirement.name))


@dataclass
class UserRequirements:
    """Everything that one file and the files it includes ask for; `notes` says what was not taken over."""

    path: str
    requirements: list[UserRequirement] = field(default_factory=list)
    constraints: list[UserRequirement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class TensorflowRequirement(NamedTuple):
    project: str
    specifier: SpecifierSet
    where: str


def read_requirements(path: str) -> UserRequirements:
    """What `path` asks for; StackError names file and line of everything that is refused."""
    found = _Reader(path).read()
    if not found.requirements:
        raise refuse(Refused.EMPTY, path, None, "no requirement")
    return found


def tensorflow_requirement(
    requirements: UserRequirements, python_version: str, architecture: str = "x86_64"
) -> TensorflowRequirement | None:
    """The TensorFlow that is asked for on `python_version` (`3.10`), lines with other markers left out."""
    wishes = [w for w in requirements.requirements if applies(w.requirement, python_version, architecture)]
    for wish in wishes:
        build = OTHER_BUILDS.get(wish.project)
        if build is not None:
            raise StackError(
                f"{wish.where} asks for {wish.requirement}, {build}, which installs the same files as tensorflow. "
                "Write tensorflow there, or give the line a marker that excludes Linux."
            )
    asked = [wish for wish in wishes if wish.project in TENSORFLOW_PROJECTS]
    if not asked:
        return None
    first = asked[0]
    others = [wish for wish in asked if wish.project != first.project]
    if others:
        lines = [f"{other.where} asks for {other.requirement}" for other in others]
        raise StackError(
            f"{', '.join(lines)}, {first.where} for {first.requirement}: "
            f"{'both' if len(others) == 1 else 'all'} install the same files. "
            f"Keep one of the {'two' if len(others) == 1 else len(others) + 1} lines."
        )
    limits = [
        limit
        for limit in requirements.constraints
        if limit.project == first.project and applies(limit.requirement, python_version, architecture)
    ]
    specifier = SpecifierSet()
    for wish in [*asked, *limits]:
        specifier &= wish.requirement.specifier
    return TensorflowRequirement(first.project, specifier, " and ".join(wish.where for wish in [*asked, *limits]))


def missing_tensorflow(error: StackError) -> StackError:
    """A refusal of `read_requirements`, for a file that has to name the release: whether it does is said as well."""
    if error.details.get("names_tensorflow", True):
        return error
    advice = "No line names TensorFlow: add one such as tensorflow==2.8.0, or set tensorflow_version."  # example
    return StackError(f"{error.message}\n{advice}", **error.details)


def named_tensorflow(requirements: UserRequirements) -> list[UserRequirement]:
    """Every line that asks for TensorFlow, whatever its marker."""
    return [wish for wish in requirements.requirements if wish.project in TENSORFLOW_PROJECTS]


def names_tensorflow(requirements: UserRequirements) -> bool:
    return bool(named_tensorflow(requirements))


def applies(requirement: Requirement, python_version: str, architecture: str) -> bool:
    """Does its marker, if it has one, hold on Linux with this Python?"""
    if requirement.marker is None:
        return True
    target = {
        "implementation_name": "cpython",
        "implementation_version": f"{python_version}.0",
        "os_name": "posix",
        "platform_machine": architecture,
        "platform_python_implementation": "CPython",
        # Of the node's kernel nothing is known, here as in uv.
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python_version}.0",
        "python_version": python_version,
        "sys_platform": "linux",
    }
    return requirement.marker.evaluate(target)


class _Reader:
    """Reads one file and what it includes."""

    def __init__(self, path: str) -> None:
        with_groups = _WITH_GROUPS.fullmatch(path)
        self._path = with_groups["path"] if with_groups else path
        self._groups = tuple(with_groups["groups"].replace(" ", "").split(",")) if with_groups else ()
        self._found = UserRequirements(path=path)
        self._root = os.path.realpath(os.path.dirname(path) or ".")
        self._files = 0
        self._characters = 0
        # One for each refused line, so that a file is corrected at once.
        self._refusals: list[StackError] = []
        self._refuses_tensorflow = False

    def read(self) -> UserRequirements:
        try:
            self._read_file(self._path, kind="requirements", including=())
        except StackError as error:
            # What ends the reading of the whole file comes after the lines before it.
            if not self._refusals:
                raise
            self._refusals.append(error)
        if self._refusals:
            raise self._refusal()
        return self._found

    def _refusal(self) -> StackError:
        first = self._refusals[0]
        details = {**first.details, "names_tensorflow": self._refuses_tensorflow or names_tensorflow(self._found)}
        if len(self._refusals) == 1:
            return StackError(first.message, **details)
        rows = [{"message": refusal.message, **refusal.details} for refusal in self._refusals]
        head = f"{len(rows)} lines of {visible(self._path)} are refused:"
        return StackError("\n".join([head, *(f"  {row['message']}" for row in rows)]), **details, refusals=rows)

    def _read_file(self, path: str, *, kind: str, including: tuple[str, ...]) -> None:
        real_path = os.path.realpath(path)
        if real_path in including:
            by_way_of = " -> ".join(including)
            raise refuse(Refused.INCLUDE_LOOP, path, None, f"that it includes itself, by way of {by_way_of}")
        for line in self._lines(path):
            try:
                self._read_line(line, path=path, kind=kind, including=(*including, real_path))
            except StackError as error:
                if error.details.get("refused") in _OF_A_WHOLE_FILE or len(self._refusals) >= _MOST_REFUSALS:
                    raise
                # A file may be included twice.
                if error.message not in {refusal.message for refusal in self._refusals}:
                    self._refusals.append(error)
                self._refuses_tensorflow |= "tensorflow" in line.text.lower()

    def _read_line(self, line: Line, *, path: str, kind: str, including: tuple[str, ...]) -> None:
        character = hidden_character(line.text)
        if character is not None:
            found = f"the control or invisible character {character}"
            raise refuse(Refused.CHARACTER, path, line.number, found)
        variable = None if line.is_plain else _ENVIRONMENT_VARIABLE.search(line.text)
        if variable is not None:
            raise refuse(Refused.VARIABLE, path, line.number, f"the environment variable {variable.group()}")
        if line.text.startswith("-") and not line.is_plain:
            self._read_option(line, path=path, kind=kind, including=including)
        else:
            wish = _parse_requirement(line, path=path, notes=self._found.notes)
            (self._found.requirements if kind == "requirements" else self._found.constraints).append(wish)

    def _lines(self, path: str) -> Iterator[Line]:
        name = os.path.basename(path).lower()
        if name in _OTHER_FORMATS:
            raise refuse(Refused.OTHER_FORMAT, path, None, _OTHER_FORMATS[name])
        text = read_text(path)
        self._files += 1
        self._characters += len(text)
        if self._files > _MOST_FILES or self._characters > _MOST_BYTES:
            found = f"more than {_MOST_FILES} includes or {_MOST_BYTES} characters in them"
            raise refuse(Refused.TOO_MANY_FILES, path, None, found)
        if name.endswith(".toml"):
            return pyproject_lines(text, path, self._groups)
        if name.endswith((".yml", ".yaml")):
            return environment_lines(text, path, self._found.notes)
        return requirements_lines(text, path)

    def _read_option(self, line: Line, *, path: str, kind: str, including: tuple[str, ...]) -> None:
        option, value = _split_option(line, path=path)
        if option in _INCLUDES:
            included = self._included(option, value, path=path, number=line.number)
            # Everything that a constraint file includes is a constraint as well.
            of_kind = "constraints" if kind == "constraints" else _INCLUDES[option]
            self._read_file(included, kind=of_kind, including=including)
        elif option == "--require-hashes":
            self._found.notes.append(f"{path}:{line.number}: {option} is not needed, a lock always has hashes.")
        elif option in _INDEX_OPTIONS:
            raise refuse(Refused.INDEX, path, line.number, option)
        elif option in ("-f", "--find-links", "-e", "--editable"):
            raise refuse(Refused.SOURCE, path, line.number, f"{option} {value}".strip())
        else:
            raise refuse(Refused.OPTION, path, line.number, f"the option {option[:120]}")

    def _included(self, option: str, value: str, *, path: str, number: int) -> str:
        if not value:
            raise refuse(Refused.INCLUDE, path, number, f"{option} without a file")
        if _URL.match(value) or os.path.isabs(value):
            raise refuse(Refused.INCLUDE, path, number, f"the include {value[:120]}")
        included = os.path.join(os.path.dirname(path), value)
        if not os.path.isfile(included):
            found = f"an include of {included[:400]}, which is not a file"
            if re.search(r"\s;", value):
                found += " (a marker is for requirements, not for options)"
            raise refuse(Refused.INCLUDE, path, number, found)
        # `..` is plain to see where the file is read by people, where a link leads to is not.
        written = os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(path) or "."), value))
        target = os.path.realpath(included)
        if target != written and os.path.commonpath([target, self._root]) != self._root:
            raise refuse(Refused.LINKED_INCLUDE, path, number, f"an include of {included}, which points to {target}")
        return included


def _split_option(line: Line, *, path: str) -> tuple[str, str]:
    try:
        words = shlex.split(line.text)
    except ValueError as error:
        raise refuse(Refused.SYNTAX, path, line.number, f"{line.text[:120]!r} ({error})") from error
    option, _, value = words[0].partition("=")
    if not option.startswith("--") and len(option) > 2:
        option, value = option[:2], words[0][2:].lstrip("=")
    return option, " ".join(filter(None, [value, *words[1:]]))


def _parse_requirement(line: Line, *, path: str, notes: list[str]) -> UserRequirement:
    # One \s: with \s+ a line of blanks takes quadratic time.
    text, *options = [line.text] if line.is_plain else re.split(r"\s(?=--?[A-Za-z])", line.text)
    text = text.strip()
    for option in options:
        if not re.match(r"--hash[=\s]", option):
            name = option.split("=")[0].split()[0]
            raise refuse(Refused.OPTION, path, line.number, f"the option {name[:120]}")
    if options:
        notes.append(f"{path}:{line.number}: the hashes are ignored, the lock has those of the index.")
    if _URL.match(text):
        raise refuse(Refused.SOURCE, path, line.number, f"the URL {text[:120]}")
    if text.startswith((".", "/", "~")) or (" " not in text and text.endswith((".whl", ".tar.gz", ".zip"))):
        raise refuse(Refused.SOURCE, path, line.number, f"the path {text[:120]}")
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as error:
        why = str(error).splitlines()[0] if isinstance(error, InvalidRequirement) else "too deeply nested"
        found = f"{text[:120]!r}, which is not a requirement ({why})"
        raise refuse(Refused.SYNTAX, path, line.number, found) from error
    if requirement.url is not None:
        found = f"{requirement.name} from the URL {requirement.url[:120]}"
        raise refuse(Refused.SOURCE, path, line.number, found)
    # uv has 64 bits for each number of a version; packaging compares texts after ===, uv versions.
    if re.search(r"[0-9]{20}|===", str(requirement.specifier)):
        raise refuse(Refused.VERSION, path, line.number, f"the version {str(requirement.specifier)[:120]}")
    try:
        applies(requirement, "3.10", "x86_64")  # example
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError, RecursionError) as error:
        found = f"a marker without meaning ({str(error)[:200] or 'too deeply nested'})"
        raise refuse(Refused.MARKER, path, line.number, found) from error
    return UserRequirement(requirement=requirement, path=path, line=line.number)
