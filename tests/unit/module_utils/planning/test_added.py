"""What an environment has beside its release, in the plan: recorded requirements, and additions that are carried."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.locking.added import added_inputs_sha256, added_path
from ansible.module_utils.tensorflow_stack.planning import door
from ansible.module_utils.tensorflow_stack.records.additions import Addition
from ansible.module_utils.tensorflow_stack.records.environment import environment_digest
from ansible.module_utils.tensorflow_stack.records.lockfile import Lock, read_lock, write_lock

from tests import nodes
from tests.unit.module_utils.planning.test_applied import apply
from tests.unit.module_utils.planning.test_plan import RELEASE_FILES, SCHEMA

NAME = "tensorflow-2.10.1"
PANDAS = Addition("pandas", "2.3.3", listing="1" * 64)
PYTZ = Addition("pytz", "2026.2", is_required=True)
OTHER_PYTHON = {"python": "3.9"}


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    """A node on which 2.10.1 was applied for the CPU."""
    bare = {**nodes.read("a100_driver535", tmp_path), "environments": [], "manifest": None}
    after = apply(bare, gpu="none")
    after["environments"][0]["damage"] = []
    return after


def put(node: dict[str, Any], *additions: Addition, **row: Any) -> dict[str, Any]:
    node["environments"][0].update(additions=[dict(addition._asdict()) for addition in additions], **row)
    return node


def make_plan(node: dict[str, Any], locks: Path, release: str = "2.10.1", **wish: Any) -> dict[str, Any]:
    names = ("requirements_path", "environment")
    given = {name: wish.pop(name, None) for name in names}
    given.update({name: wish.pop(name) for name in ("packages", "packages_removed") if name in wish})
    made: dict[str, Any] = door.plan_for(
        release=release,
        node=copy.deepcopy(node),
        policy={"gpu": "none", **wish},
        tables_directory=str(RELEASE_FILES / "tables"),
        shipped_locks=str(RELEASE_FILES / "locks"),
        locks=str(locks),
        today="2026-11-22",
        **given,
    )["plan"]
    SCHEMA.validate(made)
    return made


def base_lock(minor: str = "cp310") -> Lock:
    lock = read_lock(str(RELEASE_FILES / "locks" / NAME / f"{minor}-linux_x86_64-cpu.txt"))
    assert lock is not None
    return lock


def extended(*lines: str, base: Lock | None = None, **packages: str) -> Lock:
    base = base or base_lock()
    distributions = [row for row in base.distributions if row.name not in packages]
    distributions += [dataclasses.replace(base.distributions[0], name=n, version=v) for n, v in packages.items()]
    return dataclasses.replace(
        base,
        distributions=tuple(sorted(distributions, key=lambda row: row.name)),
        inputs_sha256=added_inputs_sha256(base, lines),
        added=lines,
    )


def apply_added(node: dict[str, Any], lock: Lock) -> dict[str, Any]:
    """The node with a build of that lock."""
    row = node["environments"][0]
    digest = environment_digest(
        lock_sha256=lock.sha256, python=row["python"]["path"], library_directories=(), added=lock.added
    )
    row.update(digest=digest, lock_sha256=lock.sha256, packages=lock.packages, added=list(lock.added))
    row["requirements"]["inputs_sha256"] = lock.inputs_sha256
    return node


# --- Carried -------------------------------------------------------------------------------------------


def test_while_the_lock_is_whole_nothing_is_carried(node: dict[str, Any], locks: Path) -> None:
    made = make_plan(put(node, PANDAS), locks)
    assert (made["steps"][-1]["action"], made["lock"]["added"], made["roles"]) == ("keep", None, [])


def test_another_python_carries(node: dict[str, Any], locks: Path) -> None:
    made = make_plan(put(node, PANDAS, PYTZ), locks, **OTHER_PYTHON)
    assert made["roles"][0] == "tensorflow_lock"
    assert made["environment"]["digest"] is None
    added = made["lock"]["added"]
    assert (added["lines"], added["pins"]) == (["pandas==2.3.3"], ["pytz==2026.2"])
    assert added["listings"] == {"pandas": "1" * 64}
    assert added["base"] == str(RELEASE_FILES / "locks" / NAME / "cp39-linux_x86_64-cpu.txt")
    assert added["to"] == f"/opt/tensorflow/{NAME}"
    assert {"pandas": "2.3.3", "pytz": "2026.2"}.items() <= added["versions"].items()
    assert [warning for warning in made["warnings"] if "Somebody added" in warning] == [
        f"Somebody added to /opt/tensorflow/{NAME}: pandas==2.3.3, pytz==2026.2. The new build has the same versions, "
        "or the run stops before it changes anything."
    ]


def test_a_lock_that_was_made_for_it_is_taken_unless_it_has_other_versions(node: dict[str, Any], locks: Path) -> None:
    base = base_lock("cp39")
    path = added_path(str(locks), base, ["pandas==2.3.3"])
    write_lock(path, extended("pandas==2.3.3", base=base, pandas="2.3.3", pytz="2026.2"))
    made = make_plan(put(node, PANDAS, PYTZ), locks, **OTHER_PYTHON)
    assert (made["lock"]["path"], made["lock"]["state"], made["lock"]["added"]) == (path, "ready", None)
    write_lock(path, extended("pandas==2.3.3", base=base, pandas="2.3.3", pytz="2026.1"))
    made = make_plan(put(node, PANDAS, PYTZ), locks, **OTHER_PYTHON)
    assert (made["lock"]["path"], made["lock"]["state"]) == (path, "missing")


def test_a_lock_that_is_spoiled_is_made_again(node: dict[str, Any], locks: Path) -> None:
    path = Path(added_path(str(locks), base_lock("cp39"), ["pandas==2.3.3"]))
    path.parent.mkdir(parents=True)
    path.write_text("half a lo")
    made = make_plan(put(node, PANDAS), locks, **OTHER_PYTHON)
    assert (made["lock"]["path"], made["lock"]["state"]) == (str(path), "missing")


def test_damage_carries_and_so_does_current(node: dict[str, Any], locks: Path) -> None:
    put(node, PANDAS, damage=["numpy: numpy/version.py was changed"])
    for release in ("2.10.1", "current"):
        made = make_plan(node, locks, release)
        assert made["lock"]["added"]["lines"] == ["pandas==2.3.3"], release


def test_a_replaced_package_is_carried_at_its_version(node: dict[str, Any], locks: Path) -> None:
    replaced = Addition("numpy", "1.23.4", base_lock().packages["numpy"])
    made = make_plan(put(node, replaced), locks, **OTHER_PYTHON)
    assert made["lock"]["added"]["lines"] == ["numpy==1.23.4"]


def test_what_the_new_lock_has_by_itself_is_not_carried(node: dict[str, Any], locks: Path) -> None:
    made = make_plan(put(node, Addition("wheel", "0.1")), locks, **OTHER_PYTHON)
    assert (made["lock"]["added"], made["steps"][-1]["action"]) == (None, "change")


@pytest.mark.parametrize(
    ("addition", "reason"),
    [
        (Addition("mine.pth"), r"mine.pth \(no package\)"),
        (
            Addition("mine", "0.1", None, "git+https://e.org/mine"),
            r"mine 0.1 \(from git\+https://e.org/mine; the index.s mine may be",
        ),
        # The lock has one of that name.
        (
            Addition("wheel", "0.1", None, "file:///wheel"),
            r"wheel 0.1 \(from file:///wheel; the index.s wheel may be another",
        ),
        (Addition("tensorflow", "2.11.0", "2.10.1"), "not 2.10.1 .TensorFlow itself"),
        (Addition("tensorflow-cpu", "2.11.0"), "tensorflow-cpu 2.11.0 .TensorFlow itself"),
        (Addition("mine", "0.1 \\udcff"), "a version that no package index has"),
    ],
)
def test_what_cannot_be_carried_is_named_with_its_reason(
    node: dict[str, Any], locks: Path, addition: Addition, reason: str
) -> None:
    put(node, PANDAS, addition)
    (refusal,) = make_plan(node, locks, **OTHER_PYTHON)["refusals"]
    assert re.search(reason, refusal["message"]), refusal["message"]
    assert "pandas" not in refusal["found"] and "set tensorflow_additions to drop" in refusal["set"]
    assert make_plan(node, locks, additions="drop", **OTHER_PYTHON)["refusals"] == []


# --- Recorded ------------------------------------------------------------------------------------------


def test_what_was_recorded_is_kept_and_the_second_run_changes_nothing(node: dict[str, Any], locks: Path) -> None:
    lock = extended("pandas<3", pandas="2.3.3")
    apply_added(node, lock)
    for policy in ("keep", "stop", "drop"):
        for is_on_disk in (False, True):
            if is_on_disk:
                write_lock(added_path(str(locks), base_lock(), ["pandas<3"]), lock)
            made = make_plan(node, locks, additions=policy)
            assert (made["steps"][-1]["action"], made["roles"]) == ("keep", []), (policy, is_on_disk)
            assert made["lock"]["state"] == "applied"


def test_another_lock_of_the_release_is_locked_again_with_it(node: dict[str, Any], locks: Path) -> None:
    """As after an update of the toolkit."""
    apply_added(node, extended("pandas<3", pandas="2.3.3"))
    base = dataclasses.replace(base_lock(), distributions=base_lock().distributions[1:])
    write_lock(str(locks / NAME / "cp310-linux_x86_64-cpu.txt"), base)
    made = make_plan(node, locks, additions="stop")
    added = made["lock"]["added"]
    assert (made["lock"]["state"], added["lines"], added["pins"]) == ("missing", ["pandas<3"], [])
    assert added["versions"]["pandas"] == "2.3.3"
    assert added["base"] == str(locks / NAME / "cp310-linux_x86_64-cpu.txt")


def test_two_nodes_with_other_versions_keep_their_own(node: dict[str, Any], locks: Path) -> None:
    write_lock(added_path(str(locks), base_lock(), ["pandas<3"]), extended("pandas<3", pandas="2.3.4"))
    made = make_plan(apply_added(node, extended("pandas<3", pandas="2.3.3")), locks)
    assert made["steps"][-1]["action"] == "keep"


# --- make add ------------------------------------------------------------------------------------------


def test_add(node: dict[str, Any], locks: Path) -> None:
    for release in ("current", "newest", "2.10.1"):
        made = make_plan(node, locks, release, packages="pandas<3 ipykernel")
        assert made["environment"]["name"] == NAME
        assert made["lock"]["added"]["lines"] == ["ipykernel", "pandas<3"]
        assert made["steps"][-1]["action"] == "change"


def test_add_to_what_was_recorded_and_to_what_was_installed_by_hand(node: dict[str, Any], locks: Path) -> None:
    apply_added(node, extended("pandas<3", pandas="2.3.3"))
    put(node, Addition("scipy", "1.14.0"), Addition("ipython", "9.0"))
    made = make_plan(node, locks, packages="scipy>=1.15 ipykernel pandas")
    assert made["lock"]["added"]["lines"] == ["ipykernel", "ipython==9.0", "pandas<3", "scipy>=1.15"]
    stopped = make_plan(node, locks, packages="scipy", additions="stop")
    assert any("ipython 9.0. The run stops before it builds" in warning for warning in stopped["warnings"])


def test_the_same_again_changes_nothing(node: dict[str, Any], locks: Path) -> None:
    apply_added(node, extended("ipykernel", "pandas<3", ipykernel="7.0", pandas="2.3.3"))
    for packages in ("pandas<3", "pandas", "ipykernel pandas"):
        made = make_plan(node, locks, packages=packages)
        assert (made["steps"][-1]["action"], made["roles"]) == ("keep", [])


def test_take_out(node: dict[str, Any], locks: Path) -> None:
    apply_added(node, extended("ipykernel", "pandas<3", ipykernel="7.0", pandas="2.3.3"))
    assert make_plan(node, locks, packages_removed="pandas")["lock"]["added"]["lines"] == ["ipykernel"]
    made = make_plan(node, locks, packages_removed="pandas ipykernel")
    assert (made["lock"]["state"], made["lock"]["added"], made["steps"][-1]["action"]) == ("ready", None, "change")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"packages_removed": "numpy"}, "numpy is not among what make add recorded for tensorflow-2.10.1: pandas<3"),
        ({"packages_removed": "scipy"}, "scipy was installed by hand: uv pip uninstall takes it out"),
        ({"packages_removed": "pandas", "packages": "pandas"}, "pandas would be added and taken out"),
        ({"packages": "x", "environment": "mine"}, "There is no environment mine below /opt/tensorflow"),
        ({"packages": "x", "release": "2.8.0"}, "There is no environment tensorflow-2.8.0 below"),
    ],
)
def test_what_cannot_be_changed(node: dict[str, Any], locks: Path, wish: dict[str, Any], message: str) -> None:
    apply_added(put(node, Addition("scipy", "1.14.0")), extended("pandas<3", pandas="2.3.3"))
    with pytest.raises(StackError, match=message):
        make_plan(node, locks, **wish)


def test_the_file_that_it_was_applied_with_goes_into_the_lock(
    node: dict[str, Any], locks: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.txt"
    row = node["environments"][0]
    row["requirements"].update(path=str(path), lines=["scipy", "tensorflow==2.10.1"])
    with pytest.raises(
        StackError, match="was applied with .*mine.txt, which has to be read to lock it with what was added"
    ):
        make_plan(node, locks, packages="pandas")
    path.write_text("scipy\n")
    made = make_plan(node, locks, packages="pandas")
    assert (made["lock"]["requirements"], made["lock"]["added"]["base"]) == (str(path), None)
    assert made["lock"]["directory"] == str(tmp_path / "mine.locks")
    row["requirements"].update(path=None, is_recorded=False)
    with pytest.raises(StackError, match="did not record its path. Set tensorflow_requirements to it"):
        make_plan(node, locks, packages="pandas")
