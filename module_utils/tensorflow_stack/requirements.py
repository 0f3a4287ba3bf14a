"""What a user's requirement file asks for, each line with its place.

A lock answers for every byte it installs, so the file may say *which* distributions are wanted, not *where
from*: anything that would bring another source is refused.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from .errors import StackError

TENSORFLOW_PROJECTS = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu")

# A pinned requirement with the hashes of every wheel and sdist of a large project stays below 20 KB.
_LONGEST_LINE = 65536
_LARGEST_FILE = 16 << 20
_COMMENT = re.compile(r"(^|\s+)#.*$")
_ENVIRONMENT_VARIABLE = re.compile(r"\$\{[A-Za-z0-9_]+\}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(git|hg|svn|bzr)\+")
_INCLUDES = {
    "-r": "requirements",
    "--requirement": "requirements",
    "-c": "constraints",
    "--constraint": "constraints",
}
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "--pypi-url", "--trusted-host", "--no-index")
_USE_INDEX_VARIABLE = "Remove the line; to use another index for everything, set tensorflow_index_url"
_USE_NAME = "Write name==version and publish the distribution on the index of tensorflow_index_url"


@dataclass(frozen=True)
class UserRequirement:
    requirement: Requirement
    path: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


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
    """What `path` asks for; StackError names file and line of the first thing that cannot be taken."""
    found = UserRequirements(path=path)
    _read(path, kind="requirements", including=(), found=found)
    if not found.requirements:
        raise StackError(f"{path} has no requirement. Write one a line, for example tensorflow==2.8.0.")
    return found


def tensorflow_requirement(requirements: UserRequirements, python_version: str) -> TensorflowRequirement | None:
    """The TensorFlow that is asked for on `python_version` (`3.10`), lines with other markers left out."""
    asked = [
        wish
        for wish in requirements.requirements
        if _project(wish) in TENSORFLOW_PROJECTS and _applies(wish.requirement, python_version)
    ]
    if not asked:
        return None
    first = asked[0]
    for other in asked[1:]:
        if _project(other) != _project(first):
            raise StackError(
                f"{other.where} asks for {other.requirement}, {first.where} for {first.requirement}: "
                "both install the same files. Keep one of the two lines."
            )
    limits = [
        limit
        for limit in requirements.constraints
        if _project(limit) == _project(first) and _applies(limit.requirement, python_version)
    ]
    specifier = SpecifierSet()
    for wish in [*asked, *limits]:
        specifier &= wish.requirement.specifier
    return TensorflowRequirement(_project(first), specifier, first.where)


def named_tensorflow(requirements: UserRequirements) -> list[UserRequirement]:
    """Every line that asks for TensorFlow, whatever its marker."""
    return [wish for wish in requirements.requirements if _project(wish) in TENSORFLOW_PROJECTS]


def names_tensorflow(requirements: UserRequirements) -> bool:
    return bool(named_tensorflow(requirements))


def _project(wish: UserRequirement) -> str:
    return str(canonicalize_name(wish.requirement.name))


def _applies(requirement: Requirement, python_version: str) -> bool:
    if requirement.marker is None:
        return True
    target = {
        "implementation_name": "cpython",
        "implementation_version": f"{python_version}.0",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python_version}.0",
        "python_version": python_version,
        "sys_platform": "linux",
    }
    return requirement.marker.evaluate(target)


def _read(path: str, *, kind: str, including: tuple[str, ...], found: UserRequirements) -> None:
    real_path = os.path.realpath(path)
    if real_path in including:
        raise StackError(f"{path} includes itself, by way of {' -> '.join(including)}. Remove one of the includes.")
    for number, line in _logical_lines(path):
        _refuse_unsafe(line, path=path, number=number)
        if line.startswith("-"):
            _read_option(line, path=path, number=number, kind=kind, including=(*including, real_path), found=found)
        else:
            wish = _parse_requirement(line, path=path, number=number, notes=found.notes)
            (found.requirements if kind == "requirements" else found.constraints).append(wish)


def _logical_lines(path: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, text) of each line: continuations joined, no comments, no blank lines."""
    start, joined = 0, ""
    for number, line in enumerate(_text(path).splitlines(), start=1):
        start = start or number
        # As in pip, a comment ends a continuation.
        comment = _COMMENT.search(line)
        if line.endswith("\\") and comment is None:
            joined += line[:-1]
            continue
        joined += _COMMENT.sub("", line)
        if len(joined) > _LONGEST_LINE:
            raise _refusal(path, start, f"a line of {len(joined)} characters", "Check that this is a requirement file")
        if joined.strip():
            yield start, joined.strip()
        start, joined = 0, ""
    if joined.strip():
        yield start, joined.strip()


