"""What became of each component of an environment, and what differed from what was installed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.fleet import entries

from tests import fleets

INSTALL = {"cuda": "install", "environment": "install"}


def verdicts(made: dict[str, Any]) -> dict[str, str]:
    return {part["component"]: part["verdict"] for part in made["components"]}


def test_plan_says_what_is_due() -> None:
    made = entries.planned_entry(fleets.plan_of(INSTALL))
    assert verdicts(made) == {"driver": "ok", "cuda": "due", "cudnn": "ok", "python": "ok", "environment": "due"}


def test_run_that_proved_the_plan_says_what_changed() -> None:
    made = entries.reported_entry(fleets.report_of(fleets.plan_of({**INSTALL, "cudnn": "skip"})))
    assert verdicts(made) == {
        "driver": "ok",
        "cuda": "changed",
        "cudnn": "unused",
        "python": "ok",
        "environment": "changed",
    }


@pytest.mark.parametrize(
    ("component", "role", "blamed"),
    [
        ("driver", None, "driver"),
        ("gpu", None, "driver"),
        ("tensorflow", None, "environment"),
        (None, "cuda_toolkit", "cuda"),
        (None, "nvidia_repository", "driver"),
        (None, "tensorflow_venv", "environment"),
        (None, None, "environment"),
    ],
)
def test_fault_is_shown_at_the_component_that_has_it(component: str | None, role: str | None, blamed: str) -> None:
    causes = [{**fleets.CAUSE, "component": component}] if component else []
    made = entries.reported_entry(fleets.report_of(fleets.plan_of(), "", "It failed.", causes=causes), role)
    assert [name for name, verdict in verdicts(made).items() if verdict == "failed"] == [blamed]


def test_refusal_is_shown_at_its_component() -> None:
    made = entries.planned_entry(fleets.refused_plan(component="cudnn"))
    assert verdicts(made) == {"cudnn": "refused"}
    assert made["refusals"][0]["set"] == fleets.REFUSAL["set"]


def test_plan_that_could_not_be_made_is_no_refusal() -> None:
    """Its task fails, and says why."""
    message = "TensorFlow 2.99 is not known."
    plan = fleets.refused_plan(component="release", found=message, wanted="2.99", set="")
    plan["refusals"][0]["message"] = message
    assert entries.planned_entry(plan)["refusals"] == []


def test_drift_of_a_run() -> None:
    moved = {"name": "libcudnn8", "problem": "moved", "recorded": "8.9.2", "found": "8.9.7"}
    changed = {"name": "/etc/x", "problem": "changed", "recorded": None, "found": None}
    report = fleets.report_of(
        fleets.plan_of(),
        system={"cudnn": {"changed": True, "drift": [moved]}, "driver_kernel": {"changed": False, "drift": [changed]}},
        additions=["pandas 2.3.3"],
        done={"action": "repair", "changed": True, "damage": ["numpy: a file is missing"], "dropped": []},
    )
    made = entries.reported_entry(report)
    assert {part["component"]: part["drift"] for part in made["components"] if part["drift"]} == {
        "cudnn": ["libcudnn8: moved, recorded 8.9.2, found 8.9.7"],
        "driver": ["/etc/x: changed"],
        "environment": ["numpy: a file is missing", "pandas 2.3.3 was added"],
    }
    assert (made["changed"], made["action"]) == (True, "repair")


class TestPlanned:
    """What differs is drift only if this release was installed under this name."""

    plan = fleets.plan_of({"driver": "change"})

    def node(self, release: str = "2.15.1", damage: list[str] | None = None) -> dict[str, Any]:
        return {"environments": [{"name": "tensorflow-2.15.1", "release": release, "damage": damage}]}

    def drift(self, node: dict[str, Any]) -> dict[str, list[str]]:
        made = entries.planned_entry(self.plan, node, {"environment": None, "check": None})
        return {part["component"]: part["drift"] for part in made["components"] if part["drift"]}

    def test_installed(self) -> None:
        assert self.drift(self.node()) == {"driver": ["found 535.183.01, wanted 535"]}

    def test_damaged(self) -> None:
        made = entries.planned_entry(
            fleets.plan_of(), self.node(damage=["a file is missing"]), {"environment": None, "check": None}
        )
        assert made["components"][-1]["drift"] == ["a file is missing"]
        assert made["components"][-1]["verdict"] == "due"

    def test_other_release(self) -> None:
        assert self.drift(self.node(release="2.8.0")) == {}

    def test_not_installed(self) -> None:
        assert self.drift({"environments": []}) == {}
