"""The hooks of the example fleet for Kubernetes, against a double of kubectl (tests/kubectl.py) that keeps state."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, Run, run_playbook

pytestmark = pytest.mark.integration

HOOKS = REPOSITORY / "inventories" / "example_fleet" / "hooks" / "kubernetes"
MARK = {"tensorflow-gpu-stack/drained": "true"}
EMPTY = {"cordoned": False, "drained": False, "annotations": {}}
# gpu01 can be drained, gpu02 was cordoned by somebody else, and the others have pods that cannot go.
NODES = ("gpu01", "gpu02", "gpu03", "gpu04", "spare")
PODS = {
    "dcgm": {"node": "gpu01", "owner": "DaemonSet", "budget": 0},
    # A disruption budget refuses the eviction twice, or for ever.
    "web": {"node": "gpu01", "owner": "ReplicaSet", "budget": 2},
    "database": {"node": "gpu03", "owner": "StatefulSet", "budget": 10**6},
    "alone": {"node": "gpu04", "owner": None, "budget": 0},
}


class Cluster:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "bin").mkdir()
        kubectl = path / "bin" / "kubectl"
        kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {REPOSITORY}/tests/kubectl.py "$@"\n')
        kubectl.chmod(0o755)
        nodes = {**dict.fromkeys(NODES, EMPTY), "gpu02": {**EMPTY, "cordoned": True}}
        (path / "state.json").write_text(json.dumps({"nodes": nodes, "pods": PODS, "log": []}))
        for name, hooks in (("drain", ["drain", "drain"]), ("undrain", ["undrain", "undrain"])):
            tasks = [{"ansible.builtin.include_tasks": str(HOOKS / f"{hook}.yml")} for hook in hooks]
            (path / f"{name}.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))

    @property
    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "state.json").read_text())
        return content

    def asked(self, node: str) -> list[str]:
        """The commands about a node, but those that only read."""
        words = [line.split() for line in self.state["log"]]
        return [line[0] for line in words if line[0] != "get" and node in line]

    def play(self, hooks: str, nodes: str, *options: str) -> Run:
        own = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "fleet_drain_timeout": 2,
            # The controller, which the hooks ask by default, is no host of this inventory.
            "fleet_kubectl_host": "{{ inventory_hostname }}",
        }
        command = [str(ANSIBLE_PLAYBOOK), "-i", f"{nodes},", str(self.path / f"{hooks}.yml"), *options]
        environ = {
            "PATH": f"{self.path}/bin{os.pathsep}{os.environ['PATH']}",
            "KUBECTL_STATE": str(self.path / "state.json"),
        }
        return run_playbook([*command, "-e", json.dumps(own)], directory=REPOSITORY, environ=environ)


# The order of hooks is seen in test_fleet.py; this takes 14 CPU seconds.
@pytest.mark.slow
def test_nodes_are_cordoned_drained_and_uncordoned(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    run = cluster.play("drain", "gpu01", "--check")
    assert (run.code, cluster.asked("gpu01")) == (0, []), run.output

    run = cluster.play("drain", "gpu01,gpu02,gpu03,gpu04")
    said = " ".join(run.output.split())
    assert run.code == 2, run.output
    nodes = cluster.state["nodes"]
    assert nodes["gpu01"] == {"cordoned": True, "drained": True, "annotations": MARK}
    assert cluster.asked("gpu01") == 2 * ["annotate", "cordon", "drain"]
    assert {name: pod["node"] for name, pod in cluster.state["pods"].items()} == {
        **{name: pod["node"] for name, pod in PODS.items()},
        "web": "spare",
    }
    assert nodes["gpu02"] == {**EMPTY, "cordoned": True}
    assert "Kubernetes' node gpu02 is cordoned already, and not by this toolkit. Uncordon it first" in said
    for node, error in (("gpu03", "global timeout reached: 2s"), ("gpu04", "Pods that declare no controller")):
        assert nodes[node] == {"cordoned": True, "drained": False, "annotations": MARK}
        assert error in said

    run = cluster.play("undrain", "gpu01,gpu02")
    assert run.code == 0, run.output
    nodes = cluster.state["nodes"]
    assert (nodes["gpu01"], nodes["gpu02"]) == (EMPTY, {**EMPTY, "cordoned": True})
    assert cluster.asked("gpu01")[6:] == ["uncordon", "annotate"]
    assert cluster.asked("gpu02") == []
