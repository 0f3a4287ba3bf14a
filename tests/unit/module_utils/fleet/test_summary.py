"""What a run did to a fleet: a state, a cause and a next step for each node, and few lines for the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.fleet import entries, summary

from tests import fleets

SCHEMA = Path(__file__).resolve().parents[4] / "roles" / "stack_report" / "files" / "fleet.schema.json"


def report(error: str | None = None, verdict: str | None = "ok", name: str = "") -> dict[str, Any]:
    made = fleets.report_of(fleets.plan_of(name=name), verdict or "", error)
    if verdict is None:
        made = {**made, "check": None}
    return {**entries.reported_entry(made), "error": error}


def summarise(hosts: list[str], **given: Any) -> dict[str, Any]:
    nobody = {"canary": [], "rest": [], "unchanged": [], "refused": {}, "environments": {}}
    decision = given.pop("decision", {})
    defaults: dict[str, Any] = {
        "decision": decision if decision is None else {**nobody, **decision},
        "plans": {},
        "reports": {},
        "errors": {},
        "unreachable": {},
        "drained": {},
        "check_mode": False,
    }
    made = summary.summarise(hosts, written_at="2026-11-26T10:00:00Z", **{**defaults, **given})
    jsonschema.validate(made, json.loads(SCHEMA.read_text()))
    return made


def states(made: dict[str, Any]) -> dict[str, str]:
    return {node["host"]: node["state"] for node in made["nodes"]}


def test_each_node_has_one_state_with_its_cause_and_next_step() -> None:
    made = summarise(
        ["a", "b", "c", "d", "e", "f"],
        decision={"canary": ["a"], "rest": ["b", "c"], "unchanged": ["d"], "refused": {"e": ["no GPU."]}},
        reports={"a": [report()], "b": [report("driver 450 is too old.", None)], "d": [report()]},
        errors={"b": "driver 450 is too old."},
        unreachable={"f": "No route to host"},
        drained={"b": "2026-11-26T09:00:00Z"},
    )
    assert states(made) == {
        "a": "proven",
        "b": "failed",
        "c": "not_begun",
        "d": "proven",
        "e": "refused",
        "f": "unreachable",
    }
    lines = summary.lines(made)
    assert [line for line in lines if not line.startswith("  next: ")] == [
        "Fleet of 6 nodes: 2 proven, 1 not begun, 1 refused, 1 not reached, 1 failed",
        "failed: b: driver 450 is too old.",
        "not reached: f: No route to host",
        "refused: e: no GPU.",
        "not begun: c",
        "still drained: b; run the playbook again when the cause is mended",
    ]
    assert len(lines) == 9
    assert summary.answer(made) == "2 of 6 nodes compute; 3 need you; 1 not begun"
    assert {node["host"]: node["cause"] for node in made["nodes"] if node["cause"]} == {
        "b": "driver 450 is too old.",
        "c": "The run ended before it changed this node, because of b and 2 more.",
        "e": "no GPU.",
        "f": "No route to host",
    }
    assert [node["host"] for node in made["nodes"] if not node["next_step"]] == ["a", "d"]


def test_a_node_is_proven_only_with_all_its_environments() -> None:
    decision = {"canary": ["a", "b", "c"], "environments": {"a": 2, "b": 2, "c": 2}}
    reports = {
        "a": [report(), report("It has no disk.", None, "new")],
        "b": [report(), report(name="new")],
        "c": [report()],
    }
    made = summarise(["a", "b", "c"], decision=decision, reports=reports)
    assert states(made) == {"a": "failed", "b": "proven", "c": "failed"}
    assert made["nodes"][2]["cause"] == "The run ended before all environments of this node were installed."


def test_a_node_that_began_and_proved_nothing_failed() -> None:
    made = summarise(["a"], decision={"canary": ["a"]}, reports={"a": [report(None, None)]})
    assert states(made) == {"a": "failed"}


@pytest.mark.parametrize("looks", [{"check_mode": True}, {"source": "read"}])
def test_who_only_looks_proves_nothing(looks: dict[str, Any]) -> None:
    made = summarise(["a"], decision={"canary": ["a"]}, **looks)
    assert summary.lines(made) == ["Fleet of 1 node: 1 would be changed"]


def test_interrupted_run_names_who_was_being_changed() -> None:
    made = summarise(["a", "b"], decision={"canary": ["a"], "rest": ["b"]}, begun={"a"}, ended=False)
    assert states(made) == {"a": "unfinished", "b": "not_begun"}
    assert summary.lines(made)[0] == "Fleet of 2 nodes (interrupted): 1 not begun, 1 unfinished"
    assert made["nodes"][1]["cause"] == "The run ended before it changed this node, because of a."


def test_run_without_a_decision_has_a_report_too() -> None:
    """It ended while the nodes were planned."""
    plans = {"a": [entries.planned_entry(fleets.refused_plan())]}
    made = summarise(["a", "b", "c"], decision=None, plans=plans, unreachable={"b": "No route to host"})
    assert states(made) == {"a": "refused", "b": "unreachable", "c": "not_begun"}


def test_cause_of_a_failed_check_is_that_of_the_doctor() -> None:
    made = fleets.report_of(fleets.plan_of(), "driver_mismatch", "The check failed.", causes=[fleets.CAUSE])
    node = summarise(
        ["a"],
        decision={"canary": ["a"]},
        reports={"a": [entries.reported_entry(made)]},
        errors={"a": "The check failed."},
    )["nodes"][0]
    assert (node["cause"], node["next_step"]) == (fleets.CAUSE["says"], fleets.CAUSE["do"])


def test_refusal_says_what_to_set() -> None:
    plans = {"a": [entries.planned_entry(fleets.refused_plan())]}
    node = summarise(["a"], decision={"refused": {"a": ["gpu"]}}, plans=plans)["nodes"][0]
    assert node["cause"] == "gpu: wanted a GPU of compute capability 3.5 or higher; found GeForce GT 430 (2.1)."
    assert node["next_step"] == fleets.REFUSAL["set"]


@pytest.mark.parametrize("count", [1, 40, 1000])
def test_fleet_of_any_size_fits_a_screen(count: int) -> None:
    made = fleets.fleet(count)
    jsonschema.validate(made, json.loads(SCHEMA.read_text()))
    # The run adds the line with the file.
    assert len(summary.lines(made)) <= 19
    assert max(map(len, summary.lines(made))) < 330


def test_a_thousand_nodes_that_failed_for_a_thousand_reasons_fit_a_screen() -> None:
    hosts = [f"gpu{number:04}" for number in range(1000)]
    made = summarise(
        hosts,
        decision={"canary": hosts[:300], "rest": hosts[300:600], "unchanged": hosts[600:]},
        errors={host: f"It failed by {host}.\nAt length." for host in hosts[:100]},
        unreachable=dict.fromkeys(hosts[100:200], "No route to host"),
        drained={host: "2026-11-26T09:00:00Z" for host in hosts[:50]},
    )
    shown = summary.lines(made)
    assert len(shown) <= 19
    assert shown[0] == "Fleet of 1000 nodes: 400 proven, 400 not begun, 100 not reached, 100 failed"
    assert "and 187 more, which the report has" in shown
    assert max(map(len, shown)) < 330


def test_nodes_with_one_cause_are_one_line() -> None:
    made = summarise(
        ["a", "b", "c"],
        decision={"canary": ["a", "b", "c"]},
        errors=dict.fromkeys("ab", "It has no disk.") | {"c": "It has no network."},
    )
    assert [line for line in summary.lines(made) if "failed: " in line] == [
        "failed: a, b: It has no disk.",
        "failed: c: It has no network.",
    ]
