"""docs/requirements.md says what is accepted and what is refused; every line of its tables is tried here."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.requirements.formats import Refused
from ansible.module_utils.tensorflow_stack.requirements.parse import read_requirements

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "requirements.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if row[0] not in ("line", "kind") and not row[0].startswith("---")]


def example(cell: str) -> str:
    text = re.sub(r"\\(u[0-9a-f]{4}|0)", lambda escape: escape[0].encode().decode("unicode_escape"), cell.split("`")[1])
    return "n" * 100_000 if "…" in text else text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an example goes, with the files beside it that examples name."""
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere.txt").write_text("six\n")
    (tmp_path / "project" / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "project" / "more.txt").write_text("six\n")
    (tmp_path / "project" / "limits.txt").write_text("six<2\n")
    for number in range(10):
        (tmp_path / "project" / f"laughs{number or ''}.txt").write_text(f"-r laughs{number + 1}.txt\n" * 10)
    (tmp_path / "project" / "laughs10.txt").write_text("six\n")
    return tmp_path / "project" / "requirements.txt"


@pytest.mark.parametrize(("line", "what"), rows("What is accepted"))
def test_accepted(path: Path, line: str, what: str) -> None:
    path.write_text(f"tensorflow==2.8.0\n{example(line)}\n")
    found = read_requirements(str(path))
    assert len(found.requirements) + len(found.constraints) == (2 if what.startswith("accepted") else 1)
    assert len(found.notes) == what.count("with a note")
    assert all(note.startswith(f"{path}:2: ") for note in found.notes)


@pytest.mark.parametrize(
    ("kind", "line", "why"),
    [row for row in rows("What is refused") if row[1].startswith("`") and "setup.py" not in row[1]],
)
def test_refused(path: Path, kind: str, line: str, why: str) -> None:
    path.write_text(f"tensorflow==2.8.0\n{example(line)}\n", encoding="utf-8")
    with pytest.raises(StackError) as refusal:
        read_requirements(str(path))
    assert why
    assert refusal.value.details["refused"] == kind
    assert refusal.value.details["line"] == (None if kind in ("include_loop", "too_many_files") else 2)
    assert refusal.value.message.isprintable()


def test_every_kind_has_a_row() -> None:
    assert {row[0] for row in rows("What is refused")} == {refused.name.lower() for refused in Refused}


PYPROJECT = """\
[project]
name = "my-project"
dependencies = [
    "tensorflow==2.8.0",
    "numpy<1.24; python_version < '3.11'",
]

[project.optional-dependencies]
excel = ["pandas[excel]"]
all = ["My_Project[excel]"]

[dependency-groups]
test = ["pytest", {include-group = "typing"}]
typing = ["mypy", {include-group = "test"}]
"""


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("", {4: "tensorflow==2.8.0", 5: 'numpy<1.24; python_version < "3.11"'}),
        ("[excel]", {4: "tensorflow==2.8.0", 5: 'numpy<1.24; python_version < "3.11"', 9: "pandas[excel]"}),
        ("[all]", {4: "tensorflow==2.8.0", 5: 'numpy<1.24; python_version < "3.11"', 9: "pandas[excel]"}),
        ("[test]", {4: "tensorflow==2.8.0", 5: 'numpy<1.24; python_version < "3.11"', 13: "pytest", 14: "mypy"}),
    ],
)
def test_pyproject(tmp_path: Path, groups: str, expected: dict[int, str]) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    found = read_requirements(f"{tmp_path}/pyproject.toml{groups}")
    assert {wish.line: str(wish.requirement) for wish in found.requirements} == expected
    assert found.requirements[0].where == f"{tmp_path}/pyproject.toml:4"


def test_environment(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("six\n")
    path = tmp_path / "environment.yml"
    path.write_text(
        "name: tf\nchannels: [conda-forge]\ndependencies:\n- python=3.9\n- conda-forge::cudnn\n- pip\n"
        "- pip:\n  - tensorflow==2.8.0 \n  - -r more.txt\n"
    )
    found = read_requirements(str(path))
    assert [wish.where for wish in found.requirements] == [f"{path}:8", f"{tmp_path}/more.txt:1"]
    assert found.notes == [
        f"{path}:4: python=3.9 is ignored, tensorflow_python selects the Python.",
        f"{path}:5: conda-forge::cudnn is ignored, CUDA and cuDNN depend on the TensorFlow release.",
    ]


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghijklm", "bcdefghijklmn")
)


