"""What was in use, and going back to it, across environments: on real builds of small wheels."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import going_back, in_use, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.environment.builds import environment_names
from ansible.module_utils.tensorflow_stack.environment.changes import EnvironmentOutcome
from ansible.module_utils.tensorflow_stack.errors import BuildError
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.component.environment.test_venv import MINOR, Site
from tests.wheels import make_wheel

OLD, NEW = "tensorflow-2.15.1", "tensorflow-2.21.0"


class Machine(Site):
    """A site whose runs are recorded, as the module does."""

    def __init__(self, path: Path, uv: str) -> None:
        super().__init__(path, uv)
        self.numpys = {"1.23.5": self.numpy}

    def wish(self, name: str, numpy: str = "1.23.5") -> EnvironmentSpec:
        if numpy not in self.numpys:
            text = {"numpy/__init__.py": f"version = {numpy!r}\n"}
            self.numpys[numpy] = make_wheel(self.wheels, "numpy", numpy, text)
        return dataclasses.replace(self.spec(self.tensorflow, self.numpys[numpy]), name=name)

    def run(self, name: str, numpy: str = "1.23.5", **options: Any) -> str:
        outcome = self.apply(self.wish(name, numpy), **options)
        self.record(name, outcome)
        return str(outcome.build)

    def back(self, name: str | None = None) -> EnvironmentOutcome:
        planned = going_back.plan_previous(self.root, name)
        outcome = venv.apply_previous(self.root, name, lock_timeout=0)
        assert planned == outcome, "check mode says what is done"
        self.record(str(outcome.target), outcome)
        return outcome

    def remove(self, name: str) -> None:
        self.record(name, venv.apply_absent(self.root, name, lock_timeout=0))

    def record(self, name: str, outcome: EnvironmentOutcome) -> None:
        before = outcome.before.name if outcome.before else None
        record_in_manifest(self.root, name, Done(outcome.action, before, by="me@desk", walked_back=outcome.walked_back))
        entries = manifest.read(self.root)["history"]
        now = in_use.find_position(self.root, manifest.read(self.root))
        assert entries[-1]["after"] == (now and now._asdict()), "the history ends with what the links say"

    @property
    def told(self) -> list[str]:
        entries = manifest.read(self.root)["history"]
        return [f"{entry['action']} {entry['after'] and entry['after']['build']}" for entry in entries]

    @property
    def stable(self) -> str:
        """The build that the stable path leads to."""
        return os.path.basename(os.path.realpath(os.path.join(self.root, "current")))


@pytest.fixture
def machine(tmp_path: Path, uv: str) -> Machine:
    return Machine(tmp_path, uv)


def test_back_across_releases_and_on(machine: Machine) -> None:
    new = machine.run(NEW)
    old = machine.run(OLD)
    older = machine.run(OLD, "1.24.0")
    assert machine.stable == older
    outcome = machine.back()
    assert (outcome.target, outcome.build, machine.stable) == (OLD, old, old)
    outcome = machine.back()
    assert (outcome.target, outcome.build, machine.stable) == (NEW, new, new)
    assert os.readlink(os.path.join(machine.root, "current")) == NEW, (
        "relative: a root can be moved or mounted elsewhere"
    )
    with pytest.raises(BuildError, match=f"There is nothing below .* that was in use before {new}"):
        machine.back()
    assert machine.told == [
        f"build {new}",
        f"build {old}",
        f"build {older}",
        f"rollback {old}",
        f"rollback {new}",
    ]
    assert {entry["by"] for entry in manifest.read(machine.root)["history"]} == {"me@desk"}


def test_a_build_with_an_older_number_that_was_in_use_is_not_all_there_is(machine: Machine) -> None:
    """The numbers of builds say when they were built, and not when they were in use."""
    first = machine.run(OLD)
    second = machine.run(OLD, "1.24.0")
    assert machine.run(OLD) == first
    assert machine.back().build == second


def test_a_new_build_leaves_the_one_that_was_in_use_before_it(machine: Machine) -> None:
    first = machine.run(OLD)
    second = machine.run(OLD, "1.24.0")
    machine.back()
    third = machine.run(OLD, "1.25.0", keep=2)
    assert {path.name for path in Path(machine.root, ".builds").iterdir() if path.is_dir()} == {first, third}, second
    assert machine.back().build == first


def test_one_environment_that_is_named_goes_back_alone(machine: Machine) -> None:
    first = machine.run(OLD)
    machine.run(OLD, "1.24.0")
    new = machine.run(NEW)
    assert machine.back(OLD).build == first
    assert machine.stable == first, "it was applied last"
    with pytest.raises(BuildError, match=f"{OLD} has no build to roll back to that was in use before {first}"):
        machine.back(OLD)
    assert machine.back().build == new, "that was a change, too"


def test_what_cannot_be_used_is_passed_over_and_said(machine: Machine) -> None:
    first = machine.run(NEW)
    pruned = machine.run(OLD)
    damaged = machine.run(OLD, "1.24.0")
    machine.run(OLD, "1.25.0", keep=2)
    shutil.rmtree(Path(machine.root, ".builds", damaged, "lib", f"python{MINOR}", "site-packages"))
    outcome = machine.back()
    assert outcome.build == first
    assert outcome.passed_over[0].startswith(f"{damaged} (")
    assert outcome.passed_over[1] == f"{pruned} (was removed)"


def test_after_a_removal_there_is_no_stable_path_and_a_rollback_leads_on(machine: Machine) -> None:
    new = machine.run(NEW)
    old = machine.run(OLD)
    machine.remove(OLD)
    assert not os.path.lexists(os.path.join(machine.root, "current"))
    assert read_node(environments_root=machine.root)["manifest"]["current"] is None
    outcome = machine.back()
    assert (outcome.build, outcome.passed_over) == (new, (f"{old} (was removed)",))
    assert machine.stable == new


def test_after_a_removal_a_rollback_goes_even_to_what_an_earlier_one_left(machine: Machine) -> None:
    machine.run(NEW)
    old = machine.run(OLD)
    machine.back()
    machine.remove(NEW)
    assert machine.back().build == old


def test_the_removal_of_another_environment_changes_nothing_in_use(machine: Machine) -> None:
    machine.run(NEW)
    old = machine.run(OLD)
    machine.remove(NEW)
    assert machine.stable == old
    assert machine.told[-1] == f"remove {old}"


def test_the_stable_path_is_no_environment(machine: Machine) -> None:
    machine.run(OLD)
    assert environment_names(machine.root) == [OLD]
    node = read_node(environments_root=machine.root)
    assert [row["name"] for row in node["environments"]] == [OLD]
    assert [row for row in node["unread"] if row["fact"] == "environments"] == []
    with pytest.raises(BuildError, match="'current' is no name for an environment: .* none of current, manifest"):
        machine.run("current")
    with pytest.raises(BuildError, match="'current' is no name for an environment"):
        machine.remove("current")


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_what_somebody_else_made_at_the_stable_path_stays(machine: Machine, kind: str, tmp_path: Path) -> None:
    path = Path(machine.root, "current")
    path.parent.mkdir()
    {"directory": path.mkdir, "file": path.touch, "link": lambda: path.symlink_to("tensorflow-2.9.3")}[kind]()
    before = os.lstat(path)
    new, old = machine.run(NEW), machine.run(OLD)
    assert machine.back().build == new
    machine.remove(NEW)
    assert os.lstat(path).st_ino == before.st_ino
    assert in_use.is_others(machine.root, manifest.read(machine.root))
    assert machine.run(OLD) == old
    assert [line for line in read_node(environments_root=machine.root)["environments"][0]["unfinished"]] == []


def test_an_environment_of_that_name_that_an_earlier_version_made_stays_and_can_be_removed(machine: Machine) -> None:
    build = machine.run(OLD)
    os.unlink(Path(machine.root, "current"))
    manifest.update(machine.root, lambda content: content.pop("has_current_link"))
    theirs = Path(machine.root, ".builds", build.replace(OLD, "current"))
    shutil.copytree(Path(machine.root, ".builds", build), theirs, symlinks=True)
    Path(machine.root, "current").symlink_to(f".builds/{theirs.name}")
    machine.run(NEW)
    assert environment_names(machine.root) == ["current", OLD, NEW]
    assert os.readlink(Path(machine.root, "current")) == f".builds/{theirs.name}"
    machine.remove("current")
    machine.run(OLD)
    assert os.readlink(Path(machine.root, "current")) == OLD


def test_the_link_that_a_person_set_counts(machine: Machine) -> None:
    new = machine.run(NEW)
    old = machine.run(OLD)
    path = Path(machine.root, "current")
    path.unlink()
    path.symlink_to(NEW)
    assert read_node(environments_root=machine.root)["manifest"]["current"] == NEW
    assert machine.back().build == old
    assert machine.told == [f"build {new}", f"build {old}", f"found {new}", f"rollback {old}"]


def test_what_an_earlier_version_applied_counts(machine: Machine) -> None:
    """It writes `current` of the manifest, and neither link nor history."""
    new = machine.run(NEW)
    old = machine.run(OLD)
    manifest.update(machine.root, lambda content: content.update(current=NEW))
    assert read_node(environments_root=machine.root)["manifest"]["current"] == NEW
    assert machine.run(NEW) == new
    assert machine.stable == new
    assert machine.told == [f"build {new}", f"build {old}", f"found {new}"]


def test_a_run_that_was_killed_before_its_record_is_found_by_the_next(machine: Machine) -> None:
    first = machine.run(OLD)
    second = str(machine.apply(machine.wish(OLD, "1.24.0")).build)
    assert going_back.plan_previous(machine.root).build == first
    machine.run(OLD, "1.24.0")
    assert machine.told == [f"build {first}", f"found {second}"]


def test_another_run_in_between_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.run(NEW)
    machine.run(OLD)
    plan = venv.plan_previous
    targets = iter([NEW, OLD])
    monkeypatch.setattr(venv, "plan_previous", lambda *given: dataclasses.replace(plan(*given), target=next(targets)))
    with pytest.raises(Exception, match="Another run changed what is in use below .*; nothing was rolled back"):
        venv.apply_previous(machine.root, None, lock_timeout=0)


def test_nothing_was_applied_yet(machine: Machine) -> None:
    os.makedirs(machine.root)
    with pytest.raises(BuildError, match="Nothing was applied below .* yet, so there is nothing to roll back to"):
        going_back.plan_previous(machine.root)
