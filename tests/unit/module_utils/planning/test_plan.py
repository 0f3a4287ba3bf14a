"""Plans as operators see them: tests/data/plans/cases.yml says from what, <id>.txt beside it what comes out."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.planning import door
from ansible.module_utils.tensorflow_stack.screen import fold
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from scripts import draw_plan
from tests import nodes

REPOSITORY = Path(__file__).resolve().parents[4]
RELEASE_FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
PLANS = REPOSITORY / "tests" / "data" / "plans"
CASES = yaml.safe_load((PLANS / "cases.yml").read_text())
TABLES = load_tables(str(RELEASE_FILES / "tables"))
SCHEMA = jsonschema.Draft202012Validator(json.loads((RELEASE_FILES / "plan.schema.json").read_text()))


def make_plan(node: dict[str, Any], locks: Path, **wish: Any) -> dict[str, Any]:
    release = wish.pop("release", "newest")
    requirements = wish.pop("requirements", None)
    return door.plan_for(
        release=release,
        requirements_path=requirements,
        node=node,
        environment=None,
        policy=wish,
        tables_directory=str(RELEASE_FILES / "tables"),
        shipped_locks=str(RELEASE_FILES / "locks"),
        locks=str(locks),
        today="2026-11-22",
    )


def change(node: dict[str, Any], locks: Path, changes: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
    """The node with what the case says is different."""
    node = copy.deepcopy(node)
    node["environments_root"]["path"] = "/opt/tensorflow"
    if "uid" in changes:
        node["user"] = {"name": "u", "uid": changes["uid"], "home": "/home/u"}
    if "pythons" in changes:
        node["pythons"] = [
            {
                "version": f"{minor}.0",
                "minor": minor,
                "path": f"/usr/bin/python{minor}",
                "origin": "system",
                "ensurepip": True,
                "distutils": True,
                "public": True,
            }
            for minor in changes["pythons"]
        ]
    if "driver" in changes:
        node["driver"].update(loaded=changes["driver"], installed=changes["driver"])
    for key in ("loaded", "installed", "kind"):
        if key in changes:
            node["driver"][key] = changes[key]
    for key in ("cuda", "cudnn", "managed", "secure_boot", "yum_repositories"):
        if key in changes:
            node[key] = changes[key]
    if "whole" in changes:
        node.update(_whole(**changes["whole"]))
    if "libcuda" in changes:
        node["driver"]["libcuda"] = changes["libcuda"]
    if "device_id" in changes:
        node["gpus"][0]["device_id"] = changes["device_id"]
    if "environments" in changes:
        node["environments"] = []
        node["manifest"] = None
        for environment in changes["environments"]:
            node["environments"].append(_environment(node, locks, dict(environment), wish))
            node["manifest"] = {"current": node["environments"][-1]["name"]}
    if "current" in changes:
        node["manifest"] = {"current": changes["current"]}
    return node


def _whole(cuda: str, cudnn: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Records of a CUDA and a cuDNN that have every library but these."""
    prefix = f"/usr/local/cuda-{cuda}"
    opened = [library for row in TABLES.opened_libraries for library in row.libraries if library not in without]
    row = {"library_directory": f"{prefix}/lib64", "libraries": opened}
    return {
        "cuda": [{"version": cuda, "prefix": prefix, **row}],
        "cudnn": [{"version": cudnn, "library": f"{prefix}/lib64/libcudnn.so.{cudnn}", **row}],
    }


