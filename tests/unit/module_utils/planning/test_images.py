"""Plans that mount an image: of what it is taken, what the step says, and why it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import door
from ansible.module_utils.tensorflow_stack.records.lockfile import read_lock

from tests.unit.module_utils.planning.test_applied import apply, make_plan, node  # noqa: F401
from tests.unit.module_utils.planning.test_plan import RELEASE_FILES

MOUNTS = {"systemd": True, "squashfs": True, "verity": False}
HASHES = {"sha256": "1" * 64, "verity_sha256": "2" * 64, "root_hash": "3" * 64}
SOURCE = "/srv/images/tensorflow-2.10.1.squashfs"


def image_of(made: dict[str, Any], **other: Any) -> dict[str, Any]:
    """What the manifest of an image says that was packed of a planned environment."""
    lock = read_lock(made["lock"]["path"])
    assert lock is not None
    environment, python = made["environment"], made["python"]
    return {
        "source": SOURCE,
        "name": environment["name"],
        "root": environment["root"],
        "release": made["release"],
        "flavour": made["flavour"],
        "digest": environment["digest"],
        "lock_sha256": lock.sha256,
        "minor": python["minor"],
        "python": python["path"],
        "bytes": 1000,
        "verity_bytes": 10,
        **HASHES,
        **other,
    }


def plan(node: dict[str, Any], image: dict[str, Any], release: str = "", **changes: Any) -> dict[str, Any]:  # noqa: F811
    return door.plan_for(
        release=release,
        requirements_path=None,
        environment=None,
        node=node,
        policy={},
        tables_directory=str(RELEASE_FILES / "tables"),
        shipped_locks=str(RELEASE_FILES / "locks"),
        locks="/nowhere",
        image=image,
        today="2026-11-22",
        **changes,
    )["plan"]


def mounting(node: dict[str, Any], **mounts: bool) -> dict[str, Any]:  # noqa: F811
    return {**node, "images": {**MOUNTS, **mounts}}


def test_an_image_decides_on_the_release_and_is_mounted(node: dict[str, Any]) -> None:  # noqa: F811
    image = image_of(make_plan(node, "2.10.1"))
    made = plan(mounting(node), image)
    assert (made["refusals"], made["release"]) == ([], "2.10.1")
    assert made["environment"]["image"] == {
        "source": SOURCE,
        "bytes": 1000,
        "verity_bytes": 10,
        "protection": "compared",
        **HASHES,
    }
    step = made["steps"][-1]
    assert (step["action"], step["source"], step["bytes"]) == ("install", "image", 1000)
    assert "all of it is compared each time before it is mounted (this node has no dm-verity)" in step["why"]
    protected = plan(mounting(node, verity=True), image)
    assert protected["environment"]["image"]["protection"] == "dm-verity"
    assert "the kernel compares each block" in protected["steps"][-1]["why"]


def test_an_image_replaces_a_build_and_is_as_good_as_one(node: dict[str, Any]) -> None:  # noqa: F811
    image = image_of(make_plan(node, "2.10.1"))
    built = mounting(apply(node))
    assert plan(built, image)["steps"][-1]["action"] == "change"
    (row,) = built["environments"]
    mounted = {**built, "environments": [{**row, "image": image["sha256"]}]}
    assert plan(mounted, image)["steps"][-1]["action"] == "keep"
    assert make_plan(mounted, "2.10.1")["steps"][-1]["action"] == "keep"
    another = {**built, "environments": [{**row, "image": "9" * 64}]}
    assert plan(another, image)["steps"][-1]["action"] == "change"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"root": "/srv/tensorflow"}, "wanted an image in which the path is /opt/tensorflow/tensorflow-2.10.1"),
        ({"lock_sha256": "0" * 64}, "wanted an image in which the lock is"),
        ({"digest": "0" * 64}, "wanted an image in which the identity, with CUDA and GPUs, is"),
    ],
)
def test_an_image_of_something_else_is_refused(node: dict[str, Any], other: dict[str, Any], message: str) -> None:  # noqa: F811
    made = plan(mounting(node), image_of(make_plan(node, "2.10.1"), **other))
    (refusal,) = made["refusals"]
    assert message in refusal["message"]
    assert "Pack it again (make image)" in refusal["message"]


def test_an_image_of_another_release_is_refused(node: dict[str, Any]) -> None:  # noqa: F811
    image = image_of(make_plan(node, "2.10.1"))
    (refusal,) = plan(mounting(node), image, "2.9.3")["refusals"]
    assert "the release is 2.9.3; found 2.10.1" in refusal["message"]


def test_its_python_has_to_be_on_the_node(node: dict[str, Any]) -> None:  # noqa: F811
    image = image_of(make_plan(node, "2.10.1"), python="/opt/site/bin/python3.10")
    (refusal,) = plan(mounting(node), image)["refusals"]
    assert refusal["component"] == "python"


@pytest.mark.parametrize("lacking", ["systemd", "squashfs"])
def test_a_node_that_cannot_mount_is_refused(node: dict[str, Any], lacking: str) -> None:  # noqa: F811
    made = plan(mounting(node, **{lacking: False}), image_of(make_plan(node, "2.10.1")))
    assert f"found a node without {lacking}" in made["refusals"][0]["message"]


def test_nothing_is_added_to_an_image(node: dict[str, Any]) -> None:  # noqa: F811
    built = apply(node)
    (row,) = built["environments"]
    mounted = {**built, "environments": [{**row, "image": "1" * 64}]}
    made = plan(mounted, image_of(make_plan(node, "2.10.1")), packages="pandas")
    (refusal,) = made["refusals"]
    assert "found /opt/tensorflow/tensorflow-2.10.1, which is a read-only image" in refusal["message"]
    assert "tensorflow_environment to a name for an environment beside it" in refusal["message"]


def test_the_python_of_the_root_is_named_by_its_link(node: dict[str, Any]) -> None:  # noqa: F811
    """uv's link to the newest patch is not the path at which the node record has the interpreter."""
    root = node["environments_root"]["path"]
    real = f"{root}/.pythons/cpython-3.10.16-linux-x86_64-gnu/bin/python3.10"
    row = {**node["pythons"][0], "minor": "3.10", "version": "3.10.16", "path": real, "origin": "uv", "public": True}
    link = f"{root}/.pythons/cpython-3.10-linux-x86_64-gnu/bin/python3.10"
    image = image_of(make_plan({**node, "pythons": []}, "2.10.1", python="3.10", python_source="uv"))
    assert image["python"] == link
    made = plan(mounting({**node, "pythons": [row]}), image)
    assert (made["refusals"], made["python"]["path"], made["python"]["source"]) == ([], link, "found")
