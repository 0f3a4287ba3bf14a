"""The collection where no checkout is near: each of its modules by its full name, and an environment that it builds.

With a double of TensorFlow in small wheels. tests/component/test_collection.py has what is cheap.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from make_collection import COLLECTION, MODULES

from tests.component.test_collection import Project, project
from tests.integration.test_additions import MINOR, NAME, RELEASE, Machine, machine

__all__ = ["machine", "project"]

pytestmark = [pytest.mark.integration, pytest.mark.slow]  # A process for each module.


def call(project: Project, calls: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The result of each call, by the name of the module."""
    # Names of variables that tensorflow_inventory takes for none of ours.
    registered = {name: f"call_{number}" for number, name in enumerate(calls)}
    tasks: list[dict[str, Any]] = [
        {"name": f"Call {name}", f"{COLLECTION}.{name}": options, "register": registered[name], "ignore_errors": True}
        for name, options in calls.items()
    ]
    results = "{{ {" + ", ".join(f"'{name}': {variable}" for name, variable in registered.items()) + "} | to_json }}"
    tasks.append(
        {
            "name": "Write what they said",
            "ansible.builtin.copy": {"content": results, "dest": str(project.path / "results.json")},
            "check_mode": False,
        }
    )
    run = project.play(project.write("site.yml", *tasks), "--check")
    assert run.code == 0, run.output
    found: dict[str, Any] = json.loads((project.path / "results.json").read_text())
    return found


def test_each_module_is_found_by_its_full_name_and_refuses_wrong_options(project: Project) -> None:
    results = call(project, {name: {"nosuch": 1} for name in MODULES})
    # What is required comes first.
    refused = re.compile(
        r"missing required arguments: |all of the following are missing: |Unsupported parameters .*: nosuch"
    )
    assert set(results) == set(MODULES)
    assert {name: result["msg"] for name, result in results.items() if not refused.search(result["msg"])} == {}


def test_each_module_that_needs_no_option_runs_without_one(project: Project, tmp_path: Path) -> None:
    arguments = ["-t", "module", "--json", *(f"{COLLECTION}.{name}" for name in MODULES)]
    documented = {
        full.rpartition(".")[2]: row["doc"].get("options") or {}
        for full, row in json.loads(project.run("ansible-doc", *arguments)).items()
    }
    # What a person would have to say, and no other place than that of this test.
    given = {"root": str(tmp_path), "path": str(tmp_path / "x"), "directory": str(tmp_path)}
    calls = {
        name: {option: given[option] for option in options if option in given}
        for name, options in documented.items()
        if {option for option, row in options.items() if row.get("required")} <= set(given)
    }
    assert len(calls) > 6
    results = call(project, calls)
    said = {name: result["msg"] for name, result in results.items() if result.get("failed")}
    assert {name: text for name, text in said.items() if not text or "a fault of" in text or "Traceback" in text} == {}
    # Most have nothing to refuse.
    assert len(results) - len(said) > 4, said


def test_an_environment_is_built_checked_and_removed_by_names(project: Project, machine: Machine) -> None:
    common = {
        **machine.site.variables,
        "tensorflow_index_url": machine.wheels.as_uri(),
        "tensorflow_check_level": "libraries",
    }
    given = {**common, "tensorflow_version": RELEASE, "tensorflow_python": MINOR, "tensorflow_gpu": "none"}
    built = project.play(f"{COLLECTION}.workstation", **given)
    assert built.code == 0, built.output
    report = json.loads((machine.site.path / "node.json").read_text())
    assert report["release"] == RELEASE
    assert (machine.site.root / NAME).is_symlink()
    again = project.play(f"{COLLECTION}.workstation", **given)
    assert again.changed == {"node": 0}, again.output
    for playbook in ("verify", "history"):
        run = project.play(f"{COLLECTION}.{playbook}", **common)
        assert run.code == 0, run.output
    removed = project.play(f"{COLLECTION}.remove", **common, tensorflow_environment=NAME)
    assert removed.code == 0, removed.output
    assert not (machine.site.root / NAME).exists()
