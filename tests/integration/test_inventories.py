"""Two nodes in one inventory, each with its own requirements, and other inventories, by the defaults of a checkout.

Of small wheels: test_classic_cases.py has a requirements file and the real TensorFlow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.index import serve
from tests.integration.test_classic_cases import NO_NETWORK
from tests.needs import python_of
from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, Run, run_playbook
from tests.wheels import make_tensorflow, make_wheel

pytestmark = pytest.mark.integration

CHECKOUT = (
    "action_plugins",
    "ansible.cfg",
    "callback_plugins",
    "inventories",
    "library",
    "module_utils",
    "playbooks",
    "roles",
)
NUMPY = {"ada": "1.23.5", "bob": "1.22.4"}


@dataclass(frozen=True)
class Fleet:
    """A checkout of its own, so that what is written by default is written there, and what its two nodes have."""

    path: Path

    @property
    def inventory(self) -> Path:
        return self.path / "inventory" / "hosts.yml"

    def requirements(self, node: str) -> Path:
        return self.path / "projects" / node / "requirements.txt"

    def root(self, node: str) -> Path:
        return self.path / "roots" / node

    @property
    def reports(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("reports/*.json"))

    def report(self, node: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "reports" / f"{node}.json").read_text())
        return content

    def play(
        self, playbook: str, *options: str, inventory: str | None = None, environ: dict[str, str] | None = None
    ) -> Run:
        command = [str(ANSIBLE_PLAYBOOK), "-i", inventory or str(self.inventory), f"playbooks/{playbook}.yml"]
        return run_playbook([*command, *options], directory=self.path, environ=environ)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    wheels = tmp_path_factory.mktemp("wheels")
    make_tensorflow(wheels, "2.8.0", requires=["numpy", "protobuf"])
    for name, versions in {"numpy": ("1.22.3", *NUMPY.values()), "protobuf": ("3.20.3",), "pip": ("26.0",)}.items():
        for version in versions:
            make_wheel(wheels, name, version, {f"{name}/__init__.py": f"__version__ = {version!r}\n"})
    with serve(wheels) as url:
        yield url


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, index: str) -> Fleet:
    python = python_of("3.8", "3.9", "3.10")
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    for name in CHECKOUT:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, fleet.path / name, symlinks=True)
        else:
            shutil.copy(source, fleet.path / name)
    (fleet.path / "reports").mkdir()
    (fleet.path / ".tools").symlink_to(REPOSITORY / ".tools")
    # One that has nothing of what the controller has, where there is one.
    (fleet.path / "bin").mkdir()
    (fleet.path / "bin" / "python3").symlink_to(python.path)
    hosts = {}
    for node, numpy in NUMPY.items():
        fleet.requirements(node).parent.mkdir(parents=True)
        fleet.requirements(node).write_text(f"tensorflow==2.8.0\nnumpy=={numpy}\n")
        hosts[node] = {
            "ansible_python_interpreter": python.path,
            "tensorflow_root": str(fleet.root(node)),
            "tensorflow_requirements": str(fleet.requirements(node)),
        }
    common = {
        "ansible_connection": "local",
        "tensorflow_version": "2.8.0",
        "tensorflow_gpu": "none",
        "tensorflow_check_level": "libraries",
        "tensorflow_index_url": index,
    }
    fleet.inventory.parent.mkdir()
    fleet.inventory.write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
    return fleet


@pytest.mark.oldest_core
def test_plain_list_of_hosts(fleet: Fleet) -> None:
    """Its localhost is an explicit one, for which Ansible takes a Python that it finds, not the controller's."""
    path = {"PATH": f"{fleet.path / 'bin'}:/usr/bin:/bin"}
    root = fleet.root("plain")
    variables = {"tensorflow_version": "2.17.1", "tensorflow_gpu": "none", "tensorflow_root": str(root)}
    run = fleet.play("plan", "-c", "local", "-e", json.dumps(variables), inventory="localhost,", environ=path)
    assert run.code == 0, run.output
    assert run.changed == {"localhost": 0}
    assert fleet.reports == ["localhost.plan.json"]
    assert json.loads((fleet.path / "reports" / "localhost.plan.json").read_text())["plan"]["release"] == "2.17.1"
    assert not root.exists()


