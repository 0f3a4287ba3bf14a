"""What processes use is not changed under them, if that is to be refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning.users import question, refuse_in_use

ADA = {"pid": 4711, "program": "python3 train.py", "user": "ada", "slurm_job": 42}
BOB = {"pid": 812, "program": "jupyter-lab", "user": "bob", "slurm_job": None}


def plan(driver: str, environment: str) -> dict[str, Any]:
    steps = [{"component": "driver", "action": driver}, {"component": "environment", "action": environment}]
    return {"release": "2.15.1", "steps": steps, "environment": {"path": "/opt/tensorflow/x"}, "refusals": []}


@pytest.mark.parametrize(
    ("driver", "environment", "asked"),
    [
        ("keep", "keep", None),
        ("skip", "install", None),
        ("change", "keep", {"gpu": True}),
        ("install", "install", {"gpu": True}),
        ("keep", "change", {"environment": "/opt/tensorflow/x"}),
        ("change", "change", {"gpu": True, "environment": "/opt/tensorflow/x"}),
    ],
)
def test_only_what_changes_can_be_in_use(driver: str, environment: str, asked: dict[str, Any] | None) -> None:
    assert question(plan(driver, environment)) == asked


def test_the_refusals_name_who_uses_it_and_what_to_set() -> None:
    refused = refuse_in_use(plan("change", "change"), {"gpu": [ADA, BOB], "environment": [BOB]})
    ada, bob = "process 4711 (python3 train.py) of ada, Slurm job 42", "process 812 (jupyter-lab) of bob"
    ways = "Wait until they have ended, have fleet_drain_tasks drain the node, or set fleet_change_in_use to true."
    assert [refusal["message"] for refusal in refused["refusals"]] == [
        f"driver: wanted no process that uses a GPU, to change it; found {ada}; {bob}. {ways}",
        f"environment: wanted no process that uses /opt/tensorflow/x, to change it; found {bob}. {ways}",
    ]
    assert (refused["release"], refused["steps"]) == ("2.15.1", [])


def test_nobody_uses_it() -> None:
    made = plan("change", "change")
    assert refuse_in_use(made, {"gpu": [], "environment": []}) is made
