"""docs/security.md names for each defence a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")


def test_each_defence_has_a_test() -> None:
    table = PAGE.partition("## What is defended")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.fullmatch(r"\|.*\| \[\w+\]\(\.\./(tests/[\w/]+\.py)\), `(test_\w+)` \|", row) for row in rows]
    assert [row for row, found in zip(rows, named) if not found] == []
    missing = [
        found.group(2)
        for found in named
        if found and f"def {found.group(2)}(" not in (REPOSITORY / found.group(1)).read_text(encoding="utf-8")
    ]
    assert len(rows) > 20 and missing == []


def test_the_policy_names_the_page() -> None:
    assert "docs/security.md" in (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
