"""A node whose driver works only after a reboot. What the kernel side says is given; all else is the real play."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.integration.test_classic_cases import REPORT_SCHEMA
from tests.playbooks import Site

pytestmark = pytest.mark.integration

MACHINE = {"boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "machine_id": None}
KERNEL_SIDE: dict[str, Any] = {
    "changed": False,
    "reboot_required": True,
    "reboot_reasons": ["nouveau is loaded"],
    "machine": MACHINE,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("reboot")
    site = Site(path)
    built = site.play("workstation")
    assert built.code == 0, built.output
    yield site
    shutil.rmtree(path)


def test_without_permission_it_says_so_and_does_not_check(site: Site) -> None:
    run = site.play("workstation", nvidia_driver_kernel_result=KERNEL_SIDE)
    assert run.code != 0
    assert "nouveau is loaded. Reboot the node and run again, or set nvidia_driver_reboot to true." in run.output
    jsonschema.validate(run.report, REPORT_SCHEMA)
    assert (run.report["check"]["verdict"], run.report["succeeded"]) == ("reboot_required", False)
    assert run.report["system"]["driver_kernel"]["reboot_reasons"] == ["nouveau is loaded"]


def test_the_machine_that_runs_the_play_is_not_rebooted_with_permission_either(site: Site) -> None:
    run = site.play("workstation", nvidia_driver_kernel_result=KERNEL_SIDE, nvidia_driver_reboot=True)
    assert run.code != 0
    assert "it is the machine that runs this play" in run.output
    assert run.report["check"]["verdict"] == "reboot_required"


def test_check_mode_foresees_no_failure(site: Site) -> None:
    run = site.play("workstation", "--check", nvidia_driver_kernel_result=KERNEL_SIDE)
    assert run.code == 0, run.output
    assert "not_checked" in run.output


def test_another_failure_of_the_check_is_no_reason_to_reboot(site: Site) -> None:
    run = site.play("workstation", nvidia_driver_reboot=True, tensorflow_check_time_limit=0)
    assert run.code != 0
    assert "time_limit is 0" in run.output
    assert "Reboot the node" not in run.output
