"""A node that is lost in the middle of its batch: the tasks of fleet.yml for a node, with nothing to install."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, run_playbook

pytestmark = pytest.mark.integration

# bob does not answer any more as soon as it is drained.
DRAIN = """
- name: Drain
  ansible.builtin.shell: echo {{ inventory_hostname }} >> {{ fleet_reports }}/asked
- name: Lose it
  ansible.builtin.set_fact: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}
  when: inventory_hostname == 'bob'
- name: Ask it
  ansible.builtin.ping:
"""


@pytest.mark.parametrize(("tolerated", "asked"), [(0, ["ada", "bob"]), (50, ["ada", "bob", "cleo"])])
def test_next_batch_is_begun_only_if_so_many_may_be_lost(tmp_path: Path, tolerated: int, asked: list[str]) -> None:
    (tmp_path / "drain.yml").write_text(DRAIN)
    play = {
        "hosts": "all",
        "gather_facts": False,
        "serial": [2, 1],
        "max_fail_percentage": tolerated,
        "tasks": [{"ansible.builtin.import_tasks": str(REPOSITORY / "playbooks" / "tasks" / "fleet_node.yml")}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    variables = {
        "fleet_decision": {"canary": [], "rest": ["ada", "bob", "cleo"], "max_fail_percentage": tolerated},
        "fleet_reports": str(tmp_path),
        "fleet_node_environments": [],
        "fleet_drain_tasks": str(tmp_path / "drain.yml"),
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    hosts = {name: {"ansible_connection": "local"} for name in ("ada", "bob", "cleo")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")]
    run = run_playbook([*command, "-e", json.dumps(variables)], directory=REPOSITORY)
    assert run.code != 0, run.output
    assert sorted((tmp_path / "asked").read_text().split()) == asked
    is_stopped = "these nodes of the batch were lost: bob." in " ".join(run.output.split())
    assert is_stopped == (tolerated == 0)