def _text(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            raw = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise StackError(
            f"The requirement file {path} cannot be read: {error.strerror}. Set tensorflow_requirements to "
            "the path of a file on the controller."
        ) from error
    if len(raw) > _LARGEST_FILE:
        raise StackError(f"{path} is larger than {_LARGEST_FILE} bytes. Check that this is a requirement file.")
    raw = raw[len(codecs.BOM_UTF8) :] if raw.startswith(codecs.BOM_UTF8) else raw
    if b"\0" in raw:
        number = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise _refusal(path, number, "a NUL byte", "Save the file as UTF-8 text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise _refusal(
            path, number, f"a byte that is not UTF-8 (0x{raw[error.start]:02x})", "Save the file as UTF-8"
        ) from error


def _refuse_unsafe(line: str, *, path: str, number: int) -> None:
    variable = _ENVIRONMENT_VARIABLE.search(line)
    if variable is not None:
        raise _refusal(path, number, f"the environment variable {variable.group()}", "Write its value")


def _read_option(
    line: str, *, path: str, number: int, kind: str, including: tuple[str, ...], found: UserRequirements
) -> None:
    option, value = _split_option(line, path=path, number=number)
    if option in _INCLUDES:
        if not value:
            raise _refusal(path, number, f"{option} without a file", "Name the file after it")
        if _URL.match(value):
            raise _refusal(path, number, f"the include {value}", "Copy that file here and name the copy")
        included = os.path.join(os.path.dirname(path), value)
        if not os.path.isfile(included):
            raise _refusal(path, number, f"an include of {included}, which is not a file", "Correct the path")
        # Everything that a constraint file includes is a constraint as well.
        _read(
            included,
            kind="constraints" if kind == "constraints" else _INCLUDES[option],
            including=including,
            found=found,
        )
    elif option == "--require-hashes":
        found.notes.append(f"{path}:{number}: --require-hashes is not needed, a lock always has hashes.")
    elif option in _INDEX_OPTIONS:
        raise _refusal(path, number, option, _USE_INDEX_VARIABLE)
    elif option in ("-f", "--find-links", "-e", "--editable"):
        raise _refusal(path, number, f"{option} {value}".strip(), _USE_NAME)
    else:
        raise _refusal(path, number, f"the option {option}", "Remove it; taken are -r, -c and --hash")


def _split_option(line: str, *, path: str, number: int) -> tuple[str, str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise _refusal(path, number, f"{line[:120]!r} ({error})", "Close the quote") from error
    option, _, value = words[0].partition("=")
    if not option.startswith("--") and len(option) > 2:
        option, value = option[:2], words[0][2:].lstrip("=")
    return option, " ".join(filter(None, [value, *words[1:]]))


def _parse_requirement(line: str, *, path: str, number: int, notes: list[str]) -> UserRequirement:
    text, *options = re.split(r"\s+(?=--?[A-Za-z])", line)
    for option in options:
        if not option.startswith("--hash"):
            raise _refusal(path, number, f"the option {option.split('=')[0].split()[0]}", "Remove it")
    if options:
        notes.append(f"{path}:{number}: the hashes are not taken over, the lock gets those of the index.")
    if _URL.match(text):
        raise _refusal(path, number, f"the URL {text[:120]}", _USE_NAME)
    if text.startswith((".", "/", "~")) or (" " not in text and text.endswith((".whl", ".tar.gz", ".zip"))):
        raise _refusal(path, number, f"the path {text[:120]}", _USE_NAME)
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _refusal(
            path,
            number,
            f"{text[:120]!r}, which is not a requirement ({str(error).splitlines()[0]})",
            "Write it as name, name==1.2.3 or name~=1.2.0",
        ) from error
    if requirement.url is not None:
        raise _refusal(path, number, f"{requirement.name} from the URL {requirement.url}", _USE_NAME)
    return UserRequirement(requirement=requirement, path=path, line=number)


def _refusal(path: str, number: int, found: str, remedy: str) -> StackError:
    return StackError(f"{path}:{number}: found {found}. {remedy}.", path=path, line=number)
