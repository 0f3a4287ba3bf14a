"""Parts of workstation.yml by --tags: what each does alone, and what it says if it lacks what it needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, Site

pytestmark = pytest.mark.integration
PARTS = {"plan", "driver", "cuda", "environment", "check"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.slow  # The other tests run each of them.
def test_the_tags_are_listed() -> None:
    command = [str(ANSIBLE_PLAYBOOK), "--list-tags", "playbooks/workstation.yml"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    (listed,) = re.findall(r"TASK TAGS: \[(.*)\]", done.stdout)
    assert set(listed.split(", ")) - {"always", "never"} == PARTS


def test_a_part_is_refused_that_needs_another_one_first(site: Site) -> None:
    run = site.play("workstation", "--tags", "check", tensorflow_version="2.15.1", tensorflow_gpu="none")
    said = " ".join(run.output.split())
    assert run.code == 2
    assert "--tags check leaves out environment, which this plan installs or changes first. Nothing was done." in said
    assert "with --tags check,environment." in said
    assert not site.root.exists()


@pytest.mark.slow  # a second plan
def test_parts_that_have_nothing_to_do_say_what_is_left(site: Site) -> None:
    run = site.play("workstation", "--tags", "plan,driver,cuda", tensorflow_version="2.15.1", tensorflow_gpu="none")
    said = " ".join(run.output.split())
    assert run.code == 0, said
    assert "component installed wanted action" in said
    assert "Only plan, driver, cuda of this playbook ran (--tags), so nothing was proven." in said
    assert "The plan of this run had also environment: run the playbook without --tags." in said
    assert not site.root.exists()


@pytest.mark.slow  # builds with real TensorFlow
def test_an_environment_is_built_and_then_checked(site: Site) -> None:
    variables = {"tensorflow_version": "2.15.1", "tensorflow_gpu": "none"}
    built = site.play("workstation", "--tags", "environment", **variables)
    assert built.code == 0, built.output
    assert "so nothing was proven" in " ".join(built.output.split())
    assert built.report["check"] is None
    checked = site.play("workstation", "--tags", "check", **variables)
    assert checked.code == 0, checked.output
    assert checked.report["check"]["verdict"] == "cpu_only_no_gpu"
