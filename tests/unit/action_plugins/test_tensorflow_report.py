"""The action that writes the report: its options are checked, and a failed run fails the task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow_report
from ansible.errors import AnsibleError

PROVEN: dict[str, Any] = {"verdict": "ok", "reason": "", "causes": [], "reused": False, "checked_at": "", "report": {}}

RunAction = Callable[..., dict[str, Any]]


@pytest.fixture
def act(tmp_path: Path) -> RunAction:
    """Runs the action as a task for the host `a` does."""

    def run(*, check: bool = False, variables: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        task = SimpleNamespace(
            args={"host": "a", "path": str(tmp_path / "a.json"), **options},
            action="tensorflow_report",
            async_val=0,
            check_mode=check,
            diff=False,
        )
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        play = SimpleNamespace(check_mode=check)
        templar = SimpleNamespace(template=lambda value: value.replace("{{ home }}", "/home/me"))
        action = tensorflow_report.ActionModule(task, connection, play, None, templar, None)
        action._load_name = "tensorflow_report"  # as the loader of plugins names it
        return action.run(task_vars={"inventory_hostname": "a", **(variables or {})})

    return run


def test_a_proof_is_written_and_nothing_counts_as_changed(act: RunAction, tmp_path: Path) -> None:
    result = act(check_result=PROVEN, proof_required=True)
    assert (result["changed"], result.get("failed", False)) == (False, False)
    assert result["report"]["succeeded"]
    assert json.loads((tmp_path / "a.json").read_text()) == result["report"]


def test_how_to_go_back_names_what_the_run_was_given(act: RunAction) -> None:
    built = {
        "action": "build",
        "build": "tensorflow-2.8.0-0123456789ab-1",
        "environment": "/home/me/tf/tensorflow-2.8.0",
        "release": "2.8.0",
        "flavour": "cpu",
        "removed_builds": [],
    }
    built |= dict.fromkeys(("changed", "damage", "dropped", "kept_builds", "passed_over", "bytes_to_fetch", "seconds"))

    def back(**variables: Any) -> str:
        line: str = act(check_result=PROVEN, venv_result=built, variables=variables)["use"][2]
        return line.partition(" removes")[0]

    of_make = ["/checkout/inventories/workstation"]
    assert back(ansible_inventory_sources=of_make) == "to go back: make remove ENVIRONMENT=tensorflow-2.8.0"
    assert back(tensorflow_root="{{ home }}/tf", ansible_inventory_sources=["/srv/hosts"]) == (
        "to go back: make remove ENVIRONMENT=tensorflow-2.8.0 ROOT=/home/me/tf INVENTORY=/srv/hosts"
    )
    assert back(ansible_inventory_sources=of_make, ansible_play_hosts_all=["a", "b"]) == (
        "to go back: ansible-playbook -i /checkout/inventories/workstation playbooks/remove.yml --limit a "
        "-e tensorflow_environment=tensorflow-2.8.0"
    )


def test_a_failed_task_fails_after_the_report_is_written(act: RunAction, tmp_path: Path) -> None:
    result = act(failed_task="Build", failed_result={"failed": True, "msg": "the disk is full"})
    assert result["failed"]
    assert result["msg"] == f"The task 'Build' failed, see above. The report is {tmp_path / 'a.json'}."
    assert json.loads((tmp_path / "a.json").read_text())["error"] == "the disk is full"


def test_check_mode_writes_nothing_and_needs_no_proof(act: RunAction, tmp_path: Path) -> None:
    assert "failed" not in act(check=True, proof_required=True)
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_it_does_not_have_is_refused(act: RunAction, tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="check_results"):
        act(check_results=PROVEN)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(act: RunAction, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    result = act(path=str(tmp_path / "reports" / "a.json"), check_result=PROVEN)
    assert result["failed"] and "Set stack_report_directory to a directory of yours." in result["msg"]
