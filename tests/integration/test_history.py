"""What the node remembers, by the playbooks: going back across releases, the history, the stable path, and removal.

With a double of TensorFlow in small wheels. One machine's story in order: each test goes on from what the one before
left.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import platform
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, lock_inputs
from ansible.module_utils.tensorflow_stack.records.lockfile import write_lock
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests.integration.test_additions import MINOR, NAME, RELEASE, TABLES, Machine, said
from tests.playbooks import REPOSITORY
from tests.wheels import make_lock, make_tensorflow

pytestmark = pytest.mark.integration

OTHER = {"3.10": "2.16.2", "3.11": "2.16.2", "3.12": "2.16.2", "3.13": "2.20.0"}.get(MINOR)
OTHER_NAME = f"tensorflow-{OTHER}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Machine:
    if RELEASE is None or OTHER is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    machine = Machine(tmp_path_factory.mktemp("machine"), uv)
    request = LockRequest(release=OTHER, python=MINOR, platform="linux_x86_64", flavour="cpu")
    inputs = lock_inputs(request, load_tables(str(TABLES)))
    tensorflow = make_tensorflow(machine.wheels, OTHER)
    lock = dataclasses.replace(
        make_lock(tensorflow, machine.numpy, release=OTHER, python=MINOR), inputs_sha256=inputs.sha256
    )
    path = Path(request.path_in(str(machine.site.locks)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lock(str(path), lock)
    return machine


def stable(machine: Machine) -> str:
    return os.readlink(machine.site.root / "current")


def test_a_rollback_goes_to_the_release_before(machine: Machine) -> None:
    assert machine.play("workstation", tensorflow_version=RELEASE).code == 0
    assert stable(machine) == NAME
    run = machine.play("workstation", tensorflow_version=OTHER)
    assert run.code == 0 and stable(machine) == OTHER_NAME, run.output
    checked = machine.play("rollback", "--check", "--diff")
    assert checked.changed == {"localhost": 1} and stable(machine) == OTHER_NAME
    assert f"-tensorflow=={OTHER}" in checked.output and f"+tensorflow=={RELEASE}" in checked.output
    run = machine.play("rollback")
    assert run.changed == {"localhost": 1} and stable(machine) == NAME, run.output
    assert run.report["done"]["environment"] == str(machine.site.root / NAME)
    again = machine.play("rollback")
    assert again.code == 2
    assert "There is nothing below" in said(again) and f"to roll back to that was in use before {NAME}" in said(again)


def test_a_bare_verify_means_what_is_in_use(machine: Machine) -> None:
    run = machine.play("verify")
    assert run.code == 0 and run.report["release"] == RELEASE, run.output


def test_a_rollback_of_what_an_inventory_names_is_not_of_that_alone(machine: Machine) -> None:
    """The inventory says what is to be applied; -e and make say what is to be rolled back."""
    assert machine.play("workstation", tensorflow_version=OTHER).code == 0
    inventory = machine.site.path / "hosts.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": {**local, "tensorflow_version": OTHER}}}}))
    named = machine.play("rollback", "-i", str(inventory), tensorflow_version=OTHER)
    assert named.code == 2 and f"{OTHER_NAME} has no build to roll back to" in said(named)
    assert stable(machine) == OTHER_NAME
    run = machine.play("rollback", "-i", str(inventory))
    assert run.changed == {"localhost": 1} and stable(machine) == NAME, run.output
    listed = machine.play("remove", "-i", str(inventory))
    assert listed.code == 2 and f"there are {OTHER_NAME}, {NAME}. Set tensorflow_environment" in said(listed)


def test_the_history_is_shown_and_saved(machine: Machine) -> None:
    run = machine.play("history")
    assert run.changed == {"localhost": 0}, run.output
    assert f"In use: {NAME} (build 1)" in run.output
    rows = [line.split()[2:] for line in run.output.splitlines() if line.startswith("20")]
    assert [(row[0], row[1]) for row in rows][-2:] == [("built", OTHER_NAME), ("built", NAME)]
    assert all(len(line) <= 80 for line in run.output.splitlines() if "PLAY RECAP" not in line and " : ok=" not in line)
    saved = json.loads((REPOSITORY / "reports" / "localhost.history.json").read_text())
    first = saved["history"][-1]
    assert first["by"] == f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{platform.node()}"
    assert first["asked"] == {
        "tensorflow_version": RELEASE,
        "tensorflow_gpu": "none",
        "tensorflow_python": MINOR,
        "tensorflow_index_url": machine.wheels.as_uri(),
    }
    assert saved["current"] == str(machine.site.root / "current")


def test_a_removal_without_a_name_lists_what_there_is(machine: Machine) -> None:
    run = machine.play("remove")
    assert run.code == 2
    assert f"No environment was named, so nothing was removed. Below {machine.site.root} there are" in said(run)
    assert f"{OTHER_NAME}, {NAME}. Set tensorflow_environment" in said(run)


def test_after_its_removal_nothing_is_in_use(machine: Machine) -> None:
    assert machine.play("remove", remove_applied=True).code == 0
    again = machine.play("remove", remove_applied=True)
    assert again.code == 2 and "No environment was named, and none is in use, so nothing was removed." in said(again)
    assert not os.path.lexists(machine.site.root / "current")
    assert "It is unknown which environment below" in said(machine.play("verify"))
    run = machine.play("rollback")
    assert run.changed == {"localhost": 1} and stable(machine) == OTHER_NAME, run.output
    assert f"not usable, and passed over: {NAME}-" in said(run)


def test_what_a_person_made_at_the_stable_path_is_left_and_said(machine: Machine) -> None:
    path = machine.site.root / "current"
    path.unlink()
    path.mkdir()
    run = machine.play("workstation", tensorflow_version=RELEASE)
    assert run.code == 0 and path.is_dir() and not path.is_symlink()
    assert f"{path} exists and was not made by this toolkit, so it is not changed." in said(run)
