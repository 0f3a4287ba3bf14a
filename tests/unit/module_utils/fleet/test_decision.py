"""What is done to a fleet: who stops it, who goes first, who has nothing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.fleet.decision import KEYS, check_environments, decide, kind_of, refuse_fleet
from ansible.module_utils.tensorflow_stack.planning.options import OPTIONS

from tests import nodes
from tests.unit.module_utils.planning.test_kept import planned as plan_of

REPOSITORY = Path(__file__).resolve().parents[4]
DONE = {"environment": {"action": "keep"}, "check": {"verdict": "ok"}}
TO_DO: dict[str, Any] = {"environment": None, "check": None}


def environment(kind: str = "a", kept: dict[str, Any] = TO_DO, *refusals: str) -> dict[str, Any]:
    return {"plan": {"refusals": [{"message": message} for message in refusals]}, "kept": kept, "kind": kind}


def test_one_of_each_kind_goes_first_in_the_order_of_the_inventory() -> None:
    planned = {
        "n1": [environment("a")],
        "n2": [environment("b")],
        "n3": [environment("a")],
        "n4": [environment("a"), environment("b")],
        "n5": [environment("b")],
    }
    decision = decide(planned, planned, {})
    assert (decision.canary, decision.rest) == (["n1", "n2", "n4"], ["n3", "n5"])


def test_a_host_that_is_done_is_no_canary() -> None:
    planned = {
        "n1": [environment("a", DONE)],
        "n2": [environment("a")],
        "n3": [environment("a", DONE), environment("a")],
    }
    decision = decide(planned, planned, {})
    assert decision.unchanged == ["n1"]
    assert decision.canary == ["n2", "n3"]


def test_a_host_without_a_good_verdict_is_not_done() -> None:
    unchecked = {**DONE, "check": None}
    assert decide(["n1"], {"n1": [environment("a", unchecked)]}, {}).canary == ["n1"]


def test_a_host_that_is_still_drained_is_not_done() -> None:
    decision = decide(["n1"], {"n1": [environment("a", DONE)]}, {"n1": "2026-11-26T10:00:00Z"})
    assert (decision.unchanged, decision.canary) == ([], ["n1"])


def test_refused_and_unplanned_hosts_stop_the_fleet_and_are_named() -> None:
    planned = {"n1": [environment()], "n2": [environment("a", TO_DO, "no GPU.", "no disk.")]}
    decision = decide(["n1", "n2", "n3"], planned, {})
    assert refuse_fleet(decision, skip_refused=False) == (
        "Nothing was changed on any node, because 2 of them cannot have what is asked for:\n"
        "n2: no GPU.\n"
        "n3: not reached, or its variables are wrong; see above\n"
        "Set fleet_skip_refused to true to leave these out, or --limit to choose the others."
    )
    assert refuse_fleet(decision, skip_refused=True) is None
    assert decision.canary == ["n1"]


def test_refusal_of_a_large_fleet_is_short() -> None:
    refusal = refuse_fleet(decide([f"n{number}" for number in range(1000)], {}, {}), skip_refused=False)
    assert refusal is not None
    assert len(refusal.splitlines()) == 13
    assert "and 990 more" in refusal


def test_kind_tells_apart_what_may_end_otherwise(tmp_path: Path) -> None:
    node = {**nodes.read("a100_driver535", tmp_path), "environments": [], "manifest": None}
    plan = plan_of(node)["plan"]
    kind = kind_of(plan, node)
    moved = {**node, "gpus": [{**gpu, "pci_address": "0000:41:00.0"} for gpu in node["gpus"]], "boot_id": "another"}
    assert kind_of(plan, moved) == kind
    for other in (
        {**node, "gpus": []},
        {**node, "kernel": {**node["kernel"], "release": "6.1.0-29-amd64"}},
        {**node, "os": {**node["os"], "version_id": "13"}},
        {**node, "driver": {**node["driver"], "loaded": "550.54.14"}},
    ):
        assert kind_of(plan, other) != kind
    assert kind_of(plan_of(node, release="2.11.1")["plan"], node) != kind


@pytest.mark.parametrize(
    ("environments", "message"),
    [
        ([], f"fleet_environments must be a list of at least one environment, each a mapping of {', '.join(KEYS)}."),
        (
            "2.8.0",
            f"fleet_environments must be a list of at least one environment, each a mapping of {', '.join(KEYS)}.",
        ),
        (["2.8.0"], "fleet_environments, item 1: expected a mapping, found '2.8.0'."),
        (
            [{"version": "2.8.0"}, {"verison": "2.8.0"}],
            f"fleet_environments, item 2: verison is unknown. Known are {', '.join(KEYS)}.",
        ),
    ],
)
def test_environments_that_cannot_be_meant(environments: Any, message: str) -> None:
    with pytest.raises(StackError) as error:
        check_environments(environments)
    assert error.value.message == message


def test_every_key_of_an_environment_reaches_its_plan() -> None:
    """In the preflight by the options of the plan, and where a node is changed by the variables of the play."""
    assert set(KEYS) == OPTIONS["environments"]["options"].keys()
    check_environments([dict.fromkeys(KEYS, "x")])
    variables = (REPOSITORY / "playbooks" / "vars" / "fleet.yml").read_text(encoding="utf-8")
    assert {key for key in KEYS if f"fleet_node_environment.{key} " not in variables} == set()
