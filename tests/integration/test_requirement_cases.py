"""Small files after public ones, on the real package index: tests/data/requirement_cases.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = yaml.safe_load((REPOSITORY / "tests/data/requirement_cases.yml").read_text())
# Of a message and of each row of a list in it, on a screen of 120 columns.
MOST_CHARACTERS = 5 * 120

# Half a minute each with an empty cache; tests/unit/module_utils/locking has every kind.
pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any], run_module: Any, tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(case["text"])
    made = run_module(
        "tensorflow_lock",
        check=True,
        requirements=str(path),
        flavours=case.get("flavours", ["cpu"]),
        cutoff="2026-11-26T00:00:00Z",
        directory=str(tmp_path / "locks"),
        tables=str(REPOSITORY / "roles/tensorflow_release/files/tables"),
        tools_directory=str(REPOSITORY / ".tools"),
    )
    is_locked = "pythons" in case or "without_lock" in case
    assert made.get("failed", False) is not is_locked, made.get("msg")
    reasons = [row["reason"] for row in made.get("without_lock", ())]
    said = "\n".join([made.get("msg") or "", *made.get("summaries", ()), *made.get("notes", ()), *reasons])
    assert [text for text in case["says"] if text not in said] == [], said
    assert [text for text in case.get("never", ()) if text in said] == [], said
    assert [row["flavour"] for row in made.get("without_lock", ())] == case.get("without_lock", [])
    if "pythons" in case:
        assert [lock["python"] for lock in made["locks"]] == case["pythons"]
    for name, version in case.get("packages", {}).items():
        assert all(f"\n{name}=={version} " in lock["text"] for lock in made["locks"])
    assert [line for line in (made.get("msg") or "").split("\n") if len(line) > MOST_CHARACTERS] == []
