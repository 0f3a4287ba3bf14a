"""The examples for CI servers have the schemas of these servers, and call what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import run_playbook
from tests.ci_examples import GITHUB, GITLAB, commands_of_github, commands_of_gitlab

REPOSITORY = Path(__file__).resolve().parents[2]
# SchemaStore's, which check-jsonschema contains.
SCHEMAS = {GITHUB: ["vendor.github-workflows"], GITLAB: ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]}
COMMANDS = {GITHUB: commands_of_github, GITLAB: commands_of_gitlab}


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_example_has_the_schema_of_its_server(path: Path) -> None:
    program = Path(sys.executable).parent / "check-jsonschema"
    ended = subprocess.run(
        [program, "--builtin-schema", *SCHEMAS[path], path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_example_calls_what_exists(path: Path) -> None:
    text = "\n".join(line for job in ("lint", "plan", "apply") for line in COMMANDS[path](job))
    playbooks = re.findall(r"playbooks/(\w+)\.yml", text)
    assert set(playbooks) == {"fleet", "report"}
    assert all((REPOSITORY / "playbooks" / f"{name}.yml").exists() for name in playbooks)
    variables = re.findall(r"-e (\w+)=", text)
    assert set(variables) <= run_playbook.known_variables().keys()
    for script in (COMMANDS[path](job) for job in ("lint", "plan", "apply")):
        parsed = subprocess.run(["bash", "-n"], input="\n".join(script), text=True, capture_output=True, check=False)
        assert parsed.returncode == 0, parsed.stderr


def test_apply_waits_for_a_person_and_for_other_runs() -> None:
    job: dict[str, Any] = yaml.safe_load(GITHUB.read_text())["jobs"]["apply"]
    assert (job["environment"], job["concurrency"]) == ("fleet", {"group": "fleet", "cancel-in-progress": False})
    gitlab: dict[str, Any] = yaml.safe_load(GITLAB.read_text())
    assert gitlab["apply"]["rules"][0]["when"] == "manual"
    assert gitlab["apply"]["environment"]["name"] == gitlab[".nodes"]["resource_group"] == "fleet"


def test_a_fork_reaches_no_node_and_values_of_an_event_reach_no_shell() -> None:
    workflow: dict[str, Any] = yaml.safe_load(GITHUB.read_text())
    assert "head.repo.full_name == github.repository" in workflow["jobs"]["plan"]["if"]
    scripts = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert not [script for script in scripts if "${{" in script]