@pytest.mark.parametrize(
    ("name", "text", "kind", "line", "found"),
    [
        ("requirements.txt", "", "empty", None, "no requirement"),
        ("pyproject.toml", "[project]\ndependencies = [\n", "document", 2, "no TOML"),
        ("pyproject.toml", '[project]\n"dependencies" = "numpy"\n', "document", 2, "a value other than a list"),
        ("pyproject.toml", "a = " + "[" * 5000, "document", None, "unreadable TOML"),
        ("pyproject.toml", '[project]\ndependencies = ["-r a.txt"]\n', "syntax", 2, "'-r a.txt'"),
        ("pyproject.toml", "[tool.poetry.dependencies]\ntensorflow = '^2.8'\n", "no_project_table", 1, "Poetry's own"),
        ("pyproject.toml", "[build-system]\n", "no_project_table", 1, "no [project]"),
        ("pyproject.toml", '[project]\ndynamic = ["dependencies"]\n', "dynamic", 2, "that are dynamic"),
        ("pyproject.toml[gpu]", "[project]\n", "group", None, "no extra or dependency group gpu (there: none)"),
        ("environment.yml", "dependencies:\n- pip:\n\t- six\n", "document", 3, "no YAML"),
        ("environment.yml", "a: [" * 5000, "document", None, "unreadable YAML"),
        ("environment.yml", "- six\n", "document", 1, "a value other than one list of dependencies"),
        ("environment.yml", "dependencies: []\ndependencies: []\n", "document", 1, "than one list of dependencies"),
        ("environment.yml", BOMB + "dependencies:\n- pip: *n\n", "document", 16, "names and one list under pip"),
        ("environment.yml", "dependencies:\n- !!python/object/apply:os.system [id]\n", "document", 2, "names and"),
        ("environment.yml", "dependencies:\n- pip:\n  - !!python/name:os.system ''\n", "document", 3, "of the kind"),
        ("environment.yml", "dependencies:\n- numpy=1.23\n- pip: [tensorflow]\n", "conda", 2, "numpy=1.23"),
        ("environment.yml", "x" * 300_000, "too_large", None, "more than 262144 characters"),
        ("setup.py", "", "other_format", None, "a program, which is not run"),
        ("poetry.lock", "", "other_format", None, "the lock of Poetry"),
    ],
)  # fmt: skip
def test_refused_files(tmp_path: Path, name: str, text: str, kind: str, line: int | None, found: str) -> None:
    (tmp_path / name.split("[")[0]).write_text(text)
    with pytest.raises(StackError) as refusal:
        read_requirements(str(tmp_path / name))
    assert (refusal.value.details["refused"], refusal.value.details["line"]) == (kind, line)
    assert found in refusal.value.message


def test_nothing_but_regular_files_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        with pytest.raises(StackError, match="is not a regular file|Is a directory"):
            read_requirements(path)
    (tmp_path / "requirements.txt").write_text("six\n-r pipe\n")
    with pytest.raises(StackError, match=r"requirements.txt:2: found an include of .*pipe, which is not a file"):
        read_requirements(str(tmp_path / "requirements.txt"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(end.join(["# café", "numpy \\", "==1.23.5", "\fsix", ""]).encode(encoding))
    wishes = read_requirements(str(path)).requirements
    assert [(str(wish.requirement), wish.line) for wish in wishes] == [("numpy==1.23.5", 2), ("six", 4)]


@pytest.mark.parametrize("line", [" " * 10_000_000, "#" * 10_000_000, "six" + " " * 60_000 + "x", "-r " * 20_000])
def test_long_lines_take_no_time(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"six\n{line}\n")
    with pytest.raises(StackError, match=f"{path}:2: "):
        read_requirements(str(path))
