"""The action that plans: it reads the node unless it is given a record of it, and passes on why that failed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow_stack_info
from ansible.module_utils.tensorflow_stack.planning.options import OPTIONS

from tests import nodes
from tests.unit.module_utils.planning.test_kept import unchanged_node
from tests.unit.module_utils.planning.test_plan import RELEASE_FILES

PLACES = {
    "tables": str(RELEASE_FILES / "tables"),
    "shipped_locks": str(RELEASE_FILES / "locks"),
    "locks": "/nowhere",
}
RunAction = Callable[..., dict[str, Any]]


USER = {"pid": 4711, "program": "python3 train.py", "user": "ada", "slurm_job": 42}
CACHED = ["tensorflow==2.8.0"]
# What is wrong with each interpreter that does not start.
Faults = dict[str, str]


@pytest.fixture
def faults() -> Faults:
    return {}


@pytest.fixture
def asked() -> list[dict[str, Any]]:
    """The arguments of each module that was started on the node."""
    return []


@pytest.fixture
def act(asked: list[dict[str, Any]], faults: Faults, monkeypatch: pytest.MonkeyPatch) -> RunAction:
    def run(
        read: dict[str, Any] | None = None,
        *,
        check_mode: bool = False,
        variables: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        def execute(name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
            asked.append(dict(module_args))
            module_args["_ansible_check_mode"] = False  # as ansible-core does
            if name == "tensorflow_build_info":
                python = module_args.get("python")
                return {"fault": faults.get(str(python)), "real_path": python, "cached": CACHED}
            if name == "gpu_processes_info":
                return {"gpu": [USER] if module_args.get("gpu") else [], "environment": []}
            assert name == "gpu_node_info" and read is not None
            return read

        task = SimpleNamespace(
            args={**PLACES, **options}, action="tensorflow_stack_info", async_val=0, check_mode=check_mode, diff=False
        )
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        play = SimpleNamespace(check_mode=False)
        templar = SimpleNamespace(template=lambda text: text)
        action = tensorflow_stack_info.ActionModule(task, connection, play, None, templar, None)
        action._load_name = "tensorflow_stack_info"  # as the loader of plugins names it
        monkeypatch.setattr(action, "_execute_module", execute)
        of_the_play = {"inventory_hostname": "n1"}
        return action.run(task_vars={**of_the_play, **(variables or {})})

    return run


def test_the_node_is_read_and_its_record_returned(act: RunAction, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    facts = {"discovered_interpreter_python": "/usr/bin/python3"}
    result = act({"node": node, "changed": False, "ansible_facts": facts}, release="2.10.1")
    python = "/opt/tensorflow/.pythons/cpython-3.10.19-linux-x86_64-gnu/bin/python3.10"
    build = {"root": "/opt/tensorflow", "minor": "3.10", "python": python}
    assert asked == [{"environment": "tensorflow-2.10.1"}, build]
    assert (result["node"], result["ansible_facts"], result["changed"]) == (node, facts, False)
    assert result["plan"]["release"] == "2.10.1"


def test_an_interpreter_that_does_not_start_is_passed_over(
    act: RunAction, asked: list[dict[str, Any]], faults: Faults, tmp_path: Path
) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    (other,) = (row for row in node["pythons"] if row["minor"] == "3.10")
    node["pythons"].append({**other, "path": "/usr/bin/python3.10", "origin": "system"})
    paths = [other["path"], "/usr/bin/python3.10"]
    faults[paths[1]] = "does not start: libpython3.10.so.1.0: cannot open shared object file"
    result = act({"node": node}, release="2.8.0", policy={"gpu": "none"})
    assert [row["python"] for row in asked[1:]] == [paths[1], paths[0]]
    assert result["plan"]["python"]["path"] == paths[0]
    (warning,) = (text for text in result["plan"]["warnings"] if text.endswith("is not used."))
    assert warning == f"Python {other['version']} ({paths[1]}, which {faults[paths[1]]}) is not used."
    assert [row.get("fault") for row in result["node"]["pythons"] if row["minor"] == "3.10"] == [None, faults[paths[1]]]
    # With none that starts, one is fetched; and it is refused if that is not allowed.
    faults[paths[0]] = "does not end within 10 s"
    assert act({"node": node}, release="2.8.0", policy={"python": "3.10"})["plan"]["python"]["source"] == "uv"
    policy = {"python": "3.10", "python_source": "found"}
    refused = act({"node": node}, release="2.8.0", policy=policy)
    assert refused["failed"] and f"({paths[0]}, which does not end within 10 s)" in refused["msg"]


def test_what_is_cached_is_not_to_be_fetched(act: RunAction, tmp_path: Path) -> None:
    node = {**nodes.read("a100_driver535", tmp_path), "environments": []}
    options: dict[str, Any] = {"release": "2.8.0", "policy": {"gpu": "none"}}
    whole, rest = (
        act(**how, **options)["plan"]["steps"][-1]["bytes"] for how in ({"node": node}, {"read": {"node": node}})
    )
    assert 0 < rest < 0.4 * whole


def test_an_environment_that_is_kept_starts_nothing(
    act: RunAction, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    digest = act(node=node, release="2.8.0")["plan"]["environment"]["digest"]
    kept = nodes.environment(digest=digest)
    act({"node": {**node, "environments": [kept]}}, release="2.8.0")
    assert asked == [{"environment": "tensorflow-2.8.0"}]


def test_a_record_that_is_given_is_planned_from(act: RunAction, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    result = act(node=nodes.read("a100_driver535", tmp_path), release="2.10.1")
    assert (asked, "node" in result, result["plan"]["release"]) == ([], False, "2.10.1")


def test_why_the_node_could_not_be_read_is_why_it_fails(act: RunAction) -> None:
    failed = {"failed": True, "msg": "environments_root is 'x'; set it to an absolute path, such as /x"}
    result = act(failed, environments_root="x")
    assert (result["failed"], result["msg"]) == (True, failed["msg"])
    assert "plan" not in result


@pytest.mark.parametrize(("enforced", "fails"), [(True, True), (False, False)])
def test_a_refusal_fails_if_it_is_enforced(act: RunAction, tmp_path: Path, enforced: bool, fails: bool) -> None:
    node = {**nodes.read("a100_driver535", tmp_path), "pythons": []}
    result = act(node=node, release="2.10.1", enforced=enforced, policy={"python_source": "found"})
    assert result["plan"]["refusals"]
    assert result.get("failed", False) is fails


def test_what_one_task_leaves_open_is_not_kept_for_the_next(act: RunAction, tmp_path: Path) -> None:
    before = copy.deepcopy(OPTIONS)
    act(node=nodes.read("a100_driver535", tmp_path), release="2.10.1")
    assert before == OPTIONS


def test_an_unknown_option_is_an_error(act: RunAction) -> None:
    with pytest.raises(Exception, match="policies"):
        act(policies={})


DRIVER = {"driver_source": "nvidia_repo", "driver_version": "580"}


def test_a_driver_that_is_in_use_is_not_changed(act: RunAction, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    result = act({"node": node}, release="2.8.0", policy=DRIVER, refuse_in_use=True)
    assert asked[-1] == {"gpu": True}
    assert result["failed"]
    assert "found process 4711 (python3 train.py) of ada, Slurm job 42." in " ".join(result["msg"].split())
    assert [refusal["component"] for refusal in result["plan"]["refusals"]] == ["driver"]


def test_that_it_is_in_use_is_refused_only_if_asked_for_and_if_it_changes(
    act: RunAction, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    assert not act({"node": node}, release="2.8.0", policy=DRIVER).get("failed")
    assert not act({"node": node}, release="2.8.0", refuse_in_use=True).get("failed")
    assert {"gpu": True} not in asked
    listed = act({"node": node}, release="2.8.0", policy=DRIVER, refuse_in_use=True, enforced=False)
    assert not listed.get("failed")
    assert listed["plan"]["refusals"]


def test_several_environments_are_planned_from_one_record(
    act: RunAction, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    items = [{"version": "2.8.0", "gpu": "none"}, {"version": "2.10.1", "environment": "vision"}]
    result = act({"node": node}, environments=items, policy={"driver_source": "found"})
    first, second = (one["plan"] for one in result["plans"])
    assert (first["release"], first["flavour"], first["environment"]["name"]) == ("2.8.0", "cpu", "tensorflow-2.8.0")
    assert (second["release"], second["flavour"], second["environment"]["name"]) == ("2.10.1", "cuda", "vision")
    reads = [arguments for arguments in asked if "minor" not in arguments]
    assert reads == [{"environments": ["tensorflow-2.8.0", "vision"]}]
    assert "plan" not in result


def test_unknown_key_of_an_environment_is_named(act: RunAction, asked: list[dict[str, Any]]) -> None:
    failed = act(environments=[{"kernel": "2.8.0"}])
    assert failed["failed"] and failed["msg"].startswith("fleet_environments, item 1: kernel is unknown. Known are ")
    assert asked == []


@pytest.fixture
def unchanged(tmp_path: Path) -> dict[str, Any]:
    return unchanged_node(tmp_path)


@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_kept_is_reported(act: RunAction, unchanged: dict[str, Any], tmp_path: Path, check_mode: bool) -> None:
    path = tmp_path / "reports" / "n1.json"
    options = {"release": "2.10.1", "policy": {"gpu": "none"}, "report": str(path)}
    result = act({"node": unchanged}, check_mode=check_mode, **options)
    assert result["report"]["succeeded"] is True
    assert result["report"]["check"]["reused"] is True
    assert result["use"][0].startswith("ready: TensorFlow 2.10.1 (cpu)")
    assert path.exists() is not check_mode


def test_report_of_one_of_several_environments_has_its_name(
    act: RunAction, unchanged: dict[str, Any], tmp_path: Path
) -> None:
    items = [{"version": "2.8.0"}, {"version": "2.10.1"}]
    options = {"policy": {"gpu": "none"}, "report": str(tmp_path / "n1.json")}
    result = act({"node": unchanged}, environments=items, **options)
    assert ["report" in one for one in result["plans"]] == [False, True]
    assert [path.name for path in tmp_path.glob("n1*")] == ["n1.tensorflow-2.10.1.json"]


def test_what_has_to_be_done_is_not_reported(act: RunAction, tmp_path: Path) -> None:
    node = nodes.read("a100_driver535", tmp_path)
    assert "report" not in act({"node": node}, release="2.8.0", report=str(tmp_path / "n1.json"))
    assert not (tmp_path / "n1.json").exists()


def test_report_that_cannot_be_written_fails(act: RunAction, unchanged: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = {"release": "2.10.1", "policy": {"gpu": "none"}, "report": str(tmp_path / "file" / "n1.json")}
    failed = act({"node": unchanged}, **options)
    assert failed["failed"] and failed["msg"].endswith("Set stack_report_directory to a directory of yours.")


def test_misspelt_name_is_refused_before_the_node_is_read(act: RunAction, asked: list[dict[str, Any]]) -> None:
    failed = act(check_names=True, variables={"tensorflow_verison": "2.8.0"}, policy={"gpu": "maybe"})
    assert failed["failed"]
    assert failed["msg"].startswith("tensorflow_verison is set, but is no variable of this toolkit; tensorflow_version")
    assert asked == []
