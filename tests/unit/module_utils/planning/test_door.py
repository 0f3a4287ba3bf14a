"""What planning reads: where environments may be, and which lock is taken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.planning import door
from ansible.module_utils.tensorflow_stack.records.lockfile import Lock, write_lock

from tests import nodes
from tests.unit.module_utils.planning.test_plan import RELEASE_FILES, change, make_plan
from tests.wheels import make_lock, make_tensorflow

SHIPPED = RELEASE_FILES / "locks"


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    return change(nodes.read("no_gpu_debian12", tmp_path), tmp_path, {"pythons": ["3.10"], "environments": []}, {})


@pytest.mark.parametrize(
    "path", ["/", "/usr", "/var", "/home", "/etc", "/etc/tensorflow", "/lib64/x", "/dev/shm", "/proc/1", "/sys/x"]
)
def test_no_environment_is_put_among_the_files_of_the_system(node: dict[str, Any], tmp_path: Path, path: str) -> None:
    node["environments_root"]["path"] = path
    with pytest.raises(StackError) as raised:
        make_plan(node, tmp_path, release="2.8.0")
    assert raised.value.message == (
        f"The root of the environments is {path}, which is the system's. "
        "Set tensorflow_root to a directory of its own, such as /opt/tensorflow."
    )


@pytest.mark.parametrize("path", ["/opt/tensorflow", "/usr/local/tensorflow", "/var/lib/x", "/dev/shm/x", "/etcetera"])
def test_environments_may_be_elsewhere(node: dict[str, Any], tmp_path: Path, path: str) -> None:
    node["environments_root"]["path"] = path
    assert make_plan(node, tmp_path, release="2.8.0")["plan"]["environment"]["path"] == f"{path}/tensorflow-2.8.0"


def old_lock(tmp_path: Path) -> Lock:
    """One that was made from something else than what goes into it today."""
    return make_lock(make_tensorflow(tmp_path, "2.8.0"), release="2.8.0", python="3.10")


def lock_of(node: dict[str, Any], locks: Path, **wish: Any) -> tuple[str, str]:
    lock = make_plan(node, locks, **wish)["plan"]["lock"]
    return lock["state"], lock["path"]


def test_a_lock_of_the_users_own_is_taken_before_the_shipped_one(node: dict[str, Any], tmp_path: Path) -> None:
    state, shipped = lock_of(node, tmp_path / "locks", release="2.8.0")
    assert state == "ready" and Path(shipped).is_relative_to(SHIPPED)
    own = tmp_path / "locks" / Path(shipped).relative_to(SHIPPED)
    own.parent.mkdir(parents=True)
    shutil.copy(shipped, own)
    assert lock_of(node, tmp_path / "locks", release="2.8.0") == ("ready", str(own))
    # The shipped one is as good as ever.
    own.unlink()
    write_lock(str(own), old_lock(tmp_path))
    assert lock_of(node, tmp_path / "locks", release="2.8.0") == ("ready", shipped)


def test_the_lock_of_a_file_is_beside_the_file_and_made_anew_if_it_is_stale(
    node: dict[str, Any], tmp_path: Path
) -> None:
    requirements = tmp_path / "mine.txt"
    requirements.write_text("numpy==1.23.5\n")
    wish = {"release": "2.8.0", "requirements": str(requirements)}
    state, path = lock_of(node, tmp_path / "locks", **wish)
    assert state == "missing" and Path(path).is_relative_to(tmp_path / "mine.locks")
    Path(path).parent.mkdir(parents=True)
    write_lock(path, old_lock(tmp_path))
    assert lock_of(node, tmp_path / "locks", **wish) == ("stale", path)


def test_the_newest_release_is_one_that_the_file_allows(node: dict[str, Any], tmp_path: Path) -> None:
    requirements = tmp_path / "mine.txt"
    for text, release in (("tensorflow<2.10\n", "2.9.3"), ("numpy\n", "2.21.0"), ("tensorflow-gpu\n", "2.11.0")):
        requirements.write_text(text)
        made = make_plan(node, tmp_path / "locks", release="newest", requirements=str(requirements))
        assert made["plan"]["release"] == release, text
        # A file that names TensorFlow has chosen.
        assert [row["release"] for row in made["releases"][:1]] == (["2.21.0"] if text == "numpy\n" else [])
        assert ("releases run here" in made["table"]) is (text == "numpy\n")


def test_a_wish_that_could_not_be_read_is_a_plan_that_does_nothing() -> None:
    refused = door.refused_plan("2.8.0", "mine.txt:1 cannot be read.")
    assert [row["message"] for row in refused["refusals"]] == ["mine.txt:1 cannot be read."]
    assert (refused["steps"], refused["roles"]) == ([], [])


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"release": "2.8.0"}, {"environment": "tensorflow-2.8.0"}),
        ({"release": "2.15"}, {"environment": "tensorflow-2.15.1"}),
        ({"release": "2.8.0", "environment": "mine"}, {"environment": "mine"}),
        ({"release": "newest", "environments_root": "/srv/tf"}, {"environments_root": "/srv/tf"}),
        ({"release": "current"}, {}),
    ],
    ids=str,
)
def test_the_node_is_asked_about_the_environment_that_is_meant(options: dict[str, str], asked: dict[str, str]) -> None:
    tables = str(RELEASE_FILES / "tables")
    assert door.reading([{"environment": None, "environments_root": None, "tables": tables, **options}]) == asked


@pytest.mark.parametrize(
    ("asked", "release"), [("2.15", "2.15.1"), ("2.8", "2.8.4"), ("1.15", "1.15.5"), ("2.15.0", "2.15.0")]
)
def test_a_minor_is_its_newest_patch(node: dict[str, Any], tmp_path: Path, asked: str, release: str) -> None:
    node["pythons"] = [{**node["pythons"][0], "minor": minor, "version": f"{minor}.0"} for minor in ("3.7", "3.10")]
    made = make_plan(node, tmp_path / "locks", release=asked)["plan"]
    assert (made["release"], made["environment"]["name"]) == (release, f"tensorflow-{release}")
    said = f"{asked} was requested, and {release} is its newest patch. For another patch, set all three numbers."
    assert (said == made["warnings"][0]) is (asked != release)


def test_a_root_that_the_user_may_not_write_is_refused(node: dict[str, Any], tmp_path: Path) -> None:
    node["environments_root"]["writable"] = False
    node["user"]["name"] = "ada"
    (refusal,) = make_plan(node, tmp_path / "locks", release="2.8.0")["plan"]["refusals"]
    assert refusal["message"] == (
        "root: wanted a directory for tensorflow-2.8.0; found /opt/tensorflow, which cannot be written by ada. "
        "Set tensorflow_root to a directory of yours, or run as the owner of this one or as root."
    )


def test_a_root_that_the_user_may_not_write_can_be_kept(node: dict[str, Any], tmp_path: Path) -> None:
    applied = {"environments": [{"release": "2.8.0", "flavour": "cpu", "applied": True}]}
    kept = change(node, tmp_path / "locks", applied, {})
    kept["environments_root"]["writable"] = False
    made = make_plan(kept, tmp_path / "locks", release="2.8.0")["plan"]
    assert not made["refusals"] and made["steps"][-1]["action"] == "keep"


def test_a_root_that_cannot_be_read_is_said(node: dict[str, Any], tmp_path: Path) -> None:
    node["unread"] = [{"fact": "environments_root", "reason": "/opt/tensorflow: Permission denied"}]
    node["user"]["name"] = "ada"
    with pytest.raises(StackError) as raised:
        make_plan(node, tmp_path / "locks", release="current")
    assert raised.value.message == (
        "The environments' root /opt/tensorflow cannot be read by ada (/opt/tensorflow: Permission denied). "
        "Set tensorflow_root to a directory of yours, or run as its owner or as root."
    )
