"""Facts that age are rows of tables. What code has to know by itself is marked `# fact: <source, date>`.

`# example` marks a version that a message gives as one, which does not age.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

STACK = Path(__file__).resolve().parents[2] / "module_utils" / "tensorflow_stack"
# Has the public index, which is where uv itself comes from.
EXEMPT = {"io/index.py", "io/uv.py"}
FILES = sorted(path for path in STACK.rglob("*.py") if path.relative_to(STACK).as_posix() not in EXEMPT)
# 2.8, cuda-11.2, libcudart.so.11.0, https://example.org.
LITERAL = re.compile(r"(?<![\w.])(?:[a-z]+-)?v?\d+\.\d+|\.so\.\d+\.\d+|https?://\w", re.IGNORECASE)
# A constant with such a name and a number is a version without its dots.
VERSIONED = re.compile(r"(^|_)(COMPATIBLE|GLIBC|BRANCH|DRIVER_FROM|BY_DEFAULT)(_|$)")
FIRST = re.compile(r"_(FIRST|LAST|OLDEST|NEWEST)(_|$)")
MARK = re.compile(r"# (fact: \S.*, .*\d{4}-\d{2}(-\d{2})?|example)$")


def docstrings(tree: ast.AST) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            found.add(id(node.body[0].value))  # type: ignore[attr-defined]  # an expression, as it is a docstring
    return found


def is_version(node: ast.AST) -> bool:
    """A tuple of two numbers or more, as versions are compared."""
    numbers = (
        [part.value for part in node.elts if isinstance(part, ast.Constant)] if isinstance(node, ast.Tuple) else []
    )
    return len(numbers) > 1 and all(type(number) is int for number in numbers)


def is_by_order(node: ast.Compare) -> bool:
    """As versions are compared. What the running Python can do is no fact that ages."""
    orders = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    return all(isinstance(op, orders) for op in node.ops) and "sys.version_info" not in ast.unparse(node)


def facts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every literal that is a version or an address."""
    tree = ast.parse(source)
    ignored = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
            if LITERAL.search(node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.Compare) and is_by_order(node):
            yield from ((part.lineno, ast.unparse(part)) for part in [node.left, *node.comparators] if is_version(part))
        elif isinstance(node, ast.Assign):
            names = ast.unparse(node.targets[0])
            is_number = isinstance(node.value, ast.Constant) and type(node.value.value) is int
            if (is_number and VERSIONED.search(names)) or (is_version(node.value) and FIRST.search(names)):
                yield node.lineno, ast.unparse(node)


def unmarked(source: str) -> list[str]:
    """The literals on lines without a mark; one on a line of its own is for the statement below it."""
    lines = source.splitlines()
    marked = {number for number, line in enumerate(lines, 1) if MARK.search(line)}
    above = {number for number in marked if lines[number - 1].lstrip().startswith("#")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno - 1 in above:
            marked |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return [f"line {line}: {text}" for line, text in facts(source) if line not in marked]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(STACK).as_posix())
def test_code_knows_no_version_and_no_address(path: Path) -> None:
    assert unmarked(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        'x = "2.8.0"',
        'x = "cuda-11.2"',
        'x = "libcudart.so.11.0"',
        'x = "https://example.org/"',
        "x = release >= (2, 14)",
        "_FIRST_COMPATIBLE_CUDA = 11",
        "GLIBC_MINOR = 28",
        "_FIRST_TO_LOOK = (2, 14)",
        'x = "2.8.0"  # fact: seen',
        'x = "2.8.0"  # examples of it',
        '# fact: a source, 2026-11-22\n\nx = 1\ny = "2.8.0"',
    ],
)
def test_checker_sees_a_fact(source: str) -> None:
    assert len(unmarked(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'x = "2.8.0"  # fact: its changelog, 2026-11-22',
        '# fact: its changelog, 2026-11-22\nx = {\n    "2.8.0": 1,\n}',
        '# example\nraise ValueError("such as 2.8.0")',
        '"""Since 2.8.0."""',
        "import sys\nx = sys.version_info >= (3, 11)",
        "_LAYOUT = 1",
        "_FIRST_QUOTED = 2",
        "x = byte in (0, 1)",
        "x = 0.5",
        'x = "libcuda.so.1"',
    ],
)
def test_checker_takes_what_is_marked_and_what_is_none(source: str) -> None:
    assert unmarked(source) == []
