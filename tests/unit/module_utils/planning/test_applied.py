"""Planning again what was applied, and refusing a plan that would lose what is in an environment."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.planning import applied, door
from ansible.module_utils.tensorflow_stack.planning.node import Environment
from ansible.module_utils.tensorflow_stack.planning.stack import LockState
from ansible.module_utils.tensorflow_stack.records.additions import Addition
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution, read_lock

from tests import nodes
from tests.unit.module_utils.planning.test_plan import RELEASE_FILES
from tests.wheels import make_lock

PANDAS = Addition("pandas", "2.3.3")
LOCKED = {"inputs_sha256": "0" * 64}
FILE = {**LOCKED, "lines": ["numpy==1.23.5", "tensorflow==2.10.1"], "is_recorded": True, "path": "/home/me/a.txt"}
ALONE = {**LOCKED, "lines": ["tensorflow==2.10.1"], "is_recorded": True, "path": None}
UNRECORDED = {**LOCKED, "lines": ["numpy==1.23.5", "tensorflow==2.10.1"], "is_recorded": False, "path": None}


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    """A node with a GPU and no environment yet."""
    record = nodes.read("a100_driver535", tmp_path)
    return {**record, "environments": [], "manifest": None}


def make_plan(node: dict[str, Any], release: str = "current", **wish: Any) -> dict[str, Any]:
    names = ("requirements_path", "environment")
    given = {name: wish.pop(name, None) for name in names}
    return door.plan_for(
        release=release,
        node=node,
        policy=wish,
        tables_directory=str(RELEASE_FILES / "tables"),
        shipped_locks=str(RELEASE_FILES / "locks"),
        locks="/nowhere",
        today="2026-11-22",
        **given,
    )["plan"]


def apply(node: dict[str, Any], name: str | None = None, **wish: Any) -> dict[str, Any]:
    """The node after a run of that plan; its row can be changed."""
    made = make_plan(node, wish.pop("release", "2.10.1"), environment=name, **wish)
    assert not made["refusals"], made["refusals"]
    lock = read_lock(made["lock"]["path"])
    assert lock is not None
    digest = made["environment"]["digest"]
    python = {key: made["python"][key] for key in ("minor", "path")}
    row = nodes.environment(
        made["environment"]["name"],
        release=made["release"],
        flavour=made["flavour"],
        digest=digest,
        build=f"{made['environment']['name']}-{digest[:12]}-1",
        python={**python, "real_path": python["path"]},
        cuda=made["cuda"],
        cudnn=made["cudnn"],
        lock_sha256=lock.sha256,
        packages=lock.packages,
        requirements=copy.deepcopy(ALONE),
    )
    after = {**node, "environments": [*node["environments"], row], "manifest": {"current": row["name"]}}
    return after


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"gpu": "none"},
        {"cuda_source": "wheels"},
        {"cuda_source": "found"},
        {"python": "3.8"},
        {"name": "mine"},
        {"name": "mine", "gpu": "none", "python": "3.9"},
    ],
    ids=str,
)
def test_current_is_planned_as_it_was_applied(node: dict[str, Any], wish: dict[str, Any]) -> None:
    for path, minor in (("/usr/bin/python3.8", "3.8"), ("/usr/bin/python3.9", "3.9")):
        python = {"version": f"{minor}.2", "minor": minor, "path": path, "origin": "system", "public": True}
        node["pythons"].append({**python, "ensurepip": True, "distutils": True})
    after = apply(node, **wish)
    (row,) = after["environments"]
    made = make_plan(after)
    assert made["environment"]["digest"] == row["digest"]
    assert (made["environment"]["name"], made["python"]["path"]) == (row["name"], row["python"]["path"])
    assert made["lock"]["state"] == "applied"
    assert made["lock"]["path"] == f"{node['environments_root']['path']}/.builds/{row['build']}/lock.txt"
    assert "tensorflow_lock" not in made["roles"]
    assert made["steps"][-1]["action"] == made["steps"][-2]["action"] == "keep"


def test_current_of_a_requirements_file_needs_no_file(node: dict[str, Any]) -> None:
    after = apply(node)
    after["environments"][0].update(lock_sha256="f" * 64, requirements=FILE)
    made = make_plan(after)
    assert (made["lock"]["state"], made["lock"]["requirements"], made["refusals"]) == ("applied", "/home/me/a.txt", [])


def test_current_of_a_name_is_that_environments(node: dict[str, Any]) -> None:
    after = apply(apply(node, release="2.10.1"), release="2.11.1")
    made = make_plan(after, environment="tensorflow-2.10.1")
    assert (made["release"], made["environment"]["name"]) == ("2.10.1", "tensorflow-2.10.1")
    with pytest.raises(StackError, match=r"no environment mine below .*; there are: tensorflow-2\.10\.1, tensorf"):
        make_plan(after, environment="mine")


def test_what_the_inventory_says_beats_what_was_applied(node: dict[str, Any]) -> None:
    after = apply(node, cuda_source="wheels")
    assert make_plan(after)["flavour"] == "cuda"
    assert make_plan(after, gpu="none")["flavour"] == "cpu"
    after["environments"][0]["requirements"] = FILE
    with pytest.raises(StackError, match=r"was applied with /home/me/a\.txt.*Set tensorflow_requirements to that file"):
        make_plan(after, gpu="none")


def test_an_environment_of_a_gpu_that_is_gone_is_no_cpu_environment(node: dict[str, Any]) -> None:
    after = apply(node)
    after["gpus"] = []
    (refusal,) = make_plan(after)["refusals"]
    assert "wanted the GPU that tensorflow-2.10.1 was built for; found no NVIDIA GPU" in refusal["message"]


def test_a_cpu_environment_on_a_node_with_a_gpu_is_said(node: dict[str, Any]) -> None:
    made = make_plan(apply(node, gpu="none"))
    assert any("was built for the CPU, and this node has a GPU" in warning for warning in made["warnings"])


def test_a_plan_that_would_lose_additions_is_refused_before_anything_starts(node: dict[str, Any]) -> None:
    after = apply(node)
    after["environments"][0]["additions"] = [dict(PANDAS._asdict())]
    assert make_plan(after, "2.10.1")["steps"][-1]["action"] == "keep"
    (refusal,) = make_plan(after, "2.10.1", gpu="none", additions="stop")["refusals"]
    assert "a new build would lose: pandas 2.3.3" in refusal["message"]
    assert "Set tensorflow_additions to keep" in refusal["message"]
    assert "set tensorflow_additions to drop" in refusal["message"]
    assert len(refusal["message"].splitlines()) == 1
    assert make_plan(after, "2.10.1", gpu="none", additions="drop")["steps"][-1]["action"] == "change"
    assert make_plan(after, "2.10.1", gpu="none", environment="beside")["steps"][-1]["action"] == "install"


@pytest.fixture
def row() -> dict[str, Any]:
    return nodes.environment(
        "tensorflow-2.10.1",
        digest="a",
        packages={"numpy": "1.23.5"},
        requirements=copy.deepcopy(ALONE),
        additions=[dict(PANDAS._asdict())],
    )


def lock_state(
    state: str = "ready", packages: dict[str, str] | None = None, requirements: str | None = None
) -> LockState:
    lock = None
    if packages is not None:
        lock = make_lock(release="2.10.1", python="3.10")
        distributions = tuple(Distribution(name, version, ("0" * 64,), 1) for name, version in packages.items())
        lock = dataclasses.replace(lock, distributions=distributions)
    return LockState("/locks/x.txt", "/locks", state, lock, requirements)


def losses(
    row: dict[str, Any],
    lock: LockState,
    *,
    digest: str | None = "b",
    is_named: bool = False,
    lines: tuple[str, ...] = (),
    is_same_file: bool = False,
) -> Any:
    environment = {"path": "/opt/tensorflow/tensorflow-2.10.1", "digest": digest}
    refusals, warnings = applied.find_losses(
        Environment.read(row),
        environment=environment,
        lock=lock,
        claim=applied.Claim(is_named, lock.requirements, frozenset(lines), is_same_file),
        supplied={"tensorflow", "tensorboard"},
    )
    return [refusal.message for refusal in refusals], list(warnings)


def test_additions_are_lost_where_the_next_lock_is_without_them(row: dict[str, Any]) -> None:
    assert losses(row, lock_state(packages={"pandas": "2.3.3"})) == ([], [])
    messages, _ = losses(row, lock_state(packages={"numpy": "1.23.5"}))
    assert ["lose: pandas 2.3.3" in message for message in messages] == [True]
    row["also_in"] = ["b"]
    assert losses(row, lock_state(packages={"numpy": "1.23.5"})) == ([], []), "switched to, and there as well"


def test_additions_are_lost_where_the_same_build_has_to_be_mended(row: dict[str, Any]) -> None:
    assert losses(row, lock_state(packages={"numpy": "1.23.5"}), digest="a") == ([], [])
    row["damage"] = ["numpy: numpy/version.py was changed"]
    messages, _ = losses(row, lock_state(packages={"numpy": "1.23.5"}), digest="a")
    assert ["it is damaged and must be repaired" in message for message in messages] == [True]


def test_a_lock_that_is_still_to_be_made_is_waited_for_unless_it_cannot_help(row: dict[str, Any]) -> None:
    lock = lock_state("missing", requirements="/home/me/new.txt")
    row["requirements"] = FILE
    messages, (warning,) = losses(row, lock, digest=None, is_same_file=True)
    assert messages == [] and "pandas 2.3.3. The run stops before it builds if the lock" in warning
    row["additions"] = [dict(Addition("mine.pth")._asdict())]
    messages, warnings = losses(row, lock, digest=None, is_same_file=True)
    assert ["lose: mine.pth" in message for message in messages] == [True] and warnings == []


@pytest.mark.parametrize(
    ("before", "now", "is_named", "is_refused"),
    [
        (FILE, None, False, True),
        (FILE, None, True, True),
        (FILE, "/home/me/b.txt", False, True),
        (FILE, "/home/me/b.txt", True, False),
        (ALONE, "/home/me/b.txt", False, False),
        (ALONE, None, False, False),
        # Of a build of an earlier version of the toolkit the lines of its lock are known.
        (UNRECORDED, None, False, True),
        (UNRECORDED, "/home/me/b.txt", False, False),
        (
            {**UNRECORDED, "lines": ["nvidia-cudnn-cu11==8.6", "tensorboard>=2", "tensorflow==2.10.1"]},
            None,
            False,
            False,
        ),
    ],
)
def test_a_name_is_not_taken_over_from_another_requirements_file(
    row: dict[str, Any], before: dict[str, Any], now: str | None, is_named: bool, is_refused: bool
) -> None:
    row.update(additions=[], requirements=before)
    messages, _ = losses(row, lock_state(packages={}, requirements=now), is_named=is_named)
    assert len(messages) == is_refused
    if messages:
        assert "(numpy==1.23.5)" in messages[0] and "tensorflow_environment to a name for the new one" in messages[0]
        assert (before["path"] or "a requirements file") in messages[0]


NEW_LINES = ("tensorflow==2.10.1", "numpy==1.23.5", "scipy")


@pytest.mark.parametrize(
    ("lines", "is_same_file", "is_refused"),
    [
        (NEW_LINES, True, False),
        (NEW_LINES[:2], False, False),
        (("numpy==1.23.5",), False, False),
        (NEW_LINES, False, True),
        (NEW_LINES[:1], False, True),
    ],
    ids=["edited", "moved", "moved, without TensorFlow's line", "moved and edited", "another one with less"],
)
def test_a_file_that_was_moved_is_the_same_while_it_has_the_same_lines(
    row: dict[str, Any], lines: tuple[str, ...], is_same_file: bool, is_refused: bool
) -> None:
    row.update(additions=[], requirements=FILE)
    lock = lock_state(packages={}, requirements="/home/me/b.txt")
    messages, _ = losses(row, lock, lines=lines, is_same_file=is_same_file)
    assert len(messages) == is_refused
    if messages:
        assert messages[0].endswith(
            "Set tensorflow_requirements to that file, tensorflow_environment to a name for the new one, or to "
            "tensorflow-2.10.1 if the new file shall replace what is in it."
        )


def test_a_file_that_adds_to_a_release_alone_is_warned_of(row: dict[str, Any]) -> None:
    row.update(additions=[], requirements=ALONE)
    lock = lock_state(packages={}, requirements="/home/me/b.txt")
    messages, (warning,) = losses(row, lock)
    assert messages == []
    assert "was applied for the release alone, and will be that of /home/me/b.txt. To have both, set" in warning
    assert losses(row, lock, is_named=True) == ([], [])
    assert losses(row, lock, digest="a") == ([], [])


@pytest.mark.parametrize("way", ["relative", "symbolic link", "link to the directory", "other"])
def test_one_file_by_another_path(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    file = tmp_path / "project" / "requirements.txt"
    file.parent.mkdir()
    file.write_text("numpy==1.23.5\nsix\n")
    (tmp_path / "link.txt").symlink_to(file)
    (tmp_path / "directory").symlink_to(file.parent)
    (tmp_path / "other.txt").write_text("numpy==1.23.5\nsix\n")
    monkeypatch.chdir(file.parent)
    after = apply(node, release="2.10.1")
    after["environments"][0]["requirements"] = {**FILE, "path": str(file)}
    path = {
        "relative": "requirements.txt",
        "symbolic link": str(tmp_path / "link.txt"),
        "link to the directory": str(tmp_path / "directory" / file.name),
        "other": str(tmp_path / "other.txt"),
    }[way]
    options = {"release": "2.10.1", "requirements": path, "environment": None, "policy": {}, "node": after}
    places = {"tables": str(RELEASE_FILES / "tables"), "shipped_locks": str(RELEASE_FILES / "locks")}
    result, failed = door.answer({**options, **places, "locks": "/nowhere", "enforced": True})
    if way == "other":
        assert failed is not None and f"was applied with {file} (numpy==1.23.5)" in failed
    else:
        assert failed is None
        assert os.path.isabs(result["plan"]["lock"]["requirements"])


def test_the_variables_that_were_set_are_in_the_plan(node: dict[str, Any]) -> None:
    assert make_plan(node, "2.10.1")["asked"] == {"tensorflow_version": "2.10.1"}
    asked = make_plan(node, "2.10.1", environment="mine", gpu="none", cuda_source="auto", python="3.10")["asked"]
    assert asked == {
        "tensorflow_version": "2.10.1",
        "tensorflow_environment": "mine",
        "tensorflow_gpu": "none",
        "tensorflow_python": "3.10",
    }


def test_the_same_lock_takes_nothing_over(row: dict[str, Any]) -> None:
    row.update(additions=[], requirements=FILE)
    assert losses(row, lock_state(packages={}, requirements="/home/me/b.txt"), digest="a") == ([], [])