@pytest.mark.oldest_core
def test_locks_and_task_files_of_an_inventory_are_no_inventory(tmp_path: Path) -> None:
    for name in ("locks/added/a.txt", "mine.locks/a.txt", "hooks/drain.yml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("- name: no host\n")
    shutil.copy(REPOSITORY / "inventories" / "workstation" / "hosts.yml", tmp_path)
    command = [ANSIBLE_PLAYBOOK, "-i", tmp_path, "--list-hosts", "playbooks/plan.yml"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, "WARNING" in done.stdout + done.stderr) == (0, False), done


@pytest.mark.oldest_core
def test_limit_in_check_mode_is_about_one_node(fleet: Fleet) -> None:
    run = fleet.play("workstation", "--check", "--diff", "--limit", "bob")
    assert run.code == 0, run.output
    assert run.changed == {"bob": 2}, "the lock and the environment"
    assert "+numpy==1.22.4\n" in run.output
    assert "numpy==1.23.5" not in run.output
    assert not any(fleet.root(node).exists() for node in NUMPY)
    assert not list((fleet.path / "projects").rglob("*.locks"))


def test_each_node_gets_what_its_own_requirements_say(fleet: Fleet, uv: str) -> None:
    for node in NUMPY:  # the index has none
        shutil.copytree(Path(uv).parent, fleet.root(node) / ".tools" / Path(uv).parent.name)
    run = fleet.play("workstation")
    assert run.code == 0, run.output
    assert run.changed == {"ada": 2, "bob": 2}, "the lock and the environment"
    assert fleet.reports == ["ada.json", "bob.json", "localhost.plan.json"]
    for node, numpy in NUMPY.items():
        python = fleet.root(node) / "tensorflow-2.8.0" / "bin" / "python"
        program = "import tensorflow, numpy; print(tensorflow.__version__, numpy.__version__)"
        assert subprocess.run([python, "-c", program], capture_output=True, text=True).stdout == f"2.8.0 {numpy}\n"
        report = fleet.report(node)
        assert (report["host"], report["check"]["verdict"]) == (node, "libraries_ok")
        lock = Path(report["plan"]["lock"]["path"])
        assert lock.is_relative_to(fleet.requirements(node).with_suffix(".locks"))
        assert f"\nnumpy=={numpy} " in lock.read_text()


def test_second_run_changes_nothing_and_asks_no_network(fleet: Fleet) -> None:
    links = [os.readlink(fleet.root(node) / "tensorflow-2.8.0") for node in NUMPY]
    run = fleet.play("workstation", environ=NO_NETWORK)
    assert run.code == 0, run.output
    assert run.changed == {"ada": 0, "bob": 0}
    assert [os.readlink(fleet.root(node) / "tensorflow-2.8.0") for node in NUMPY] == links


def test_a_nodes_interpreter_is_not_the_controllers(fleet: Fleet, tmp_path: Path) -> None:
    """An extra variable beats every other; what runs on the controller needs packaging, and this Python has nothing."""
    bare = subprocess.run(["/usr/bin/python3", "-c", "import packaging"], capture_output=True)
    if bare.returncode == 0:
        pytest.skip("this machine's own Python has packaging")
    run = fleet.play("workstation", "-e", "ansible_python_interpreter=/usr/bin/python3", environ=NO_NETWORK)
    assert run.code == 0, run.output
    assert run.changed == {"ada": 0, "bob": 0}


def test_other_requirements_of_one_node_leave_the_other_alone(fleet: Fleet) -> None:
    fleet.requirements("ada").write_text("tensorflow==2.8.0\nnumpy==1.22.3\n")
    run = fleet.play("workstation", "--check", "--diff")
    assert run.code == 0, run.output
    assert run.changed == {"ada": 2, "bob": 0}
    assert "-numpy==1.23.5\n+numpy==1.22.3\n" in re.sub(r"(?m)^\s+", "", run.output)
