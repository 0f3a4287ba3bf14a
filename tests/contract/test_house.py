"""What servers and editors read of this repository: valid by its schema, and one set of commands with `.ci/run`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def check(schema: str, *paths: Path) -> None:
    program = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run([program, "--builtin-schema", schema, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
    ],
)
def test_files_have_the_schema_of_their_reader(schema: str, paths: list[Path]) -> None:
    check(schema, *paths)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(name: str) -> str:
    jobs = load(GITHUB / "workflows" / name)["jobs"].values()
    return "\n".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)


def test_workflows_run_what_anybody_runs() -> None:
    assert "bash .ci/run" in commands("ci.yml").splitlines()
    assert "make nightly" in commands("nightly.yml").splitlines()
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join([commands("ci.yml"), commands("nightly.yml"), (REPOSITORY / ".ci" / "run").read_text()])
    used = re.findall(r"^\s*make ([a-z-]+)", text, re.MULTILINE)
    assert len(used) > 5
    assert set(used) <= targets
    scripts = re.findall(r"scripts/\w+\.py", text)
    assert {"scripts/check_changes.py", "scripts/find_news.py"} <= set(scripts)
    assert [script for script in scripts if not (REPOSITORY / script).is_file()] == []
    # Values of an event reach no shell.
    assert "${{" not in text


def test_forms_ask_for_the_report_of_the_doctor() -> None:
    assert {path.stem for path in FORMS} == {"diagnosis", "fault", "wish"}
    assert [path.name for path in FORMS if "make doctor REPORT=1" not in path.read_text(encoding="utf-8")] == []
    (report,) = [row for row in load(GITHUB / "ISSUE_TEMPLATE" / "fault.yml")["body"] if row.get("id") == "report"]
    assert report["validations"]["required"]


def test_owners_are_of_places_that_exist() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    places = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert places[0] == "*"
    assert [place for place in places[1:] if not (REPOSITORY / place.strip("/")).exists()] == []


def test_hooks_before_a_commit_run_the_pinned_tools() -> None:
    hooks = [
        hook for repository in load(REPOSITORY / ".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]
    ]
    assert {hook["entry"].split()[0].rpartition("/")[0] for hook in hooks} == {".venv/bin"}
    made = {"ruff", "yamllint", "codespell", "python"}
    assert {hook["entry"].split()[0].rpartition("/")[2] for hook in hooks} == made
