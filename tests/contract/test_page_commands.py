"""Every command in a block of a page is run by a test, or is listed with the reason why none can run it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import run_playbook
import yaml
from tensorflow_stack.errors import StackError

from tests import page_commands
from tests.contract.test_names import targets_of_make, variables_of_make
from tests.page_commands import REPOSITORY, Block, target_of_make

LEDGER = yaml.safe_load((REPOSITORY / "tests" / "data" / "page_commands.yml").read_text(encoding="utf-8"))
ROWS: list[dict[str, str]] = LEDGER["rows"]
PLAYBOOKS = {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")}
PLACES = "playbooks|scripts|tests|examples|inventories|execution_environment"
FRESH_MACHINE = "tests/integration/test_fresh_machine.py"


def unknown_in(command: str) -> list[str]:
    """What a command names and this repository lacks: targets, variables, values, options of scripts."""
    made = target_of_make(command)
    if made is not None:
        target, given = made
        if target in PLAYBOOKS:
            try:
                run_playbook.command_line(target, run_playbook.settings(target, given, {}))
            except StackError as error:
                return [error.message]
        return [name for name in [target] if name not in targets_of_make()] + [
            name for name in given if name not in variables_of_make()
        ]
    found = [name for name in re.findall(r"-e '?(\w+)=", command) if name not in run_playbook.known_variables()]
    named = re.findall(
        r"(?<![\w/.])((?:playbooks|scripts|tests|examples|inventories|execution_environment)/[\w/.-]+)", command
    )
    found += [name for name in named if not (REPOSITORY / name).exists()]
    for script in re.findall(r"(?:scripts|tests)/[\w/]+\.py", command):
        text = (REPOSITORY / script).read_text(encoding="utf-8")
        if "pytest" not in command:
            found += [option for option in re.findall(r" (--[\w-]+)", command) if f'"{option}"' not in text]
    return found


def subject_of(command: str) -> str:
    """What a test of the command has to contain: a target, a playbook, a script or the page's block."""
    made = target_of_make(command)
    if made is not None:
        return "make_docs" if made[0] == "docs" else made[0]
    named = re.search(r"(?:playbooks|scripts)/(\w+)\.\w+", command)
    return named[1] if named else ""


def test_every_command_is_listed() -> None:
    shown = {command for block in page_commands.blocks() if block.is_commands for command in block.commands}
    listed = [row["command"] for row in ROWS]
    assert sorted(shown - set(listed)) == [], "say in tests/data/page_commands.yml which test runs it"
    assert sorted(set(listed) - shown) == [], "no page has it"
    assert listed == sorted(set(listed))


def test_every_other_block_is_listed() -> None:
    found = defaultdict(list)
    for block in page_commands.blocks():
        if not block.is_commands and not block.language:
            found[block.page].append(block.text.splitlines()[0].rstrip())
    assert dict(found) == LEDGER["texts"], "commands begin with a program that tests/page_commands.py knows"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["command"])[:60])
def test_a_command_is_valid_and_the_test_is_of_it(row: dict[str, Any]) -> None:
    assert unknown_in(row["command"]) == []
    assert row.keys() in ({"command", "by"}, {"command", "not_run"})
    if "by" not in row or row["by"] == FRESH_MACHINE:
        return
    path = REPOSITORY / row["by"]
    texts = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    assert texts, row["by"]
    assert any(subject_of(row["command"]) in file.read_text(encoding="utf-8") for file in texts)


class TestCheckers:
    """Each of them sees what it is there for."""

    @pytest.mark.parametrize(
        ("command", "unknown"),
        [
            ("make plann", ["plann"]),
            ("make plan TENSORFLO=2.8.0", ["TENSORFLO"]),
            ("make verify PRUNE=1", ["is for make cache"]),
            ("make docs RELEASE=1 NO=2", ["NO"]),
            (
                ".venv/bin/ansible-playbook playbooks/gone.yml -e tensorflow_versoin=2",
                ["tensorflow_versoin", "gone.yml"],
            ),
            (".venv/bin/python scripts/draw_plan.py --colour", ["--colour"]),
        ],
    )
    def test_a_command_with_names_that_nothing_has(self, command: str, unknown: list[str]) -> None:
        found = unknown_in(command)
        assert len(found) == len(unknown)
        assert all(name in said for name, said in zip(unknown, found, strict=True))

    def test_commands_continue_on_the_next_line_and_have_remarks(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(
            "a\n\n    make a B=1 \\\n      C=2   # why\n    make d\n\nb\n\n```sh\nx\n```\n\n```\nmake e\n```\n"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(page_commands, "REPOSITORY", tmp_path)
            found = list(page_commands.blocks([page]))
        assert [block.commands for block in found] == [["make a B=1 C=2", "make d"], ["x"], ["make e"]]
        assert all(block.is_commands for block in found)
        assert not Block("page", "", "no command\n").is_commands
