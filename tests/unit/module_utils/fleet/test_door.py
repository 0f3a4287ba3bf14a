"""The result of `tensorflow_fleet`, and the values that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.fleet.door import decide_fleet

from tests import nodes
from tests.unit.module_utils.planning.test_kept import planned


def options(tmp_path: Path, **given: Any) -> dict[str, Any]:
    return {
        "reports": str(tmp_path),
        "skip_refused": False,
        "batches": ["10%", "100%"],
        "max_fail_percentage": 0,
        "fetch": "nodes",
        **given,
    }


@pytest.fixture
def planned_node(tmp_path: Path) -> dict[str, Any]:
    """The result of the plan of a node."""
    node = {**nodes.read("a100_driver535", tmp_path), "environments": [], "manifest": None}
    result = planned(node)
    return {"plan": result["plan"], "kept": result["kept"], "node": node}


def test_hosts_are_sorted_by_their_plans(tmp_path: Path, planned_node: dict[str, Any]) -> None:
    variables = {"n1": {"tensorflow_release_result": planned_node}, "n2": {"tensorflow_release_result": planned_node}}
    made, failed = decide_fleet(options(tmp_path), ["n1", "n2"], variables)
    assert failed is None
    assert (made["canary"], made["rest"], made["unchanged"]) == (["n1"], ["n2"], [])
    assert made["fetching"] == []
    assert decide_fleet(options(tmp_path, fetch="controller"), ["n1", "n2"], variables)[0]["fetching"] == ["n1", "n2"]
    assert (made["batches"], made["max_fail_percentage"], made["refusal"]) == (["10%", "100%"], 0, "")


def test_drained_hosts_of_another_inventory_are_not_named(tmp_path: Path, planned_node: dict[str, Any]) -> None:
    (tmp_path / "drained").mkdir()
    for host in ("n1", "elsewhere"):
        (tmp_path / "drained" / host).write_text("2026-11-26T10:00:00Z\n")
    made, _ = decide_fleet(options(tmp_path), ["n1"], {"n1": {"tensorflow_release_result": planned_node}})
    assert made["drained"] == {"n1": "2026-11-26T10:00:00Z"}


@pytest.mark.parametrize("size", ["0", "0%", "-1", "half", "1.5", "²", "", "9" * 5000])
def test_size_of_a_batch_that_cannot_be_meant(tmp_path: Path, size: str) -> None:
    made, failed = decide_fleet(options(tmp_path, batches=["1", size]), [], {})
    assert made == {}
    assert failed == (
        f"fleet_batches has {size!r}, but must be a list of node counts or percentages, such as [1, 10%, 100%]."
    )


def test_unknown_key_of_an_environment_stops_the_fleet(tmp_path: Path) -> None:
    _, failed = decide_fleet(options(tmp_path), ["n1"], {"n1": {"fleet_environments": [{"kernel": "2.8.0"}]}})
    assert failed is not None
    assert "kernel is unknown" in failed


def test_template_is_left_to_the_tasks_that_take_it(tmp_path: Path, planned_node: dict[str, Any]) -> None:
    variables = {"n1": {"fleet_environments": "{{ wanted }}", "tensorflow_release_result": planned_node}}
    assert decide_fleet(options(tmp_path), ["n1"], variables)[1] is None


def test_each_environment_of_a_node_has_its_plan(tmp_path: Path, planned_node: dict[str, Any]) -> None:
    one = {name: planned_node[name] for name in ("plan", "kept")}
    other = {**one, "plan": {**one["plan"], "environment": {**one["plan"]["environment"], "name": "vision"}}}
    result = {"node": planned_node["node"], "plans": [one, other]}
    variables = {"n1": {"tensorflow_release_result": result}, "n2": {"tensorflow_release_result": planned_node}}
    made, _ = decide_fleet(options(tmp_path), ["n1", "n2"], variables)
    assert (made["canary"], made["environments"]) == (["n1", "n2"], {"n1": 2, "n2": 1})


def test_plan_that_failed_is_none(tmp_path: Path, planned_node: dict[str, Any]) -> None:
    variables = {"n1": {"tensorflow_release_result": {**planned_node, "failed": True}}}
    assert decide_fleet(options(tmp_path), ["n1"], variables)[0]["unplanned"] == ["n1"]
