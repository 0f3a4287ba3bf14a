"""Bad input at the playbooks: one clear message each, a report that says so, and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.integration.test_classic_cases import REPORT_SCHEMA
from tests.needs import python_of
from tests.playbooks import ANSIBLE_PLAYBOOK, LOCAL, REPOSITORY, Run, Site, run_playbook

pytestmark = pytest.mark.integration

FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
LOCK = "tensorflow-2.17.1/cp311-linux_x86_64-cpu.txt"
# A release for whatever Python this machine has: none is started, so a path does.
PYTHON = {"tensorflow_version": "2.17.1", "tensorflow_python": "3.11"}


def python_that_is_here() -> dict[str, Any]:
    """For what is refused only after the interpreter was looked at."""
    return {"tensorflow_version": "2.20.0", "tensorflow_python": python_of("3.9", "3.10", "3.11", "3.12", "3.13").minor}


def unknown_release(site: Site) -> dict[str, Any]:
    return {"tensorflow_version": "2.8.9"}


def no_wheel_for_any_python_here(site: Site) -> dict[str, Any]:
    return {"tensorflow_version": "2.4.4", "tensorflow_python": "3.12"}


def corrupt_lock(site: Site) -> dict[str, Any]:
    target = site.locks / LOCK
    target.parent.mkdir(parents=True)
    target.write_text("\n".join((FILES / "locks" / LOCK).read_text().splitlines()[:-2]) + "\n")
    return PYTHON


def lock_that_is_none(site: Site) -> dict[str, Any]:
    target = site.locks / LOCK
    target.parent.mkdir(parents=True)
    target.write_text("tensorflow==2.17.1\n")
    return PYTHON


def row_missing_a_field(site: Site) -> dict[str, Any]:
    tables = site.path / "tables"
    shutil.copytree(FILES / "tables", tables)
    content = yaml.safe_load((tables / "releases.yml").read_text())
    del content["rows"][-1]["cuda"]
    (tables / "releases.yml").write_text(yaml.safe_dump(content))
    return {**PYTHON, "tensorflow_release_tables": str(tables)}


def root_is_a_file(site: Site) -> dict[str, Any]:
    site.root.write_text("")
    return python_that_is_here()


def root_that_others_may_write(site: Site) -> dict[str, Any]:
    site.root.mkdir()
    site.root.chmod(0o777)
    return PYTHON


def something_else_at_the_path(site: Site) -> dict[str, Any]:
    wish = python_that_is_here()
    (site.root / f"tensorflow-{wish['tensorflow_version']}").mkdir(parents=True)
    return wish


def requirements_missing(site: Site) -> dict[str, Any]:
    return {"tensorflow_requirements": str(site.path / "nowhere.txt")}


def requirements_with_an_index(site: Site) -> dict[str, Any]:
    path = site.path / "mine.txt"
    path.write_text("tensorflow==2.17.1\n--extra-index-url https://example.org/simple\n")
    return {"tensorflow_requirements": str(path)}


def requirements_against_the_release(site: Site) -> dict[str, Any]:
    path = site.path / "mine.txt"
    path.write_text("tensorflow==2.16.2\n")
    return {**PYTHON, "tensorflow_requirements": str(path)}


def gpu_required(site: Site) -> dict[str, Any]:
    return {**PYTHON, "tensorflow_gpu": "required"}


Prepare = Callable[[Site], dict[str, Any]]
CASES: list[tuple[Prepare, str]] = [
    (unknown_release, "TensorFlow 2.8.9 is not a known release; the nearest are 2.8.2, 2.8.3, 2.8.4."),
    (no_wheel_for_any_python_here, "found tensorflow_python is 3.12"),
    (corrupt_lock, "truncated or edited"),
    (lock_that_is_none, "is not a lock"),
    (row_missing_a_field, "the field `cuda` is missing"),
    (root_is_a_file, "cannot be written"),
    (root_that_others_may_write, "could be changed by others"),
    (something_else_at_the_path, "exists and was not made by this toolkit"),
    (requirements_missing, "nowhere.txt"),
    (requirements_with_an_index, "mine.txt:2"),
    (requirements_against_the_release, "asks for tensorflow==2.16.2, but the requested release is 2.17.1"),
    (gpu_required, "no NVIDIA GPU on the PCI bus"),
]


@dataclass(frozen=True)
class Refused:
    run: Run
    report: dict[str, Any]
    written: list[str]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refused]:
    """Of one run, with a host for each case and a site for each host."""
    path = tmp_path_factory.mktemp("refused")
    hosts, before = {}, {}
    for prepare, _ in CASES:
        site = Site(path / prepare.__name__)
        site.path.mkdir()
        hosts[prepare.__name__] = {**site.variables, **prepare(site)}
        before[prepare.__name__] = _listing(site.path)
    inventory = {"all": {"vars": LOCAL, "hosts": hosts}}
    (path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(path / "hosts.yml"), "playbooks/workstation.yml"]
    run = run_playbook(command, directory=REPOSITORY)
    assert run.code != 0
    found = {}
    for host, listed in before.items():
        report = path / host / f"{host}.json"
        content = json.loads(report.read_text())
        report.unlink()
        found[host] = Refused(run, content, [name for name in _listing(path / host) if name not in listed])
    return found


@pytest.mark.parametrize(("prepare", "message"), CASES, ids=[prepare.__name__ for prepare, _ in CASES])
def test_refused_with_its_message(refused: dict[str, Refused], prepare: Prepare, message: str) -> None:
    found = refused[prepare.__name__]
    counts = found.run.recap[prepare.__name__]
    assert (counts["failed"], counts["changed"]) == (1, 0), found.run.output
    assert message in " ".join(found.run.output.split())
    jsonschema.validate(found.report, REPORT_SCHEMA)
    assert not found.report["succeeded"]
    assert message in " ".join(found.report["error"].split())
    assert found.written == []


def _listing(path: Path) -> list[str]:
    # Where the root is good and the plan was refused, nothing at all is made.
    return sorted(os.path.join(folder, name) for folder, folders, files in os.walk(path) for name in [*folders, *files])
