"""A root that an earlier version of this toolkit made: nothing of it is lost, and a first run adds what is new."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import going_back, in_use
from ansible.module_utils.tensorflow_stack.environment.history_table import tell_history
from ansible.module_utils.tensorflow_stack.errors import BuildError
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.records import build, manifest

from tests.component.environment.test_going_back import Machine

ROOTS = Path(__file__).resolve().parents[2] / "data" / "roots"
FIRST, LAST = "tensorflow-2.8.0", "tensorflow-2.9.3"


@pytest.fixture
def earlier(tmp_path: Path, uv: str) -> Machine:
    """Built here, since a venv is of one machine; with the manifest and the records in the shape of then."""
    machine = Machine(tmp_path, uv)
    texts = {name: (ROOTS / name).read_text() for name in ("manifest.json", "build.json")}
    names = [machine.run(FIRST), machine.run(FIRST, "1.24.0"), machine.run(LAST)]
    content = json.loads(texts["manifest.json"])
    new = manifest.read(machine.root)["environments"]
    then = [*content["environments"][FIRST]["builds"], *content["environments"][LAST]["builds"]]
    text = texts["manifest.json"]
    for before, now in zip(then, names):
        text = text.replace(before, now)
    content = json.loads(text)
    for name, entry in content["environments"].items():
        entry.update({key: new[name][key] for key in ("digest", "lock_sha256", "python")})
    keys = json.loads(texts["build.json"]).keys()
    for name in names:
        path = Path(machine.root, ".builds", name, "build.json")
        path.write_text(json.dumps({key: json.loads(path.read_text())[key] for key in keys}))
    Path(machine.root, "current").unlink()
    Path(machine.root, "manifest.json").write_text(json.dumps(content))
    return machine


def row_of(machine: Machine, name: str) -> dict[str, Any]:
    return next(row for row in read_node(environments_root=machine.root)["environments"] if row["name"] == name)


def test_the_files_of_then_are_read() -> None:
    assert manifest.find_misfit(json.loads((ROOTS / "manifest.json").read_text())) is None
    assert build.find_misfits(json.loads((ROOTS / "build.json").read_text())) == []


def test_it_is_planned_and_verified_as_it_was_applied(earlier: Machine) -> None:
    before = sorted(os.listdir(earlier.root))
    node = read_node(environments_root=earlier.root)
    assert node["manifest"]["current"] == LAST
    assert row_of(earlier, LAST)["damage"] == []
    assert row_of(earlier, FIRST)["requirements"]["path"] == "/home/me/requirements.txt"
    assert node["manifest"]["environments"][FIRST]["check"]["verdict"] == "cpu_only_no_gpu"
    told = tell_history(earlier.root)
    assert [entry["action"] for entry in told["history"]] == ["found"]
    assert sorted(os.listdir(earlier.root)) == before, "reading adds nothing"


def test_the_first_run_adds_what_is_new_and_the_second_nothing(earlier: Machine) -> None:
    assert row_of(earlier, LAST)["unfinished"] != []
    live = earlier.run(LAST)
    assert earlier.stable == live
    assert earlier.told == [f"found {live}"]
    assert row_of(earlier, LAST)["unfinished"] == []
    before = os.lstat(Path(earlier.root, "manifest.json"))
    earlier.run(LAST)
    assert os.lstat(Path(earlier.root, "manifest.json")).st_ino == before.st_ino
    entry = manifest.read(earlier.root)["environments"][FIRST]
    assert entry["check"]["verdict"] == "cpu_only_no_gpu" and len(entry["requirements"]) == 2


def test_a_rollback_follows_the_times_of_the_builds(earlier: Machine) -> None:
    """There is no history yet."""
    first, second = manifest.read(earlier.root)["environments"][FIRST]["builds"]
    last = earlier.run(LAST)
    assert going_back.plan_previous(earlier.root, FIRST).build == first
    assert [earlier.back().build, earlier.back().build] == [second, first]
    assert earlier.stable == first
    with pytest.raises(BuildError, match="There is nothing below .* to roll back to"):
        going_back.plan_previous(earlier.root)
    assert earlier.run(LAST) == last


def test_it_is_removed(earlier: Machine) -> None:
    earlier.remove(LAST)
    assert in_use.find_position(earlier.root, manifest.read(earlier.root)) is None
    earlier.remove(FIRST)
    assert manifest.read(earlier.root)["environments"] == {}
    assert [name for name in os.listdir(earlier.root) if not name.startswith(".")] == ["manifest.json"]
