"""What is done already need not be started on the node; whatever is not known to be done has to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import door
from ansible.module_utils.tensorflow_stack.records.additions import Addition
from ansible.module_utils.tensorflow_stack.records.evidence import evidence_digest

from tests import nodes
from tests.unit.module_utils.planning.test_applied import PANDAS, apply
from tests.unit.module_utils.planning.test_plan import RELEASE_FILES

STORED = {"verdict": "cpu_only_no_gpu", "reason": "It computed.", "checked_at": "2026-11-22T00:00:00Z", "report": {}}
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def planned(node: dict[str, Any], **wish: Any) -> dict[str, Any]:
    return door.plan_for(
        release=wish.pop("release", "2.10.1"),
        requirements_path=None,
        node=node,
        environment=None,
        in_use=wish.pop("in_use", True),
        policy={"gpu": "none", **wish},
        tables_directory=str(RELEASE_FILES / "tables"),
        shipped_locks=str(RELEASE_FILES / "locks"),
        locks="/nowhere",
        today="2026-11-22",
    )


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    return unchanged_node(tmp_path)


def unchanged_node(tmp_path: Path) -> dict[str, Any]:
    """A node on which 2.10.1 was applied for the CPU, and checked."""
    bare = {**nodes.read("a100_driver535", tmp_path), "environments": [], "manifest": None}
    after = apply(bare, gpu="none")
    (row,) = after["environments"]
    row["damage"] = []
    plan = planned(after)["plan"]
    evidence = evidence_digest(
        evidence=plan["evidence"],
        additions=(),
        variables=after["variables"],
        build=row["build"],
        release="2.10.1",
        expect_gpu=False,
        gpu_count=0,
        cudnn_floor=None,
    )
    check = {**STORED, "evidence_sha256": evidence}
    after["manifest"]["environments"] = {row["name"]: {"check": check, "asked": {row["build"]: plan["asked"]}}}
    return after


def test_on_an_unchanged_node_nothing_is_started(node: dict[str, Any]) -> None:
    result = planned(node)
    kept = result["kept"]
    assert kept["environment"]["action"] == "keep"
    assert kept["environment"]["environment"] == "/opt/tensorflow/tensorflow-2.10.1"
    assert (kept["check"]["verdict"], kept["check"]["reused"]) == ("cpu_only_no_gpu", True)
    step = result["plan"]["steps"][-1]
    assert (step["action"], step["why"].partition("; ")[2]) == ("keep", "its files are unchanged")


def test_what_was_applied_is_planned_as_done_too(node: dict[str, Any]) -> None:
    assert planned(node, release="current")["kept"]["check"]["verdict"] == "cpu_only_no_gpu"


def test_one_of_several_environments_need_not_be_the_one_in_use(node: dict[str, Any]) -> None:
    another_applied_last(node, {})
    assert planned(node)["kept"]["environment"] is None
    assert planned(node, in_use=False)["kept"]["environment"]["action"] == "keep"


def not_looked_into(node: dict[str, Any], row: dict[str, Any]) -> None:
    row["damage"] = None


def damaged(node: dict[str, Any], row: dict[str, Any]) -> None:
    row["damage"] = ["numpy: numpy/version.py has 3 bytes, not 5"]


def stopped(node: dict[str, Any], row: dict[str, Any]) -> None:
    row["unfinished"] = ["tensorflow-2.10.1-0123456789ab-2 was never completed"]


def another_lock(node: dict[str, Any], row: dict[str, Any]) -> None:
    row["digest"] = "0" * 64


def another_applied_last(node: dict[str, Any], row: dict[str, Any]) -> None:
    node["manifest"]["current"] = "tensorflow-2.8.0"


def file_not_recorded(node: dict[str, Any], row: dict[str, Any]) -> None:
    row["requirements"]["is_recorded"] = False


def asked_for_otherwise(node: dict[str, Any], row: dict[str, Any]) -> None:
    node["manifest"]["environments"][row["name"]]["asked"][row["build"]] = {"tensorflow_version": "newest"}


def variables_not_recorded(node: dict[str, Any], row: dict[str, Any]) -> None:
    del node["manifest"]["environments"][row["name"]]["asked"]


def gone(node: dict[str, Any], row: dict[str, Any]) -> None:
    node["environments"] = []


@pytest.mark.parametrize(
    "change",
    [
        not_looked_into,
        damaged,
        stopped,
        another_lock,
        another_applied_last,
        file_not_recorded,
        asked_for_otherwise,
        variables_not_recorded,
        gone,
    ],
)
def test_the_build_is_started(node: dict[str, Any], change: Change) -> None:
    change(node, node["environments"][0])
    assert planned(node)["kept"] == {"environment": None, "check": None}


def never_checked(node: dict[str, Any], row: dict[str, Any]) -> None:
    node["manifest"]["environments"][row["name"]]["check"] = None


def checked_with_another_result(node: dict[str, Any], row: dict[str, Any]) -> None:
    node["manifest"]["environments"][row["name"]]["check"]["verdict"] = "import_failed"


def checked_under_other_conditions(node: dict[str, Any], row: dict[str, Any]) -> None:
    node["variables"] = {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}


def added_to(node: dict[str, Any], row: dict[str, Any]) -> None:
    row["additions"] = [dict(PANDAS._asdict())]


@pytest.mark.parametrize(
    "change", [never_checked, checked_with_another_result, checked_under_other_conditions, added_to]
)
def test_only_the_check_is_started(node: dict[str, Any], change: Change) -> None:
    change(node, node["environments"][0])
    kept = planned(node)["kept"]
    assert kept["environment"]["action"] == "keep"
    assert kept["check"] is None


def test_another_check_is_started(node: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_check_code", lambda: "another")
    assert planned(node)["kept"]["check"] is None


def test_what_was_added_is_named(node: dict[str, Any]) -> None:
    added_to(node, node["environments"][0])
    assert planned(node)["kept"]["environment"]["additions"] == [Addition("pandas", "2.3.3").text]


def test_with_a_role_that_has_something_to_do_nothing_is_taken_for_granted(node: dict[str, Any]) -> None:
    node["pythons"] = []
    result = planned(node)
    assert result["plan"]["roles"] == ["python_interpreter"]
    assert result["kept"] == {"environment": None, "check": None}


def test_a_damaged_environment_is_planned_anew(node: dict[str, Any]) -> None:
    damaged(node, node["environments"][0])
    step = planned(node)["plan"]["steps"][-1]
    assert step["action"] == "change"
    assert "is damaged (numpy: numpy/version.py has 3 bytes, not 5)" in step["why"]
