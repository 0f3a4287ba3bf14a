"""A run of a fleet that is ended in the middle has a report all the same. Nothing is installed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY

DRAIN = """
- name: Drain, without an end
  ansible.builtin.shell: touch {0}/drains && exec sleep 60
"""


def run_of_two_nodes(directory: Path) -> subprocess.Popen[str]:
    (directory / "drain.yml").write_text(DRAIN.format(directory))
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "tensorflow_version": "2.15.1",
        "tensorflow_gpu": "none",
        "tensorflow_root": str(directory / "roots" / "{{ inventory_hostname }}"),
        "stack_report_directory": str(directory / "reports"),
        "fleet_drain_tasks": str(directory / "drain.yml"),
    }
    inventory = directory / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": common, "hosts": {"ada": None, "bob": None}}}))
    return subprocess.Popen(
        [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), "playbooks/fleet.yml"],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # the signal is for it and for nobody else
    )


def report_of(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "reports" / "fleet.json").read_text())
    return content


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),  # ends by the same lines
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),  # what is left is what SIGTERM finds
    ],
    ids=lambda number: number.name,
)
def test_run_that_is_ended_leaves_a_report(tmp_path: Path, number: signal.Signals) -> None:
    run = run_of_two_nodes(tmp_path)
    try:
        while not (tmp_path / "drains").exists():
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.1)
        run.send_signal(number)
        run.wait(timeout=60)
    finally:
        # Also the task, which outlives the run and, on the oldest core, holds its output open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        output = run.communicate()[0]
    assert run.returncode == (99 if number == signal.SIGINT else -number), output
    made = report_of(tmp_path)
    assert {node["host"]: node["state"] for node in made["nodes"]} == {"ada": "unfinished", "bob": "not_begun"}
    assert made["ended"] is False
    # Nobody can write a page after a SIGKILL.
    if number != signal.SIGKILL:
        assert "Fleet of 2 nodes (interrupted): 1 not begun, 1 unfinished" in output
        assert "still drained: ada" in output
        assert (tmp_path / "reports" / "fleet.html").exists()
