"""The callback in real runs of ansible-playbook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def test_playbook_run_says_only_what_takes_long_and_ends(tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        "- hosts: all\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - {name: Wait, ansible.builtin.command: sleep 5}\n"
        "    - {name: Be quick, ansible.builtin.command: 'true'}\n"
    )
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/workstation"]
    ended = subprocess.run(
        [*command, str(playbook)],
        cwd=REPOSITORY,
        env={**os.environ, "STACK_PROGRESS_INTERVAL": "2", "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stderr.splitlines()
    assert lines
    assert [line for line in lines if not (line.startswith("[localhost, ") and line.endswith(" s] Wait"))] == []


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        pytest.param(None, "No inventory was parsed", id="none there"),
        pytest.param("", "No task ran on any host", id="empty file"),
        pytest.param("all: {hosts: [", "No inventory was parsed", id="damaged"),
        pytest.param("all: {hosts: {}}", "No task ran on any host", id="no host in it"),
    ],
)
def test_run_without_a_host_does_not_end_well(tmp_path: Path, inventory: str | None, said: str) -> None:
    path = tmp_path / "hosts.yml"
    if inventory is not None:
        path.write_text(inventory)
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(path), "playbooks/plan.yml"],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0, ended.stdout
    assert said in ended.stderr
