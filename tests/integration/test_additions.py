"""What a person put into an environment, by the playbooks: kept, named, and compared with what was applied.

With a double of TensorFlow in small wheels, of which the check asks for the libraries alone, and with
tensorflow_additions=stop; test_added.py is about keep. One machine's story in order: each test goes on from what the
one before left.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, directory_beside, lock_inputs
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution, write_lock
from ansible.module_utils.tensorflow_stack.requirements.parse import read_requirements
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests.integration.test_classic_cases import REPORT_SCHEMA
from tests.playbooks import REPOSITORY, Run, Site
from tests.wheels import make_lock, make_tensorflow, make_wheel

pytestmark = pytest.mark.integration

TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"
MINOR = "%d.%d" % sys.version_info[:2]
RELEASE = {"3.10": "2.17.1", "3.11": "2.17.1", "3.12": "2.17.1", "3.13": "2.21.0"}.get(MINOR)
NAME = f"tensorflow-{RELEASE}"


class Machine:
    """A site whose index is a directory of wheels, with the locks that are made from it."""

    def __init__(self, path: Path, uv: str) -> None:
        self.site = Site(path)
        self.wheels = path / "wheels"
        self.wheels.mkdir()
        self.uv = uv
        self.tensorflow = make_tensorflow(self.wheels, str(RELEASE))
        self.numpy = make_wheel(self.wheels, "numpy", "1.26.4", {"numpy/__init__.py": ""})
        self.pandas = make_wheel(self.wheels, "pandas", "2.3.3", {"pandas/__init__.py": ""})
        self.scipy = make_wheel(self.wheels, "scipy", "1.14.0", {"scipy/__init__.py": ""})
        tools = self.site.root / ".tools" / Path(uv).parent.name
        tools.parent.mkdir(parents=True)
        shutil.copytree(Path(uv).parent, tools)
        self.lock(None, self.tensorflow, self.numpy)

    def lock(self, requirements: Path | None, *distributions: Distribution) -> None:
        request = LockRequest(
            release=str(RELEASE),
            python=MINOR,
            platform="linux_x86_64",
            flavour="cpu",
            requirements=read_requirements(str(requirements)) if requirements else None,
        )
        inputs = lock_inputs(request, load_tables(str(TABLES)))
        lock = dataclasses.replace(
            make_lock(*distributions, release=str(RELEASE), python=MINOR),
            inputs_sha256=inputs.sha256,
            requirements=tuple(sorted({line.text for line in inputs.requirements})),
        )
        directory = directory_beside(str(requirements)) if requirements else str(self.site.locks)
        path = Path(request.path_in(directory))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lock(str(path), lock)

    def requirements(self, name: str, text: str, *distributions: Distribution) -> str:
        path = self.site.path / name
        path.write_text(text)
        self.lock(path, self.tensorflow, self.numpy, *distributions)
        return str(path)

    def play(self, playbook: str, *options: str, **variables: Any) -> Run:
        given = {"tensorflow_python": MINOR, "tensorflow_gpu": "none"} if playbook in ("workstation", "plan") else {}
        return self.site.play(
            playbook,
            *options,
            tensorflow_index_url=self.wheels.as_uri(),
            tensorflow_check_level="libraries",
            **{"tensorflow_additions": "stop", **given, **variables},
        )

    def install(self, *wishes: str) -> None:
        command = [self.uv, "pip", "install", "-q", "--python", self.site.root / NAME / "bin" / "python", "--no-index"]
        subprocess.run([*command, "--find-links", self.wheels, *wishes], check=True)

    @property
    def live(self) -> str:
        return os.readlink(self.site.root / NAME)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Machine:
    if RELEASE is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    return Machine(tmp_path_factory.mktemp("machine"), uv)


def said(run: Run) -> str:
    return " ".join(run.output.split())


def test_a_bare_verify_compares_with_the_requirements_file_that_was_applied(machine: Machine) -> None:
    mine = machine.requirements("mine.txt", "pandas\n", machine.pandas)
    run = machine.play("workstation", tensorflow_version=RELEASE, tensorflow_requirements=mine)
    assert run.code == 0, run.output
    os.unlink(mine)  # nor is the file needed
    verified = machine.play("verify")
    assert verified.code == 0, verified.output
    assert verified.changed == {"localhost": 0}


@pytest.mark.slow
def test_a_verify_of_the_release_alone_names_the_file_and_advises_nothing_that_deletes(machine: Machine) -> None:
    run = machine.play("verify", tensorflow_version=RELEASE, tensorflow_gpu="none", tensorflow_python=MINOR)
    assert run.code != 0
    assert f"it was applied with {machine.site.path}/mine.txt. Verify without variables compares" in said(run)
    assert "Run playbooks/workstation.yml" not in said(run)


def test_nothing_is_made_to_verify(machine: Machine) -> None:
    other = machine.site.path / "other.txt"
    other.write_text("scipy\n")
    run = machine.play("verify", tensorflow_version=RELEASE, tensorflow_requirements=str(other))
    assert run.code != 0
    cause = f"it was applied with {machine.site.path}/mine.txt, and the lock of the plan does not exist yet."
    assert f"is not as planned: {cause} Verify without variables compares with what was applied." in said(run)
    assert not (machine.site.path / "other.locks").exists()


@pytest.mark.parametrize("playbook", [pytest.param("plan", marks=pytest.mark.slow), "workstation"])
def test_the_release_alone_does_not_replace_it(machine: Machine, playbook: str) -> None:
    before = machine.live
    run = machine.play(playbook, tensorflow_version=RELEASE)
    # The screen may shorten an error; the report has it whole.
    message = said(run) + " ".join(str(run.report.get("error")).split())
    assert f"was applied with {machine.site.path}/mine.txt (pandas)" in message
    assert "set tensorflow_additions to drop" in message or "or tensorflow_additions to drop" in message
    assert machine.live == before
    if playbook == "workstation":
        assert run.code != 0
        jsonschema.validate(run.report, REPORT_SCHEMA)


@pytest.mark.slow
def test_a_second_file_does_not_take_the_name_over(machine: Machine) -> None:
    other = machine.requirements("other.txt", "scipy\n", machine.scipy)
    run = machine.play("workstation", tensorflow_version=RELEASE, tensorflow_requirements=other)
    assert run.code != 0
    message = " ".join(run.report["error"].split())  # the screen may shorten it
    assert f"wanted the same name for {other}; found {machine.site.root}/{NAME} was applied with" in message


def test_what_was_added_is_kept_and_named_by_every_playbook(machine: Machine) -> None:
    before = machine.live
    machine.install("scipy")
    mine = machine.requirements("mine.txt", "pandas\n", machine.pandas)
    wish = {"tensorflow_version": RELEASE, "tensorflow_requirements": mine}
    named = f"{NAME} has additions to its lock: scipy 1.14.0"
    run = machine.play("workstation", **wish)
    assert (run.code, run.changed) == (0, {"localhost": 0}), run.output
    assert named in said(run)
    assert (run.report["additions"], run.report["done"]["action"]) == (["scipy 1.14.0"], "keep")
    jsonschema.validate(run.report, REPORT_SCHEMA)
    for playbook, variables in (("workstation", {"tensorflow_version": "current"}), ("verify", {}), ("verify", wish)):
        options = ["--check"] if playbook == "workstation" else []
        run = machine.play(playbook, *options, **variables)
        assert run.code == 0, run.output
        assert named in said(run)
    assert run.report["additions"] == ["scipy 1.14.0"]
    assert machine.live == before


def test_a_lock_without_it_stops_before_anything_starts_and_drop_goes_on(machine: Machine) -> None:
    before = machine.live
    wish = {"tensorflow_version": RELEASE, "tensorflow_requirements": str(machine.site.path / "mine.txt")}
    machine.requirements("mine.txt", "pandas\nnumpy\n", machine.pandas)
    numpy = make_wheel(machine.wheels, "numpy", "1.26.5", {"numpy/__init__.py": "version = 5\n"})
    machine.lock(machine.site.path / "mine.txt", machine.tensorflow, machine.pandas, numpy)
    planned = machine.play("plan", **wish)
    assert "a new build would lose: scipy 1.14.0" in said(planned)
    for options in (["--check"], []):
        run = machine.play("workstation", *options, **wish)
        assert run.code != 0
        assert "a new build would lose: scipy 1.14.0" in said(run)
        assert run.counts["ok"] <= 2, "nothing before it ran"
    assert machine.live == before
    assert "a new build would lose: scipy 1.14.0" in " ".join(run.report["error"].split())
    dropped = machine.play("workstation", tensorflow_additions="drop", **wish)
    assert dropped.code == 0, dropped.output
    assert dropped.report["done"]["dropped"] == ["scipy 1.14.0"]
    jsonschema.validate(dropped.report, REPORT_SCHEMA)


def test_a_bare_rollback_goes_to_the_build_with_what_was_added(machine: Machine) -> None:
    run = machine.play("rollback")
    assert run.changed == {"localhost": 1}, run.output
    assert run.report["additions"] == ["scipy 1.14.0"]
    verified = machine.play("verify")
    assert verified.code == 0, verified.output
    assert "has additions to its lock: scipy 1.14.0" in said(verified)


def test_damage_is_mended_by_what_verify_says_unless_that_would_lose_something(machine: Machine) -> None:
    pandas = machine.site.root / NAME / "lib" / f"python{MINOR}" / "site-packages" / "pandas" / "__init__.py"
    pandas.unlink()
    run = machine.play("verify")
    assert run.code != 0
    assert "pandas: pandas/__init__.py is missing. A new build would lose what somebody added to it: scipy" in said(run)
    assert "with tensorflow_additions=drop" in said(run)
    stopped = machine.play("workstation", tensorflow_version="current")
    assert stopped.code != 0 and "it is damaged and must be repaired" in said(stopped)
    mended = machine.play("workstation", tensorflow_version="current", tensorflow_additions="drop")
    assert mended.report["done"]["action"] == "repair", mended.output


@pytest.mark.slow
def test_damage_without_additions_is_mended_by_what_verify_says(machine: Machine) -> None:
    (machine.site.root / NAME / "lib" / f"python{MINOR}" / "site-packages" / "pandas" / "__init__.py").unlink()
    run = machine.play("verify")
    assert "pandas/__init__.py is missing. Run playbooks/workstation.yml with tensorflow_version=current." in said(run)
    assert machine.play("workstation", tensorflow_version="current").code == 0
    assert machine.play("verify").code == 0


@pytest.mark.slow
def test_a_manifest_of_an_earlier_version_is_verified_by_the_lock_in_the_build(machine: Machine) -> None:
    path = machine.site.root / "manifest.json"
    content = json.loads(path.read_text())
    del content["environments"][NAME]["requirements"]
    path.write_text(json.dumps(content))
    verified = machine.play("verify")
    assert verified.code == 0, verified.output
    refused = machine.play("workstation", tensorflow_version=RELEASE)
    assert refused.code != 0 and "was applied with a requirements file (pandas)" in said(refused)


def test_removal_says_what_goes(machine: Machine) -> None:
    machine.install("scipy")
    run = machine.play("remove", tensorflow_environment=NAME)
    assert run.code == 0, run.output
    assert f"{NAME} had additions to its lock: scipy 1.14.0" in said(run)
