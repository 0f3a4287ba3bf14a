"""docs/exit_codes.md has every command of an operator; tests/component/test_exit_codes.py runs some."""

from __future__ import annotations

import re
from pathlib import Path

from scripts import run_playbook

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "exit_codes.md").read_text(encoding="utf-8")


def test_every_playbook_and_its_target_has_a_row() -> None:
    rows = dict(re.findall(r"^\| `make (\w+)` \| `(\w+)\.yml` \| \w", PAGE, re.MULTILINE))
    assert rows == {name: name for name in (path.stem for path in (REPOSITORY / "playbooks").glob("*.yml"))}
    targets = re.search(r"^PLAYBOOKS := (.+)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    assert sorted(targets[1].split()) == sorted(rows)


def test_own_exit_codes_of_the_front_are_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert listed >= {0, 2, *run_playbook.ENDS}
