"""A node whose driver works only after a reboot. What the kernel side says is given; all else is the real play."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.integration.test_additions import MINOR, RELEASE, Machine
from tests.integration.test_classic_cases import REPORT_SCHEMA
from tests.playbooks import ANSIBLE_PLAYBOOK, LOCAL, REPOSITORY, run_playbook

pytestmark = pytest.mark.integration

IDENTITY = {"boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "machine_id": None}
KERNEL_SIDE: dict[str, Any] = {
    "changed": False,
    "reboot_required": True,
    "reboot_reasons": ["nouveau is loaded"],
    "machine": IDENTITY,
}
NEEDS_REBOOT = {"tensorflow_version": RELEASE, "nvidia_driver_kernel_result": KERNEL_SIDE}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Machine:
    """With a double of TensorFlow in a small wheel: the run ends before TensorFlow would compute."""
    if RELEASE is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    machine = Machine(tmp_path_factory.mktemp("reboot"), uv)
    built = machine.play("workstation", tensorflow_version=RELEASE)
    assert built.code == 0, built.output
    return machine


def test_without_permission_it_says_so_and_does_not_check(machine: Machine) -> None:
    run = machine.play("workstation", **NEEDS_REBOOT)
    assert run.code != 0
    assert "nouveau is loaded. Reboot the node and run again, or set nvidia_driver_reboot to true." in run.output
    jsonschema.validate(run.report, REPORT_SCHEMA)
    assert (run.report["check"]["verdict"], run.report["succeeded"]) == ("reboot_required", False)
    assert run.report["system"]["driver_kernel"]["reboot_reasons"] == ["nouveau is loaded"]


def test_the_machine_that_runs_the_play_is_not_rebooted_with_permission_either(machine: Machine) -> None:
    run = machine.play("workstation", **NEEDS_REBOOT, nvidia_driver_reboot=True)
    assert run.code != 0
    assert "it is the machine that runs this play" in run.output
    assert run.report["check"]["verdict"] == "reboot_required"


def test_check_mode_foresees_no_failure(machine: Machine) -> None:
    run = machine.play("workstation", "--check", **NEEDS_REBOOT)
    assert run.code == 0, run.output
    assert "not_checked" in run.output


def test_another_failure_of_the_check_is_no_reason_to_reboot(machine: Machine) -> None:
    wish = {"tensorflow_version": RELEASE, "nvidia_driver_reboot": True}
    run = machine.play("workstation", **wish, tensorflow_check_time_limit=0)
    assert run.code != 0
    assert "time_limit is 0" in run.output
    assert "Reboot the node" not in run.output


EVIDENCE_OF_THE_PLAN = {"code": "c", "gpus": ["0000:01:00.0 A100"], "driver": None, "boot_id": "before"}
KERNEL_AFTER = {"loaded": "570.86", "machine": {"boot_id": "after", "machine_id": "m"}}


def test_a_verdict_is_of_the_driver_and_boot_that_the_check_found(tmp_path: Path) -> None:
    """Those of the plan are of the time before, with which the next run would check again."""
    apply = yaml.safe_load((REPOSITORY / "playbooks/tasks/apply.yml").read_text(encoding="utf-8"))
    (evidence,) = [task["vars"]["tensorflow_check_evidence"] for task in apply if "block" in task]
    cases = {
        "loaded": ({"nvidia_driver_kernel_result": KERNEL_AFTER}, EVIDENCE_OF_THE_PLAN),
        "no_driver_role": ({}, EVIDENCE_OF_THE_PLAN),
        "another_environment": ({"nvidia_driver_kernel_result": {}}, EVIDENCE_OF_THE_PLAN),
        "cpu": ({"nvidia_driver_kernel_result": KERNEL_AFTER}, {"code": "c", "gpus": []}),
    }
    write = {"ansible.builtin.copy": {"dest": str(tmp_path / "{{ case }}.json"), "content": "{{ evidence | to_json }}"}}
    tasks = [
        {**write, "vars": {"case": name, **facts, "stack_plan": {"evidence": planned}, "evidence": evidence}}
        for name, (facts, planned) in cases.items()
    ]
    play = [{"hosts": "localhost", "gather_facts": False, "vars": LOCAL, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    run = run_playbook([str(ANSIBLE_PLAYBOOK), "-i", "localhost,", "play.yml"], directory=tmp_path)
    assert run.code == 0, run.output
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in cases}
    assert found == {
        "loaded": {**EVIDENCE_OF_THE_PLAN, "driver": "570.86", "boot_id": "after"},
        "no_driver_role": EVIDENCE_OF_THE_PLAN,
        "another_environment": EVIDENCE_OF_THE_PLAN,
        "cpu": {"code": "c", "gpus": []},
    }
