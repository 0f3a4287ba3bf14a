"""A node whose driver works only after a reboot. What the kernel side says is given; all else is the real play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.integration.test_additions import MINOR, RELEASE, Machine
from tests.integration.test_classic_cases import REPORT_SCHEMA

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
