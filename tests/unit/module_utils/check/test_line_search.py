from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.check.line_search import Lines, needles
from ansible.module_utils.tensorflow_stack.check.log_text import bare_forms, split_lines
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

TESTS = Path(__file__).resolve().parents[3]
TABLES = load_tables(str(TESTS.parent / "roles/tensorflow_release/files/tables"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("No space left", ["no space left"]),
        (r"a\.b\.c|def+g", ["a.b.c", "def"]),
        ("(?:abc|defg) of", ["abc", "defg"]),
        ("(?P<name>libcu\\w{1,20}) is x", ["libcu"]),
        ("optional(?: words)? here", ["optional"]),
        ("colou?rs of", ["rs of"]),
        ("abc[def]ghij", ["ghij"]),
        (r"(?i)\bABORTED\b", ["aborted"]),
        (r"(?!not this)but this", ["but this"]),
        (r"lib(?P<l>\w+) and (?P=l) too", [" and "]),
        (r"[[\]]abcd", ["abcd"]),
        ("long enough|ab", []),
        (r"\d+", []),
    ],
)
def test_texts_that_a_match_needs(pattern: str, expected: list[str]) -> None:
    assert list(needles(pattern)) == expected


def test_each_line_is_kept_once_in_its_order() -> None:
    assert Lines(["b", " a", "", "b "]).lines == ["b", "a"]


def test_a_line_is_found_whatever_its_case_and_behind_a_prefix() -> None:
    lines = Lines(["first", "gpu01: E: Unable to locate", "e: unable to locate", "E: UNABLE"])
    assert [number for number, _ in lines.search("^E: Unable to")] == [1]
    assert [number for number, _ in lines.search("(?i)unable")] == [1, 2, 3]


def test_nothing_is_overlooked() -> None:
    """On all texts of the tests every row finds what it finds if each line is tried."""
    captures = sorted((TESTS / "data" / "captures").glob("*/*.txt"))
    lines = Lines(split_lines("\n".join(path.read_text(encoding="utf-8") for path in captures)))
    forms = [bare_forms(line) for line in lines.lines]
    rows = [evidence["line"] for row in TABLES.diagnoses for evidence in row.evidence if "line" in evidence]
    for pattern in [*rows, *(row.line for row in TABLES.log_lines)]:
        compiled = re.compile(pattern)
        expected = [number for number, shown in enumerate(forms) if any(map(compiled.search, shown))]
        assert [number for number, _ in lines.search(pattern)] == expected, pattern
