"""The texts that requirements stand in, as numbered lines: requirements.txt, pyproject.toml, environment.yml.

What is refused is named here, one member each; docs/requirements.md shows an example of every one.
"""

from __future__ import annotations

import codecs
import enum
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..errors import StackError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A pinned requirement with the hashes of every wheel and sdist of a large project stays below 20 KB.
_LONGEST_LINE = 65536
_LARGEST_FILE = 16 << 20
# Both are parsed as a whole, YAML at about 1 MiB a minute.
_LARGEST_DOCUMENT = 256 << 10
# One \s: with \s+ a line of blanks takes quadratic time.
_COMMENT = re.compile(r"(?:^|\s)#")
_LINE_END = re.compile(r"\r\n|\r|\n")
# What this toolkit brings itself, in the names that conda gives it.
_CUDA_OF_CONDA = re.compile(r"(cudatoolkit|cudnn|cuda)(-.*)?")


class Refused(enum.Enum):
    """Why something in a file is not taken; the value says what to do."""

    INDEX = "Remove the line; to use another index for everything, set tensorflow_index_url"
    SOURCE = "Write name==version and publish the distribution on the index of tensorflow_index_url"
    OPTION = "Remove it; -r, -c and --hash are accepted"
    INCLUDE = "Name a text file that is on this machine, by a path relative to this one"
    INCLUDE_LOOP = "Remove one of the includes"
    LINKED_INCLUDE = "Replace the link by a copy of the file"
    TOO_MANY_FILES = "Join the files"
    VARIABLE = "Write its value"
    SYNTAX = "Write it as name, name==1.2.3 or name~=1.2.0"  # example
    MARKER = "Use the variables of PEP 508 and compare versions with versions"
    VERSION = "Write == and a version such as 1.2.3"  # example
    CHARACTER = "Remove it; such characters hide what a line says"
    NOT_TEXT = "Save the file as UTF-8 text"
    TOO_LARGE = "Check that this is a requirements file"
    EMPTY = "Write one a line, for example tensorflow==2.8.0"  # example
    DOCUMENT = "Correct it, or name a requirements.txt"
    NO_PROJECT_TABLE = "Export a requirements.txt with the tool that keeps this file, and name that"
    DYNAMIC = "Name the file that the dependencies are read from"
    GROUP = "Name an existing one"
    CONDA = "Move what is needed to 'pip:', under its name on the package index"
    OTHER_FORMAT = "Write or export a requirements.txt, and name that"


class Line(NamedTuple):
    """`is_plain`: a requirement and nothing else, neither options nor comments."""

    number: int
    text: str
    is_plain: bool = False


def refuse(refused: Refused, path: str, number: int | None, found: str) -> StackError:
    where = path if number is None else f"{path}:{number}"
    message = f"{where}: found {found}. {refused.value}."
    return StackError(visible(message), path=path, line=number, refused=refused.name.lower())


def visible(text: str) -> str:
    """`text` with an escape for every character that a terminal would act on or not show."""
    return "".join(character if not _is_hidden(character) else repr(character)[1:-1] for character in text)


def hidden_character(text: str) -> str | None:
    return next((f"U+{ord(character):04X}" for character in text if _is_hidden(character) and character != "\t"), None)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")


def read_text(path: str) -> str:
    """What is in the file at `path`; nothing but a regular file is read."""
    try:
        # Opening a pipe would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise StackError(
                    visible(f"The requirements file {path} is not a regular file. {Refused.INCLUDE.value}.")
                )
            raw = stream.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StackError(
            visible(f"The requirements file {path} cannot be read: {reason}. Set tensorflow_requirements to ")
            + "the path of a file on the controller."
        ) from error
    if len(raw) > _LARGEST_FILE:
        raise refuse(Refused.TOO_LARGE, path, None, f"more than {_LARGEST_FILE} bytes")
    text = _decode(raw, path)
    if "\0" in text:
        raise refuse(Refused.NOT_TEXT, path, line_number(text, text.index("\0")), "a NUL byte")
    return text


def _decode(raw: bytes, path: str) -> str:
    encoding = "utf-8-sig"
    # What `pip freeze > requirements.txt` writes in PowerShell.
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        number = line_number(raw[: error.start].decode("latin-1"), error.start)
        found = f"a byte that is not {'UTF-8' if encoding == 'utf-8-sig' else 'UTF-16'} (0x{raw[error.start]:02x})"
        raise refuse(Refused.NOT_TEXT, path, number, found) from error


def line_number(text: str, position: int) -> int:
    return len(_LINE_END.findall(text, 0, position)) + 1


def requirements_lines(text: str, path: str) -> Iterator[Line]:
    """The lines of a requirements.txt: continuations joined, no comments, no blank lines."""
    start, joined = 0, ""
    for number, line in enumerate(_LINE_END.split(text), start=1):
        start = start or number
        if len(joined) + len(line) > _LONGEST_LINE:
            length = len(joined) + len(line)
            raise refuse(Refused.TOO_LARGE, path, start, f"a line of at least {length} characters")
        # As in pip, a comment ends a continuation.
        comment = _COMMENT.search(line)
        if comment is None and line.endswith("\\"):
            joined += line[:-1]
            continue
        joined += line[: comment.start()] if comment else line
        if joined.strip():
            yield Line(start, joined.strip())
        start, joined = 0, ""
    if joined.strip():
        yield Line(start, joined.strip())


