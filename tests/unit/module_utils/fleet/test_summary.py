"""What a run did to a fleet: a state for each node, and few lines for the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from ansible.module_utils.tensorflow_stack.fleet import summary

SCHEMA = Path(__file__).resolve().parents[4] / "roles" / "stack_report" / "files" / "fleet.schema.json"
PLAN = {"environment": {"path": "/opt/tensorflow/tensorflow-2.8.0"}}


def report(error: str | None = None, verdict: str | None = "ok") -> dict[str, Any]:
    check = {"verdict": verdict, "reason": "It computed.", "causes": []} if verdict else None
    succeeded = error is None and verdict == "ok"
    return {
        "release": "2.8.0",
        "plan": PLAN,
        "done": {"changed": True},
        "check": check,
        "error": error,
        "succeeded": succeeded,
    }


def summarise(hosts: list[str], **given: Any) -> dict[str, Any]:
    decision = {
        "canary": [],
        "rest": [],
        "unchanged": [],
        "refused": {},
        "environments": {},
        **given.pop("decision", {}),
    }
    defaults: dict[str, Any] = {"reports": {}, "errors": {}, "unreachable": (), "drained": {}, "check_mode": False}
    made = summary.summarise(hosts, decision=decision, written_at="2026-11-26T10:00:00Z", **{**defaults, **given})
    jsonschema.validate(made, json.loads(SCHEMA.read_text()))
    return made


def states(made: dict[str, Any]) -> dict[str, str]:
    return {node["host"]: node["state"] for node in made["nodes"]}


def test_each_node_has_one_state() -> None:
    made = summarise(
        ["a", "b", "c", "d", "e", "f"],
        decision={"canary": ["a"], "rest": ["b", "c"], "unchanged": ["d"], "refused": {"e": ["no GPU."]}},
        reports={"a": [report()], "b": [report("driver 450 is too old.", None)], "d": [report()]},
        errors={"b": "driver 450 is too old."},
        unreachable={"f"},
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
    assert summary.lines(made) == [
        "Fleet of 6 nodes: 2 proven, 1 not begun, 1 refused, 1 not reached, 1 failed",
        "failed: b: driver 450 is too old.",
        "refused: e: no GPU.",
        "not reached: f",
        "not begun: c",
        "still drained: b; run the playbook again when the cause is mended",
    ]


def test_a_node_is_proven_only_with_all_its_environments() -> None:
    decision = {"canary": ["a", "b", "c"], "environments": {"a": 2, "b": 2, "c": 2}}
    reports = {"a": [report(), report("It has no disk.", None)], "b": [report(), report()], "c": [report()]}
    made = summarise(["a", "b", "c"], decision=decision, reports=reports)
    assert states(made) == {"a": "failed", "b": "proven", "c": "failed"}
    assert made["nodes"][2]["error"] == "The run ended before all environments of this node were installed."


def test_a_node_that_began_and_proved_nothing_failed() -> None:
    made = summarise(["a"], decision={"canary": ["a"]}, reports={"a": [report(None, None)]})
    assert states(made) == {"a": "failed"}


def test_check_mode_proves_nothing() -> None:
    made = summarise(["a"], decision={"canary": ["a"]}, reports={"a": [report(None, None)]}, check_mode=True)
    assert summary.lines(made) == ["Fleet of 1 node: 1 would be changed"]


def test_lines_of_a_large_fleet_fit_a_screen() -> None:
    hosts = [f"gpu{number:04}" for number in range(1000)]
    made = summarise(
        hosts,
        decision={"canary": hosts[:300], "rest": hosts[300:600], "unchanged": hosts[600:]},
        errors={host: "It failed.\nAt length." for host in hosts[:100]},
        unreachable=hosts[100:200],
        drained={host: "2026-11-26T09:00:00Z" for host in hosts[:50]},
    )
    shown = summary.lines(made)
    assert len(shown) <= 19
    assert shown[0] == "Fleet of 1000 nodes: 400 proven, 400 not begun, 100 not reached, 100 failed"
    assert "and 87 more that failed or were refused" in shown
    assert max(map(len, shown)) < 230
