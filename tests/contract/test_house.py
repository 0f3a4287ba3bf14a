"""What servers and editors read of this repository: valid by its schema, and one set of commands with `.ci/run`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import make_collection
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


def test_what_is_not_ready_to_publish_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(make_collection.unready("0.9.0"))
    assert re.search(r"collection/galaxy\.yml has version [\d.]+, not 0\.9\.0\.", said)
    assert f'OWNER or REPOSITORY in {", ".join(make_collection.PUBLISHED)}: see "Before you publish"' in said
    assert make_collection.main(["--release", "0.9.0", "--output", str(tmp_path)]) == 2
    assert "not 0.9.0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    for name in (*make_collection.PUBLISHED, "changelogs/changelog.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        path.write_text(text.replace("OWNER/REPOSITORY", "me/stack").replace("@OWNER/", "@me/"))
    assert make_collection.unready(make_collection.GALAXY["version"], tmp_path) == []
    (tmp_path / "changelogs" / "fragments").mkdir(parents=True)
    (tmp_path / "changelogs" / "fragments" / "mine.yml").write_text("bugfixes: [It works.]\n")
    left = make_collection.unready(make_collection.GALAXY["version"], tmp_path)
    assert left == ["mine.yml in changelogs/fragments: run make changelog."]


def test_placeholders_are_where_the_page_says() -> None:
    """So that no other file names a place that looks real and is not."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Before you publish")[1].split("##")[0]
    assert [name for name in make_collection.PUBLISHED if f"`{name}`" not in page] == []
    listed = ["git", "grep", "--files-with-matches", "--extended-regexp", "@OWNER/|OWNER/REPOSITORY"]
    found = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split()
    if found:  # in a clone
        assert set(found) - {"tests/contract/test_house.py"} == {*make_collection.PUBLISHED} | {
            "scripts/make_collection.py"
        }
