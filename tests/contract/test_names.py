"""Every variable, target of make and variable of make that a message, a diagnosis or a page names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.check.verdicts import VERDICTS
from ansible.module_utils.tensorflow_stack.health.findings import Finding, metrics
from ansible.module_utils.tensorflow_stack.node.kernels import KERNEL_MODULES
from ansible.module_utils.tensorflow_stack.tables.rows import CudaWheels, Release

from scripts import make_docs, run_playbook

REPOSITORY = Path(__file__).resolve().parents[2]
TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"
SOURCES = sorted(
    path
    for pattern in (
        "module_utils/**/*.py",
        "library/*.py",
        "action_plugins/*.py",
        "callback_plugins/*.py",
        "scripts/*.py",
    )
    for path in REPOSITORY.glob(pattern)
)
# Pages for operators. That of the architecture names fields of records, which look like variables.
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md", "tests/**/*.md")
    for path in REPOSITORY.glob(pattern)
)
FIELDS = REPOSITORY / "docs" / "architecture.md"
CODE = re.compile(
    r"^```\w*\n(?P<block>.*?)^```$|^ {4}(?P<line>\S[^\n]*)$|`(?P<inline>[^`\n]+)`", re.MULTILINE | re.DOTALL
)
# What begins like a variable of this toolkit. A path, a call, a field, a pattern and a marker do not count.
VARIABLE = re.compile(
    r"(?<![\w./*-])(?:tensorflow|cuda|cudnn|python|nvidia|package|stack|doctor|remove|fleet)_[a-z_]+\b"
    r"(?!\.\w|[/(*\[]|-\w| ?(?:[<>!]|==))"
)
# `make plan TENSORFLOW=2.8.0`, quoted or after "run"; a word of prose ends the command.
MAKE = re.compile(r"""(?:[`'"]|\b[Rr]un )make ((?:[a-z]+(?:-[a-z]+)*|[A-Za-z_]+=\S*)(?: [A-Za-z_]+=\S*)*)""")


def targets_of_make() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    playbooks = re.findall(r"^PLAYBOOKS := (.+)$", text, re.MULTILINE)
    return {*re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE), *" ".join(playbooks).split()}


def variables_of_make() -> set[str]:
    """Those of playbooks, and those that the Makefile itself reads."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    own = re.findall(r"\$\(([A-Z]+)\)|\$\(if \$\(([A-Z]+)\)|\$\(or \$\(([A-Z]+)\)", text)
    return {name for names in own for name in names if name} | {*run_playbook.FRONT, *run_playbook.known_variables()}


@cache
def names_of_this_repository() -> frozenset[str]:
    """Variables with their values, and what else has such a name: roles, modules, tables, metrics."""
    variables = run_playbook.known_variables()
    values = {choice for row in variables.values() for choice in row.get("choices", ())}
    files = {path.stem for folder in ("library", "callback_plugins") for path in (REPOSITORY / folder).glob("*.py")}
    roles = {path.name for path in (REPOSITORY / "roles").iterdir()}
    exported = set(re.findall(r"^\w+", metrics(Finding(True, "", "", 0, 0)), re.MULTILINE))
    tables = {path.stem for path in TABLES.glob("*.yml")}
    results = {
        name
        for pattern in ("roles/*/tasks/*.yml", "playbooks/*.yml")
        for path in REPOSITORY.glob(pattern)
        for name in re.findall(r"^ *register: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return frozenset(
        {
            *variables,
            *make_docs.PLAY_VARIABLES,
            *values,
            *files,
            *roles,
            *results,
            *tables,
            *exported,
            *KERNEL_MODULES,
            *Release._fields,
            *CudaWheels._fields,
        }
    )


def unknown_names(text: str) -> list[str]:
    """Variables that a text names and nothing has, and what it calls make with."""
    found = [name for name in VARIABLE.findall(text) if name not in names_of_this_repository()]
    for call in MAKE.findall(text):
        for word in call.split():
            name, is_variable, _ = word.strip(".,;:`'\"").partition("=")
            if name not in (variables_of_make() if is_variable else targets_of_make()):
                found.append(f"make {name}")
    return found


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string that is a sentence or a part of one: with a blank, and no docstring or documentation."""
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
            left_out.add(id(node.body[0].value))  # type: ignore[attr-defined]  # the docstring
        elif isinstance(node, ast.Assign) and any(
            getattr(target, "id", None) in ("DOCUMENTATION", "EXAMPLES", "RETURN") for target in node.targets
        ):
            left_out.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (
                part.value if isinstance(part, ast.Constant) else "\N{OBJECT REPLACEMENT CHARACTER}"
                for part in node.values
            )
            text = "".join(map(str, parts))
            left_out |= {id(part) for part in node.values}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            text = node.value
        else:
            continue
        if " " in text:
            yield node.lineno, text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_names_in_messages_exist(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {line: unknown for line, text in messages(tree) if (unknown := unknown_names(text))}
    assert found == {}


def diagnoses() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load((TABLES / "diagnoses.yml").read_text(encoding="utf-8"))["rows"]
    return rows


@pytest.mark.parametrize("row", diagnoses(), ids=lambda row: str(row["cause"]))
def test_names_in_diagnoses_exist(row: dict[str, Any]) -> None:
    texts = [row["says"], row["do"], *row.get("do_on", {}).values()]
    assert unknown_names(re.sub(r"\{\w+\}", "", " ".join(texts))) == []


def code_in(text: str) -> Iterator[str]:
    """Every line of code, in a block or inline."""
    for match in CODE.finditer(text):
        yield from (match["block"] or match["line"] or match["inline"]).splitlines()


def unknown_in_code(text: str) -> list[str]:
    found = []
    for code in code_in(text):
        found += unknown_names(f"`{code}`")
        found += [name for name in re.findall(r"-e '?(\w+)=", code) if name not in run_playbook.known_variables()]
    return sorted(set(found) - set(VERDICTS))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_names_in_documents_exist(path: Path) -> None:
    found = unknown_in_code(path.read_text(encoding="utf-8"))
    assert [name for name in found if path != FIELDS or name.startswith("make ")] == []


class TestChecker:
    """It sees what it is there for."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Set python_version.", ["python_version"]),
            ("Set tensorflow_pythn or nvidia_driver_reboot=true.", ["tensorflow_pythn"]),
            ("Run `make workstatoin TENSORFLOW=2.8.0`.", ["make workstatoin"]),
            ("Run `make plan TENSORFLO=2.8.0`, or run make hosts.", ["make TENSORFLO"]),
            ("the role tensorflow_venv, nvidia_repo, cuda_wheels and tensorflow_release_result", []),
            ("it is in /a/tensorflow_x, tensorflow_x.py, tensorflow_x(1) and tensorflow_x/y", []),
            ("To make it, run make lock REQUIREMENTS=requirements.txt.", []),
        ],
    )
    def test_names(self, text: str, expected: list[str]) -> None:
        assert unknown_names(text) == expected

    def test_code_of_a_page(self) -> None:
        text = "`tensorflow_verison`, tensorflow_b and\n\n    ansible-playbook -e other=1\n\n`make it`\n"
        assert unknown_in_code(text) == ["make it", "other", "tensorflow_verison"]

    def test_messages(self) -> None:
        tree = ast.parse(
            '"""Docstring here."""\nx = f"set {a} or b_c {d}"\ny = "one"\nDOCUMENTATION = "a b"\nz = "no way"\n'
        )
        assert list(messages(tree)) == [(2, "set \ufffc or b_c \ufffc"), (5, "no way")]