def _environment(node: dict[str, Any], locks: Path, row: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
    """The record of an environment that this toolkit built earlier: from the plan it would make for it."""
    source, applied, damage = row.get("source"), row.pop("applied", False), row.pop("damage", None)
    policy = {"gpu": "none"} if row["flavour"] == "cpu" else {"cuda_source": source}
    made = make_plan({**node, "environments": [], "manifest": None}, locks, release=row["release"], **policy)["plan"]
    step = made["steps"][-1]
    digest = made["environment"]["digest"] if applied else "0" * 64
    name = f"tensorflow-{row['release']}"
    python = {key: made["python"][key] for key in ("minor", "path")}
    return nodes.environment(
        name,
        release=row["release"],
        flavour=row["flavour"],
        digest=digest,
        build=f"{name}-{digest[:12]}-1",
        python={**python, "real_path": python["path"]},
        cuda=made["cuda"],
        cudnn=made["cudnn"],
        packages=dict(package.split("==") for package in step["packages"]),
        requirements={"lines": [], "is_recorded": True, "path": None, "inputs_sha256": None},
        damage=damage,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_plan(case: dict[str, Any], tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    node = change(nodes.read(case["node"], tmp_path), locks, case.get("with", {}), case["wish"])
    result = make_plan(node, locks, **case["wish"])
    SCHEMA.validate(result["plan"])
    shown = result["table"].replace(str(RELEASE_FILES), "<files>").replace(str(tmp_path), "<tmp>") + "\n"
    golden = PLANS / f"{case['id']}.txt"
    if os.environ.get("UPDATE_PLANS"):
        golden.write_text(shown)
    assert shown == golden.read_text()
    if "picture" in case:
        drawn = draw_plan.draw(case["picture"], result["plan"])
        picture = REPOSITORY / "docs" / "pictures" / f"{case['picture']}.svg"
        if os.environ.get("UPDATE_PLANS"):
            picture.write_text(drawn)
        assert drawn == picture.read_text()
    for refusal in result["plan"]["refusals"]:
        assert len(fold(refusal["message"], 80)) <= 5, "an operator reads at most five lines"


def test_a_plan_says_which_kernels_get_modules(tmp_path: Path) -> None:
    """Of the running one and those that can be booted, not of a directory that DKMS left; none of one that is kept."""
    bare = change(nodes.read("bare_t4_debian11", tmp_path), tmp_path, {"pythons": ["3.9"]}, {})
    assert make_plan(bare, tmp_path, release="2.8.0")["plan"]["driver"]["kernels"] == ["5.10.0-32-amd64"]
    kept = change(nodes.read("a100_driver535", tmp_path), tmp_path, {"pythons": ["3.10"], "environments": []}, {})
    assert make_plan(kept, tmp_path, release="2.8.0")["plan"]["driver"]["kernels"] is None
    inside = change(nodes.read("container_a100_debian12", tmp_path), tmp_path, {"pythons": ["3.11"]}, {})
    made = make_plan(inside, tmp_path, release="2.15.1", driver_source="distro")["plan"]
    assert (made["driver"]["kernel_modules"], made["driver"]["kernels"]) == ("none", [])


def test_a_refused_plan_has_every_field_of_one_that_is_not(node: dict[str, Any], tmp_path: Path) -> None:
    made = make_plan(node, tmp_path, release="2.8.0")["plan"]
    refused = make_plan(node, tmp_path, release="2.8.0", gpu="required")["plan"]
    assert made.keys() == refused.keys()


def test_every_plan_file_has_its_case() -> None:
    assert sorted(path.stem for path in PLANS.glob("*.txt")) == sorted(case["id"] for case in CASES)


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    return change(nodes.read("no_gpu_debian12", tmp_path), tmp_path, {"pythons": ["3.10"], "environments": []}, {})


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("2.8.9", "2.8.2, 2.8.3, 2.8.4"),
        ("2.99.0", "2.20.0, 2.21.0"),
        ("1.13.1", "1.15.0"),
        ("two", "2.19.1, 2.20.0, 2.21.0"),
    ],
)
def test_unknown_release_names_the_nearest(node: dict[str, Any], tmp_path: Path, asked: str, nearest: str) -> None:
    with pytest.raises(StackError) as raised:
        make_plan(node, tmp_path, release=asked)
    assert raised.value.message == (
        f"TensorFlow {asked} is not a known release; the nearest are {nearest}. Set tensorflow_version to one of them."
    )


def test_2_10_without_quotes_is_2_1(node: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"one of them \(all three numbers, in quotes: YAML reads 2\.10 as 2\.1\)\."):
        make_plan(node, tmp_path, release="2.1")


def test_current_without_any_environment(node: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StackError) as raised:
        make_plan(node, tmp_path, release="current")
    assert raised.value.message == (
        "There is no environment below /opt/tensorflow. Build one first (make workstation TENSORFLOW=), or set "
        "tensorflow_root to the directory of yours."
    )


def test_requirements_choose_the_release(node: dict[str, Any], tmp_path: Path) -> None:
    requirements = tmp_path / "mine.txt"
    requirements.write_text("tensorflow-gpu~=2.8.0\nnumpy==1.23.5\n")
    plan = make_plan(node, tmp_path / "locks", requirements=str(requirements))["plan"]
    assert plan["release"] == "2.8.4"
    assert plan["lock"]["path"] == str(tmp_path / "mine.locks/tensorflow-2.8.4/cp310-linux_x86_64-cpu.txt")
    assert (plan["lock"]["state"], plan["roles"]) == ("missing", ["tensorflow_lock"])


def test_the_current_environment_is_meant_by_its_name(node: dict[str, Any], tmp_path: Path) -> None:
    environment = _environment(node, tmp_path, {"release": "2.8.0", "flavour": "cpu"}, {})
    node["environments"] = [{**environment, "name": "work"}]
    node["manifest"] = {"current": "work"}
    plan = make_plan(node, tmp_path, release="current")["plan"]
    assert (plan["release"], plan["environment"]["name"]) == ("2.8.0", "work")
    node["manifest"] = {"current": "gone"}
    with pytest.raises(StackError, match="It is unknown which environment"):
        make_plan(node, tmp_path, release="current")


def test_a_marker_chooses_no_other_release(node: dict[str, Any], tmp_path: Path) -> None:
    node["pythons"].append({**node["pythons"][0], "minor": "3.13", "path": "/usr/bin/python3.13"})
    requirements = tmp_path / "mine.txt"
    requirements.write_text('tensorflow==2.8.0; python_version < "3.11"\n')
    assert make_plan(node, tmp_path, requirements=str(requirements))["plan"]["release"] == "2.8.0"


def test_requirements_with_an_unknown_release_name_the_nearest(node: dict[str, Any], tmp_path: Path) -> None:
    requirements = tmp_path / "mine.txt"
    requirements.write_text("numpy\ntensorflow==2.8.9\n")
    with pytest.raises(
        StackError, match=r"TensorFlow 2\.8\.9 \(.*mine\.txt:2\) is not .*nearest are 2\.8\.2, 2\.8\.3, 2\.8"
    ):
        make_plan(node, tmp_path, requirements=str(requirements))


def test_an_environment_without_a_name_that_it_can_have(node: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StackError, match="'my env' is no name for an environment"):
        door.plan_for(
            release="2.8.0",
            requirements_path=None,
            node=node,
            environment="my env",
            policy={},
            tables_directory=str(RELEASE_FILES / "tables"),
            shipped_locks=str(RELEASE_FILES / "locks"),
            locks=str(tmp_path),
        )


def test_requirements_against_the_release(node: dict[str, Any], tmp_path: Path) -> None:
    requirements = tmp_path / "mine.txt"
    requirements.write_text("tensorflow==2.8.0\n")
    with pytest.raises(
        StackError, match=r"mine.txt:1 asks for tensorflow==2\.8\.0, but the requested release is 2\.10\.1"
    ):
        make_plan(node, tmp_path, release="2.10.1", requirements=str(requirements))


def refusal_of(node: dict[str, Any], tmp_path: Path, text: str) -> str:
    """Of the newest release that a file allows, if only the Pythons on the node may be used."""
    requirements = tmp_path / "mine.txt"
    requirements.write_text(text)
    plan = make_plan(node, tmp_path, requirements=str(requirements), python_source="found")["plan"]
    (refusal,) = plan["refusals"]
    return str(refusal["message"]).replace(str(tmp_path), "")


def test_requirements_that_no_release_here_fulfils(node: dict[str, Any], tmp_path: Path) -> None:
    assert refusal_of(node, tmp_path, "tensorflow==2.5.0\n").startswith(
        "release: wanted one TensorFlow release; found /mine.txt allows 2.5.0, which cannot run here, because of "
        "python: wanted Python 3."
    )
    assert "/mine.txt allows 2.7.4, 2.7.3, 2.7.2, 2.7.1, 2.7.0, which cannot run here, the newest, 2.7.4, b" in (
        refusal_of(node, tmp_path, "tensorflow-cpu~=2.7.0\n")
    )
    assert "found /mine.txt allows none of the releases that run here (2.21.0, 2.20.0, 2.19.1, 2.19.0 and 28 older" in (
        refusal_of(node, tmp_path, "tensorflow>2.21\n")
    )


def test_requirements_without_tensorflow_are_no_reason(node: dict[str, Any], tmp_path: Path) -> None:
    node["pythons"] = []
    assert "found none of 57 releases runs here, the newest, 2.21.0, because of python: wanted" in (
        refusal_of(node, tmp_path, "numpy\n")
    )


@pytest.mark.parametrize("release", ["newest", "2.12.0"])
def test_requirements_for_a_project_without_that_release(node: dict[str, Any], tmp_path: Path, release: str) -> None:
    requirements = tmp_path / "mine.txt"
    requirements.write_text("tensorflow-gpu==2.12.0\n")
    with pytest.raises(StackError) as raised:
        make_plan(node, tmp_path, release=release, requirements=str(requirements))
    assert raised.value.message == (
        f"{requirements}:1 asks for tensorflow-gpu==2.12.0. tensorflow-gpu ends with 2.11.0; from then on the project "
        "is tensorflow. Write tensorflow==2.12.1 (or ==2.12.0)."
    )


def test_refusal_of_every_release_has_one_full_stop_a_sentence(tmp_path: Path) -> None:
    node = change(nodes.read("no_gpu_debian12", tmp_path), tmp_path, {}, {})
    refused = make_plan(node, tmp_path, gpu="required")
    message = refused["plan"]["refusals"][0]["message"]
    assert "runs here, the newest, 2.21.0, because of " in message and ".." not in message, message
