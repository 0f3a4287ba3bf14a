"""The history as a person and a program read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import without_credentials
from ansible.module_utils.tensorflow_stack.environment.history_table import tell_history
from ansible.module_utils.tensorflow_stack.records import history, manifest

from tests.component.environment.test_going_back import NEW, OLD, Machine

LONG = "a-project-with-a-long-name"


@pytest.fixture
def machine(tmp_path: Path, uv: str) -> Machine:
    return Machine(tmp_path, uv)


def test_each_change_in_two_lines_that_fit_a_terminal(machine: Machine) -> None:
    machine.run(NEW)
    new = machine.run(NEW, "1.24.0")

    def judge(content: dict[str, Any]) -> None:
        history.note_verdict(content["history"], history.Position(NEW, new), "cpu_only_no_gpu")

    manifest.update(machine.root, judge)
    machine.run(LONG)
    machine.back()
    machine.remove(LONG)
    told = tell_history(machine.root)
    lines = told["table"].splitlines()
    # A path is as long as it is.
    widths = [len(line) for line in lines if not line.startswith("Stable path: ")]
    assert max(widths) <= 72, "Ansible indents by 8"
    assert lines[:3] == [
        f"In use: {NEW} (build 2)",
        f"Stable path: {machine.root}/current",
        f"make rollback would switch to {NEW} (build 1).",
    ]
    rows = [line[18:].rstrip() for line in lines[4:]]
    assert rows[0] == "what         then in use        build  verdict"
    assert rows[1:3] == [f"removed      {NEW}  2      -", f"by me@desk; removed: {LONG}"]
    assert rows[3] == f"rolled back  {NEW}  2      -"
    assert "built        a-projec~ong-name  1      -" in rows
    assert f"built        {NEW}  2      cpu_only_no_gpu" in rows
    assert [entry["kept"] for entry in told["history"]] == [True, True, False, True, True]
    assert told["rollback"]["environment"] == NEW and told["rollback_refused"] is None


def test_why_there_is_no_way_back_is_said(machine: Machine) -> None:
    build = machine.run(OLD)
    told = tell_history(machine.root)
    assert told["rollback"] is None
    assert told["rollback_refused"].startswith(f"There is nothing below {machine.root} to roll back to that was in use")
    assert told["in_use"] == {"environment": OLD, "build": build}


def test_what_somebody_else_made_at_the_stable_path_is_said(machine: Machine) -> None:
    Path(machine.root, "current").mkdir(parents=True)
    machine.run(OLD)
    told = tell_history(machine.root)
    assert told["current"] is None
    assert "was not made by this toolkit" in " ".join(told["table"].split())


def test_a_root_without_anything(tmp_path: Path) -> None:
    told = tell_history(str(tmp_path / "root"))
    assert told["table"] == f"Nothing was applied below {tmp_path}/root yet."
    assert (told["in_use"], told["history"]) == (None, [])


def test_what_would_write_to_a_terminal_is_not_written(machine: Machine) -> None:
    machine.run(OLD)
    manifest.update(machine.root, lambda content: content["history"][0].update(by="\x1b[31mme"))
    assert "\x1b" not in tell_history(machine.root)["table"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@pypi.example.org/simple", "https://pypi.example.org/simple"),
        ("https://pypi.example.org:8443/simple?token=secret#here", "https://pypi.example.org:8443/simple"),
        ("file:///srv/wheels", "file:///srv/wheels"),
    ],
)
def test_the_manifest_has_no_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
