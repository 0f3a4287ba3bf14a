"""A run that names no release asks for what was asked for last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import RefusedError
from ansible.module_utils.tensorflow_stack.planning.stack import Policy

from tests import nodes
from tests.unit.module_utils.planning.test_applied import apply, make_plan

NAMED = {"tensorflow_version": "2.10.1"}


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    record = nodes.read("a100_driver535", tmp_path)
    return {**record, "environments": [], "manifest": None}


def newest(node: dict[str, Any]) -> str:
    return str(make_plan(node, "newest")["release"])


def after_run(node: dict[str, Any], asked: dict[str, Any], name: str | None = None, **wish: Any) -> dict[str, Any]:
    """The node after a run for which these variables were set."""
    after = apply(node, name, **wish)
    row = after["environments"][-1]
    after["manifest"]["environments"] = {row["name"]: {"asked": {row["build"]: asked}}}
    return after


def test_on_a_new_node_it_is_the_newest(node: dict[str, Any]) -> None:
    made = make_plan(node, "")
    assert (made["release"], made["asked"]) == (newest(node), {"tensorflow_version": "newest"})


def test_it_is_the_release_of_the_run_before(node: dict[str, Any]) -> None:
    made = make_plan(after_run(node, NAMED), "")
    assert (made["release"], made["asked"], made["steps"][-1]["action"]) == ("2.10.1", NAMED, "keep")
    assert made["warnings"][0] == (
        "No release was named, so this is what was asked for last: TensorFlow 2.10.1. For another one set "
        "tensorflow_version (make: TENSORFLOW=), for example to newest."
    )


def test_a_variable_at_its_default_was_not_set(node: dict[str, Any]) -> None:
    assert make_plan(node, "2.10.1", ignored_gpus=[], gpu="auto")["asked"] == NAMED


def test_newest_stays_newest(node: dict[str, Any]) -> None:
    made = make_plan(after_run(node, {"tensorflow_version": "newest"}), "")
    assert (made["release"], made["environment"]["name"]) == (newest(node), f"tensorflow-{newest(node)}")
    assert not any("No release was named" in warning for warning in made["warnings"])


def test_variables_and_name_are_as_before(node: dict[str, Any]) -> None:
    asked = {**NAMED, "tensorflow_environment": "mine", "tensorflow_gpu": "none"}
    made = make_plan(after_run(node, asked, "mine", gpu="none"), "")
    assert (made["asked"], made["flavour"], made["environment"]["name"]) == (asked, "cpu", "mine")
    assert made["steps"][-1]["action"] == "keep"


def test_what_is_set_counts_more_than_what_was_set(node: dict[str, Any]) -> None:
    after = after_run(node, {**NAMED, "tensorflow_gpu": "none"}, gpu="none")
    assert make_plan(after, "", gpu="required")["flavour"] == "cuda"


def test_a_named_environment_is_as_it_was_asked_for(node: dict[str, Any]) -> None:
    after = after_run(node, {"tensorflow_version": "2.8.0", "tensorflow_environment": "old"}, "old", release="2.8.0")
    old = after["manifest"]["environments"]
    after = after_run(after, NAMED)
    after["manifest"]["environments"].update(old)
    made = make_plan(after, "", environment="old")
    assert (made["release"], made["environment"]["name"], made["steps"][-1]["action"]) == ("2.8.0", "old", "keep")
    assert make_plan(after, "", environment="new")["release"] == newest(node)


def test_it_is_the_requirements_file_of_the_run_before(node: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("numpy==1.23.5\n")
    after = after_run(node, NAMED)
    after["environments"][0]["requirements"]["path"] = str(file)
    made = make_plan(after, "")
    assert (made["lock"]["requirements"], made["refusals"]) == (str(file), [])
    assert f"TensorFlow 2.10.1 with {file}." in made["warnings"][0]
    # Without it, nobody loses what was made from it.
    file.unlink()
    made = make_plan(after, "")
    assert (made["lock"]["state"], made["steps"][-1]["action"]) == ("applied", "keep")
    assert made["warnings"][0] == (
        f"No release was named: tensorflow-2.10.1 stays as it was applied, because {file}, from which it was made, "
        "does not exist on the controller."
    )


def test_an_environment_of_an_earlier_version_stays_at_its_release(node: dict[str, Any]) -> None:
    assert make_plan(apply(node), "")["release"] == "2.10.1"


def test_current_has_the_variables_of_then(node: dict[str, Any]) -> None:
    asked = {**NAMED, "tensorflow_gpu": "none", "tensorflow_packages": "pandas"}
    made = make_plan(after_run(node, asked, gpu="none"), "current")
    assert made["asked"] == {**NAMED, "tensorflow_gpu": "none"}
    assert not any("was built for the CPU" in warning for warning in made["warnings"])


def test_every_variable_is_read_as_it_was_recorded() -> None:
    policy = Policy(
        gpu="required", allow_downgrade=True, python="3.9", ignored_gpus=("0", "0000:04:00.0"), python_source="uv"
    )
    assert Policy().with_asked(policy.asked) == policy
    # Of another toolkit, or edited by hand.
    assert Policy().with_asked({"tensorflow_gpu": 3, "tensorflow_ignored_gpus": None}) == Policy()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "2.15.1 2.8.0",
            "An environment has one TensorFlow release, and tensorflow_version is '2.15.1 2.8.0'. Set it to 2.15.1, "
            "and run once more for each other one.",
        ),
        (
            "latest",
            "TensorFlow latest is not a known release. Set tensorflow_version to newest for the newest that runs here, "
            "or to a release such as ",
        ),
        (
            "tensorflow==2.15.9",
            "TensorFlow tensorflow==2.15.9 is not a known release; the nearest are 2.15.0, 2.15.0.post1, 2.15.1. Set "
            "tensorflow_version to one of them.",
        ),
    ],
)
def test_what_is_no_release_is_refused_with_what_was_meant(node: dict[str, Any], asked: str, message: str) -> None:
    with pytest.raises(RefusedError) as raised:
        make_plan(node, asked)
    assert raised.value.message.startswith(message)


@pytest.mark.parametrize("asked", ["2.15", "2.15.*", "2.15.x", " v2.15 "])
def test_a_minor_is_its_newest_patch_however_it_is_written(node: dict[str, Any], asked: str) -> None:
    made = make_plan(node, asked, gpu="none", python_source="uv")
    assert made["release"] == "2.15.1"
    assert f"{asked} was requested, and 2.15.1 is its newest patch." in made["warnings"][0]


def test_a_release_has_the_name_of_the_table(node: dict[str, Any]) -> None:
    made = make_plan(node, " v2.10.1 ")
    assert (made["asked"], made["environment"]["name"]) == (NAMED, "tensorflow-2.10.1")
    assert not any("newest patch" in warning for warning in made["warnings"])
