"""A fleet of three nodes of this machine, each with a root of its own: preflight, canary, batches, drained nodes.

Of doubles in small wheels, for which the check succeeds: this is about the nodes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hosts.fleet import make_doubles
from tests.playbooks import ANSIBLE_PLAYBOOK, LOCAL, REPOSITORY, Run, run_playbook

pytestmark = pytest.mark.integration

NODES = ("ada", "bob", "cleo")
# A scheduler that writes down what it is asked to do, and cannot drain a node that is named in `stuck`.
DRAIN = """
- name: Drain
  ansible.builtin.shell: |
    grep -qx {{{{ inventory_hostname }}}} {0}/stuck && exit 1
    echo drain {{{{ inventory_hostname }}}} >> {0}/scheduler
"""
UNDRAIN = """
- name: Undrain
  ansible.builtin.shell: echo undrain {{{{ inventory_hostname }}}} >> {0}/scheduler
"""


@dataclass(frozen=True)
class Fleet:
    path: Path

    def play(self, *options: str, environ: dict[str, str] | None = None, **variables: Any) -> Run:
        command = [str(ANSIBLE_PLAYBOOK), "-i", str(self.path / "hosts.yml"), "playbooks/fleet.yml", *options]
        return run_playbook([*command, "-e", json.dumps(variables)], directory=REPOSITORY, environ=environ)

    @contextlib.contextmanager
    def asking_for_too_much(self, node: str) -> Iterator[None]:
        """No node of this machine has a GPU."""
        path = self.path / "host_vars" / f"{node}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("tensorflow_gpu: required\n")
        yield
        path.unlink()

    @property
    def states(self) -> dict[str, str]:
        return {node["host"]: node["state"] for node in self.summary["nodes"]}

    @property
    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "reports" / "fleet.json").read_text())
        return content

    @property
    def installed(self) -> list[str]:
        return [node for node in NODES if list((self.path / "roots").glob(f"{node}/tensorflow-*"))]

    @property
    def asked(self) -> list[str]:
        """What the scheduler was asked for since the last time."""
        log = self.path / "scheduler"
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return lines

    @property
    def drained(self) -> list[str]:
        return sorted(path.name for path in (self.path / "reports" / "drained").glob("*"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Fleet:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    make_doubles(fleet.path / "wheels", fleet.path / "locks", "2.15.1")
    for node in NODES:
        shutil.copytree(Path(uv).parent, fleet.path / "roots" / node / ".tools" / Path(uv).parent.name)
    (fleet.path / "stuck").write_text("")
    for name, tasks in (("drain", DRAIN), ("undrain", UNDRAIN)):
        (fleet.path / f"{name}.yml").write_text(tasks.format(fleet.path))
    common = {
        **LOCAL,
        "tensorflow_version": "2.15.1",
        "tensorflow_release_locks": str(fleet.path / "locks"),
        "tensorflow_index_url": (fleet.path / "wheels").as_uri(),
        "tensorflow_gpu": "none",
        "tensorflow_root": str(fleet.path / "roots" / "{{ inventory_hostname }}"),
        "stack_report_directory": str(fleet.path / "reports"),
        "fleet_batches": [1],
        "fleet_drain_tasks": str(fleet.path / "drain.yml"),
        "fleet_undrain_tasks": str(fleet.path / "undrain.yml"),
    }
    hosts: dict[str, Any] = dict.fromkeys(NODES)
    (fleet.path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
    return fleet


def test_check_mode_plans_several_environments_and_changes_and_drains_nothing(fleet: Fleet) -> None:
    several = [{"version": "2.8.0"}, {"version": "2.15.1", "environment": "new"}]
    run = fleet.play("--check", "--limit", "ada,bob", fleet_environments=several)
    assert run.code == 0, run.output
    assert "Fleet of 2 nodes: 2 would be changed" in run.output
    for path in ("tensorflow-2.8.0", "new"):
        said = "".join(run.output.split("\n  "))
        assert all(f"/{node}/{path}: environment install" in said for node in ("ada", "bob"))
    assert (fleet.installed, fleet.asked, (fleet.path / "reports").exists()) == ([], [], False)


@pytest.mark.oldest_core
def test_one_node_that_cannot_have_it_stops_all(fleet: Fleet) -> None:
    with fleet.asking_for_too_much("cleo"):
        run = fleet.play()
    assert run.code == 2, run.output
    assert "Nothing was changed on any node, because 1 of them cannot have what is asked for:" in run.output
    assert "Fleet of 3 nodes: 2 not begun, 1 refused" in run.output
    assert fleet.states == {"ada": "not_begun", "bob": "not_begun", "cleo": "refused"}
    assert (fleet.installed, fleet.asked, fleet.drained) == ([], [], [])


def test_batch_that_fails_is_the_last_one(fleet: Fleet) -> None:
    (fleet.path / "stuck").write_text("bob\n")
    run = fleet.play()
    assert run.code == 2, run.output
    assert fleet.states == {"ada": "proven", "bob": "failed", "cleo": "not_begun"}
    assert fleet.installed == ["ada"]
    assert fleet.asked == ["drain ada", "undrain ada"]
    assert fleet.drained == ["bob"]
    assert "still drained: bob; run the playbook again when the cause is mended" in run.output
    limited = fleet.play("--check", "--limit", "ada")
    assert "still drained, and not in this run: bob; run the playbook on them, too" in limited.output


def test_again_does_what_is_missing_and_nothing_else(fleet: Fleet) -> None:
    (fleet.path / "stuck").write_text("")
    run = fleet.play()
    assert run.code == 0, run.output
    assert "Fleet of 3 nodes: 3 proven" in run.output
    assert fleet.asked == ["drain bob", "undrain bob", "drain cleo", "undrain cleo"]
    assert (fleet.installed, fleet.drained) == (list(NODES), [])
    assert [node["environments"][0]["changed"] for node in fleet.summary["nodes"]] == [False, True, True]


def test_unchanged_fleet_is_one_module_run_a_node(fleet: Fleet) -> None:
    run = fleet.play("-vv")
    assert run.code == 0, run.output
    assert (fleet.states, fleet.asked) == (dict.fromkeys(NODES, "proven"), [])
    assert set(run.changed.values()) == {0}
    assert "PLAY [Batch]" in run.output
    assert "Install each environment" not in run.output
    # The decision and whether it stops are the first host's tasks.
    assert [run.recap[node]["ok"] for node in ("ada", "bob")] == [2, 1]


def test_environment_in_use_is_refused_in_the_preflight_with_who_uses_it(fleet: Fleet) -> None:
    python = fleet.path / "roots" / "ada" / "tensorflow-2.15.1" / "bin" / "python"
    other = {"tensorflow_version": "2.14.1", "tensorflow_environment": "tensorflow-2.15.1"}
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        try:
            run = fleet.play(**other, fleet_drain_tasks="", fleet_undrain_tasks="")
            # With drain tasks it is looked for when the node was drained; in check mode it was not.
            drained = fleet.play("--check", **other)
        finally:
            user.kill()
    assert run.code == 2, run.output
    assert fleet.states == {"ada": "refused", "bob": "not_begun", "cleo": "not_begun"}
    said = " ".join(run.output.split())
    assert f"to change it; found process {user.pid} (python) of" in said
    assert "or set fleet_change_in_use to true." in said
    assert drained.code == 0, drained.output
    assert "Fleet of 3 nodes: 3 would be changed" in drained.output


def test_node_that_is_left_out_is_named_and_ends_the_run_badly(fleet: Fleet) -> None:
    with fleet.asking_for_too_much("cleo"):
        run = fleet.play(fleet_skip_refused=True)
    assert run.code == 2, run.output
    assert fleet.states == {"ada": "proven", "bob": "proven", "cleo": "refused"}
    assert "refused: cleo: gpu: wanted a GPU" in run.output
