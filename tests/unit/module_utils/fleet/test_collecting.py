"""What a run has seen becomes a report at any moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.tensorflow_stack.fleet.collecting import FleetRun

from tests import fleets

NOBODY: dict[str, Any] = {"canary": [], "rest": [], "unchanged": [], "refused": {}, "environments": {}}


def run_of(directory: Path, *, check_mode: bool = False) -> FleetRun:
    run = FleetRun(["a", "b", "c"], str(directory), source="run", check_mode=check_mode)
    for host in ("a", "b"):
        run.plan(host, {"plan": fleets.plan_of({"environment": "install"}), "node": {}, "kept": None})
    run.lose("c", "No route to host")
    run.decision = {**NOBODY, "canary": ["a"], "rest": ["b"]}
    return run


def states(directory: Path) -> dict[str, str]:
    return {node["host"]: node["state"] for node in json.loads((directory / "fleet.json").read_text())["nodes"]}


def test_record_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.begin(["a"])
    assert states(tmp_path) == {"a": "unfinished", "b": "not_begun", "c": "unreachable"}
    assert json.loads((tmp_path / "fleet.json").read_text())["ended"] is False
    run.report("a", fleets.report_of(fleets.plan_of()))
    run.begin(["b"])
    assert states(tmp_path) == {"a": "proven", "b": "unfinished", "c": "unreachable"}


def test_first_failure_is_why_and_where(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.begin(["a"])
    run.fail("a", "No space left on device", "cuda_toolkit")
    run.fail("a", "The task failed, see above.", "stack_report")
    run.report("a", fleets.report_of(fleets.plan_of(), "", "No space left on device", check=None))
    lines = run.end(ended=True)
    assert "failed: a: No space left on device" in lines
    node = json.loads((tmp_path / "fleet.json").read_text())["nodes"][0]
    failed = [part["component"] for part in node["environments"][0]["components"] if part["verdict"] == "failed"]
    assert failed == ["cuda"]
    assert lines[-1] == f"Report: {tmp_path}/fleet.html (and .json, .csv, .xml, .prom, .txt next to it)"


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path, check_mode=True)
    run.begin(["a"])
    assert run.end(ended=True)[0] == "Fleet of 3 nodes: 2 would be changed, 1 not reached"
    assert list(tmp_path.iterdir()) == []


def test_report_that_cannot_be_written_is_said_after_the_summary(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    lines = run_of(tmp_path / "reports").end(ended=True)
    assert lines[0].startswith("Fleet of 3 nodes")
    assert "Set stack_report_directory to a directory of yours." in lines[-1]


def test_drained_nodes_that_a_limit_leaves_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "drained").mkdir()
    for host in ("a", "d", "of_another_inventory"):
        (tmp_path / "drained" / host).write_text("2026-11-26T10:00:00Z\n")
    run = FleetRun(["a"], str(tmp_path), source="run", check_mode=True, inventory=["a", "d"])
    assert run.end(ended=True)[-2:] == [
        "still drained: a; run the playbook again when the cause is mended",
        "still drained, and not in this run: d; run the playbook on them, too",
    ]
