"""The report of a run, from the results of its parts; each is valid by its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.report import Asked, make_report, use_lines

SCHEMA = Path(__file__).resolve().parents[3] / "roles" / "stack_report" / "files" / "report.schema.json"
PLAN = {"release": "2.8.0", "verdict": "cpu_only_no_gpu", "other_gpus": []}
BUILT: dict[str, Any] = {
    "changed": True,
    "action": "build",
    "environment": "/opt/tensorflow/tensorflow-2.8.0",
    "build": "tensorflow-2.8.0-0123456789ab-1",
    "release": "2.8.0",
    "flavour": "cpu",
    "damage": [],
    "additions": ["pandas 2.3.3"],
    "dropped": [],
    "kept_builds": [],
    "removed_builds": [],
    "passed_over": [],
    "bytes_to_fetch": 1,
    "seconds": {"install": 1.0},
}
CHECKED: dict[str, Any] = {
    "verdict": "cpu_only_no_gpu",
    "reason": "It computed.",
    "causes": [],
    "reused": False,
    "checked_at": "2026-11-22T00:00:00Z",
    "report": {},
}


def report(**results: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "release_result": {},
        "kept": {},
        "venv_result": {},
        "check_result": {},
        "system_results": {},
        "failed_result": {},
        "failed_task": "",
        "proof_required": True,
        **results,
    }
    made = make_report("node7", **parts, written_at="2026-11-22T00:00:00Z")
    jsonschema.validate(made, json.loads(SCHEMA.read_text()))
    return made


KEPT: dict[str, Any] = {
    "environment": {**BUILT, "changed": False, "action": "keep", "bytes_to_fetch": 0, "seconds": {}},
    "check": {**CHECKED, "reused": True},
}


@pytest.mark.parametrize("result", [{}, {"skipped": True, "changed": False}], ids=["not reached", "skipped"])
def test_what_the_plan_found_done_counts_for_what_did_not_run(result: dict[str, Any]) -> None:
    made = report(release_result={"plan": PLAN}, kept=KEPT, venv_result=result, check_result=result)
    assert made["succeeded"]
    assert (made["done"]["action"], made["check"]["reused"]) == ("keep", True)
    assert made["additions"] == ["pandas 2.3.3"]


def test_what_ran_counts_for_itself() -> None:
    failed = {"failed": True, "msg": "the disk is full"}
    made = report(release_result={"plan": PLAN}, kept=KEPT, check_result=failed, failed_result=failed)
    assert (made["check"], made["succeeded"], made["error"]) == (None, False, "the disk is full")


def test_all_went_well() -> None:
    made = report(release_result={"plan": PLAN}, venv_result=BUILT, check_result=CHECKED)
    assert made["succeeded"]
    assert (made["release"], made["done"]["action"], made["error"]) == ("2.8.0", "build", None)
    assert made["additions"] == ["pandas 2.3.3"]


def test_a_comparison_names_what_was_added_and_did_nothing() -> None:
    made = report(release_result={"plan": PLAN}, venv_result={"additions": ["mine.pth"]}, check_result=CHECKED)
    assert (made["additions"], made["done"], made["succeeded"]) == (["mine.pth"], None, True)


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"failed": True, "msg": "refused"}, "refused"),
        ({"failed": True, "msg": "One or more", "results": [{}, {"failed": True, "msg": "gone"}]}, "gone"),
        ({"failed": True, "msg": ""}, "The task 'Build' failed and gave no reason."),
        ({"failed": True, "censored": "no_log"}, "The task 'Build' failed and gave no reason."),
    ],
)
def test_what_failed_is_the_error_whatever_ran_before(result: dict[str, Any], error: str) -> None:
    before: dict[str, Any] = {"release_result": {"plan": PLAN}, "venv_result": BUILT, "check_result": CHECKED}
    for results in ({}, before):
        made = report(**results, failed_task="Build", failed_result=result)
        assert (made["succeeded"], made["error"]) == (False, error)


def test_a_run_without_a_check_proves_nothing() -> None:
    made = report(release_result={"plan": PLAN}, venv_result=BUILT)
    assert not made["succeeded"]
    assert made["error"].startswith("Nothing was proven: the verdict of this run is none")
    made = report(
        release_result={"plan": PLAN}, check_result={**CHECKED, "verdict": "not_checked"}, proof_required=False
    )
    assert (made["succeeded"], made["error"]) == (False, None)


def test_a_check_that_was_asked_for_less_is_no_failure_and_no_proof() -> None:
    made = report(release_result={"plan": PLAN}, venv_result=BUILT, check_result={**CHECKED, "verdict": "libraries_ok"})
    assert (made["succeeded"], made["error"]) == (False, None)


def test_another_verdict_than_the_plan_asked_for_is_no_success() -> None:
    made = report(release_result={"plan": {**PLAN, "verdict": "ok"}}, venv_result=BUILT, check_result=CHECKED)
    assert not made["succeeded"]
    assert not report(release_result={"plan": PLAN})["succeeded"]


def test_a_rollback_has_no_plan() -> None:
    made = report(venv_result={**BUILT, "action": "rollback"}, check_result=CHECKED)
    assert (made["succeeded"], made["release"]) == (True, "2.8.0")


def test_what_was_done_on_the_system() -> None:
    made = report(
        release_result={"plan": PLAN},
        venv_result=BUILT,
        check_result=CHECKED,
        system_results={
            "driver": {"changed": True, "version": "535.309.01", "drift": ["libcuda1 is missing"], "diff": {}},
            "driver_kernel": {"changed": True, "reboot_required": True, "reboot_reasons": ["nouveau is loaded"]},
            "cuda": {},
            "cudnn": {"changed": False, "skipped": True},
        },
    )
    assert made["system"] == {
        "driver": {"changed": True, "version": "535.309.01", "drift": ["libcuda1 is missing"]},
        "driver_kernel": {"changed": True, "reboot_required": True, "reboot_reasons": ["nouveau is loaded"]},
    }
    assert made["succeeded"]


def test_a_part_of_the_system_that_failed() -> None:
    made = report(
        release_result={"plan": PLAN},
        system_results={"cuda": {"failed": True, "msg": "libcublas-11-8 is held at another version", "changed": False}},
    )
    assert not made["succeeded"]
    assert made["system"] == {}


def test_a_reboot_that_is_due_is_no_success() -> None:
    made = report(
        release_result={"plan": PLAN},
        venv_result=BUILT,
        check_result={**CHECKED, "verdict": "reboot_required", "failed": True, "msg": "reboot_required: nouveau"},
    )
    assert (made["succeeded"], made["check"]["verdict"]) == (False, "reboot_required")


def used(
    venv_result: dict[str, Any], *, builds: list[str] | None = None, asked: Asked | None = None, **results: Any
) -> list[str]:
    entry = {"environments": {"tensorflow-2.8.0": {"builds": builds}}} if builds else None
    release_result = {"plan": PLAN, "node": {"manifest": entry}} if venv_result.get("action") != "rollback" else {}
    options: dict[str, Any] = {"release_result": release_result, "kept": {}, "venv_result": venv_result, **results}
    options.setdefault("check_result", CHECKED)
    return use_lines(report(**options), options, asked or Asked())


def test_a_good_run_says_what_is_ready_how_to_use_it_and_how_to_go_back() -> None:
    assert used(BUILT) == [
        "ready: TensorFlow 2.8.0 (cpu), /opt/tensorflow/tensorflow-2.8.0/bin/python",
        "to use it: source /opt/tensorflow/tensorflow-2.8.0/bin/activate (docs/use.md: Jupyter, IDEs, systemd, cron)",
        "to go back: make remove ENVIRONMENT=tensorflow-2.8.0 removes it; it has no earlier build",
    ]
    assert used({}, kept=KEPT, check_result={}) == used(BUILT)


def test_the_way_back_is_the_build_that_a_rollback_would_take() -> None:
    names = [f"tensorflow-2.8.0-0123456789ab-{number}" for number in range(8, 12)]
    built = {**BUILT, "build": names[2], "removed_builds": names[:1]}
    assert (
        used(built, builds=names)[2] == f"to go back: make rollback ENVIRONMENT=tensorflow-2.8.0 switches to {names[1]}"
    )
    assert "has no earlier build" in used({**built, "removed_builds": names[:2]}, builds=names)[2]


def test_the_way_back_is_what_was_in_use_before() -> None:
    back = {"environment": "tensorflow-2.21.0", "build": "tensorflow-2.21.0-0123456789ab-1"}
    expected = "make rollback switches to tensorflow-2.21.0 (tensorflow-2.21.0-0123456789ab-1)"
    assert used({**BUILT, "rollback": back})[2] == f"to go back: {expected}"
    further = used({**BUILT, "rollback": back, "action": "rollback"})[2]
    assert further == f"to go back: make workstation with a release applies that one; {expected}"


def test_the_way_back_from_a_rollback_is_to_name_a_release() -> None:
    lines = used({**BUILT, "action": "rollback"})
    assert lines[2] == "to go back: make workstation with a release applies that one"


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        (Asked(root="/srv/my envs"), "make remove ENVIRONMENT=tensorflow-2.8.0 'ROOT=/srv/my envs'"),
        (Asked(inventories=("hosts.yml",)), "make remove ENVIRONMENT=tensorflow-2.8.0 INVENTORY=hosts.yml"),
        (
            Asked(root="/srv/tf", inventories=("a.yml", "b.yml"), limit="gpu01"),
            "ansible-playbook -i a.yml -i b.yml playbooks/remove.yml --limit gpu01 "
            "-e tensorflow_environment=tensorflow-2.8.0 -e tensorflow_root=/srv/tf",
        ),
    ],
)
def test_the_way_back_is_for_this_node_and_root_alone(asked: Asked, command: str) -> None:
    assert used(BUILT, asked=asked)[2] == f"to go back: {command} removes it; it has no earlier build"


@pytest.mark.parametrize(
    "results",
    [
        {"failed_result": {"failed": True, "msg": "the disk is full"}},
        {"check_result": {**CHECKED, "verdict": "libraries_ok"}},
    ],
)
def test_what_is_not_proven_is_not_said_to_be_ready(results: dict[str, Any]) -> None:
    assert used(BUILT, **results) == []
    # As playbooks/verify.yml reports: it compared, and made nothing.
    assert used({"additions": []}) == []