def pyproject_lines(text: str, path: str, groups: tuple[str, ...]) -> Iterator[Line]:
    """[project] dependencies, and of the optional dependencies and dependency groups those in `groups`."""
    _check_document(text, path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line ([0-9]{1,18})", str(error))
        number = int(found[1]) if found else len(text.splitlines())
        raise refuse(Refused.DOCUMENT, path, number, f"no TOML ({error})") from error
    except (RecursionError, ValueError) as error:
        raise refuse(Refused.DOCUMENT, path, None, f"unreadable TOML ({error})") from error
    tool = document.get("tool")
    project = document.get("project")
    if not isinstance(project, dict):
        number = _line_of(text, "[tool.poetry")
        what = "Poetry's own tables" if isinstance(tool, dict) and "poetry" in tool else "no [project]"
        raise refuse(Refused.NO_PROJECT_TABLE, path, number, f"{what}, whose dependencies are not read")
    dynamic = project.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        raise refuse(Refused.DYNAMIC, path, _line_of(text, "dynamic"), "dependencies that are dynamic")
    yield from _strings(project.get("dependencies", []), text, path, "dependencies")
    tables = [project.get("optional-dependencies"), document.get("dependency-groups")]
    known = {canonicalize_name(key): rows for table in tables if isinstance(table, dict) for key, rows in table.items()}
    wanted = [*groups]
    # Each once: groups may include each other in circles.
    for group in wanted:
        if canonicalize_name(group) not in known:
            there = ", ".join(sorted(known)) or "none"
            raise refuse(Refused.GROUP, path, None, f"no extra or dependency group {group} (there: {there})")
        rows = known[canonicalize_name(group)]
        includes = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        for row in includes:
            if [*row] != ["include-group"] or not isinstance(row["include-group"], str):
                raise refuse(Refused.DOCUMENT, path, _line_of(text, group), f"{row} in the group {group}")
        included = [row["include-group"] for row in includes]
        for line in _strings([row for row in rows if row not in includes] if includes else rows, text, path, group):
            extras = _own_extras(line.text, project)
            included += extras
            if not extras:
                yield line
        wanted += [name for name in dict.fromkeys(included) if name not in wanted]


def _own_extras(text: str, project: Mapping[str, Any]) -> list[str]:
    """The extras that `name[extras]` means where name is the project itself."""
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError):
        return []
    own = canonicalize_name(str(project.get("name", "")))
    return sorted(requirement.extras) if canonicalize_name(requirement.name) == own else []


def _strings(rows: Any, text: str, path: str, name: str) -> Iterator[Line]:
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise refuse(Refused.DOCUMENT, path, _line_of(text, name), f"a value other than a list of strings in {name}")
    start = max(text.find(name), 0)
    for row in rows:
        # tomllib gives no positions; a string that is written with escapes gets the line of its list.
        position = text.find(row, start)
        yield Line(line_number(text, max(position, start)), row.strip(), is_plain=True)


def _line_of(text: str, word: str) -> int:
    return line_number(text, max(text.find(word), 0))


def environment_lines(text: str, path: str, notes: list[str]) -> Iterator[Line]:
    """The lines under `pip:` of a conda environment. Nothing is constructed from the YAML, it is only looked at."""
    _check_document(text, path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        number = error.problem_mark.line + 1 if error.problem_mark else None
        raise refuse(Refused.DOCUMENT, path, number, f"no YAML ({error.problem})") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise refuse(Refused.DOCUMENT, path, None, f"unreadable YAML ({error})") from error
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    lists = [value for key, value in pairs if key.value == "dependencies"]
    if len(lists) != 1 or not isinstance(lists[0], yaml.SequenceNode):
        raise refuse(Refused.DOCUMENT, path, 1, "a value other than one list of dependencies")
    conda: list[yaml.ScalarNode] = []
    for node in lists[0].value:
        if isinstance(node, yaml.ScalarNode):
            conda.append(node)
            _check_tag(node, path)
            continue
        is_pip = isinstance(node, yaml.MappingNode) and [key.value for key, _ in node.value] == ["pip"]
        rows = node.value[0][1] if is_pip else None
        if not isinstance(rows, yaml.SequenceNode) or not all(isinstance(row, yaml.ScalarNode) for row in rows.value):
            raise refuse(Refused.DOCUMENT, path, _line(node), "values other than names and one list under pip")
        for row in rows.value:
            _check_tag(row, path)
            yield Line(_line(row), row.value.strip())
    _judge_conda(conda, path, notes)


def _judge_conda(nodes: list[yaml.ScalarNode], path: str, notes: list[str]) -> None:
    names = {node: re.split(r"[\s=<>!~\[]", node.value.rpartition("::")[2], maxsplit=1)[0].lower() for node in nodes}
    left = [
        node for node in nodes if names[node] not in ("python", "pip") and not _CUDA_OF_CONDA.fullmatch(names[node])
    ]
    if left:
        found = (
            f"packages of conda, which an index may have under other names: {', '.join(n.value for n in left)[:400]}"
        )
        raise refuse(Refused.CONDA, path, _line(left[0]), found)
    for node in nodes:
        where = f"{path}:{_line(node)}: {node.value}"
        if names[node] == "python" and node.value.lower() != "python":
            notes.append(visible(f"{where} is ignored, tensorflow_python selects the Python."))
        elif _CUDA_OF_CONDA.fullmatch(names[node]):
            notes.append(visible(f"{where} is ignored, CUDA and cuDNN depend on the TensorFlow release."))


def _check_tag(node: yaml.ScalarNode, path: str) -> None:
    if node.tag.rpartition(":")[2] not in ("str", "int", "float"):
        raise refuse(Refused.DOCUMENT, path, _line(node), f"a value of the kind {node.tag}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _check_document(text: str, path: str) -> None:
    if len(text) > _LARGEST_DOCUMENT:
        raise refuse(Refused.TOO_LARGE, path, None, f"more than {_LARGEST_DOCUMENT} characters")
