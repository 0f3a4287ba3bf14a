"""The exit codes of docs/exit_codes.md that a script relies on, by real runs in which nothing is installed: 30 s."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import fleets
from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, Run, run_playbook

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
REFUSED = {**LOCAL, "tensorflow_gpu": "required"}
UNREACHABLE = {"ansible_host": "127.0.0.1", "ansible_port": 1}


def inventory(directory: Path, **hosts: dict[str, Any]) -> str:
    common = {
        "tensorflow_version": "2.15.1",
        "tensorflow_root": str(directory / "root"),
        "stack_report_directory": str(directory / "reports"),
    }
    path = directory / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
    return str(path)


def play(playbook: str, path: str, *options: str) -> Run:
    return run_playbook(
        [str(ANSIBLE_PLAYBOOK), "-i", path, f"playbooks/{playbook}.yml", *options], directory=REPOSITORY
    )


def by_the_front(*words: str) -> Run:
    return run_playbook([sys.executable, "scripts/run_playbook.py", *words], directory=REPOSITORY)


def states(directory: Path) -> dict[str, str]:
    made = json.loads((directory / "reports" / "fleet.json").read_text())
    return {node["host"]: node["state"] for node in made["nodes"]}


def test_inventory_that_does_not_exist_is_1(tmp_path: Path) -> None:
    assert play("report", str(tmp_path / "nothing")).code == 1


def test_report_of_the_records_says_whether_a_node_needs_somebody(tmp_path: Path) -> None:
    path = inventory(tmp_path, gpu1=LOCAL)
    run = play("report", path)
    assert (run.code, states(tmp_path)) == (2, {"gpu1": "unknown"}), run.output
    assert "0 of 1 node computes; 1 needs you." in run.output
    report = {**fleets.report_of(fleets.plan_of()), "schema": 1, "host": "gpu1", "written_at": "2999-01-01T00:00:00Z"}
    (tmp_path / "reports" / "gpu1.json").write_text(json.dumps(report))
    run = play("report", path)
    assert (run.code, states(tmp_path)) == (0, {"gpu1": "proven"}), run.output
    assert "Fleet of 1 node: 1 proven" in run.output


def test_refused_node_is_2_and_3_of_the_front(tmp_path: Path) -> None:
    path = inventory(tmp_path, gpu1=LOCAL, gpu2=REFUSED)
    fresh = play("report", path, "-e", "report_fresh=true")
    assert (fresh.code, states(tmp_path)) == (2, {"gpu1": "planned", "gpu2": "refused"}), fresh.output
    assert play("fleet", path, "--check").code == 2
    assert by_the_front("plan", f"INVENTORY={path}").code == 3


@pytest.mark.slow  # the same path with another end
def test_node_that_can_have_it_is_0(tmp_path: Path) -> None:
    path = inventory(tmp_path, gpu1=LOCAL)
    assert play("report", path, "-e", "report_fresh=true").code == 0
    assert by_the_front("fleet", f"INVENTORY={path}", "CHECK=1").code == 0
    assert by_the_front("plan", f"INVENTORY={path}").code == 0


def test_node_that_is_not_reached_is_4(tmp_path: Path) -> None:
    run = play("report", inventory(tmp_path, gpu1=UNREACHABLE), "-e", "report_fresh=true")
    assert (run.code, states(tmp_path)) == (4, {"gpu1": "unreachable"}), run.output


def test_unknown_variable_is_2_and_nothing_is_done(tmp_path: Path) -> None:
    run = by_the_front("report", f"INVENTORY={inventory(tmp_path, gpu1=LOCAL)}", "FRSH=1")
    assert (run.code, (tmp_path / "reports").exists()) == (2, False), run.output
    assert "Did you mean FRESH?" in run.output
