"""The examples for CI servers, each job by its own commands, with doubles of what the server provides."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.ci_examples import GITLAB, commands_of_github, commands_of_gitlab
from tests.playbooks import REPOSITORY

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,  # ten runs of a playbook: a minute
]

DOUBLES = {
    "gh": 'echo "$@" > "$SITE/comment"; cat "$RUNNER_TEMP/comment.md" >> "$SITE/comment"',
    "git": '[ "$1" = clone ] && ln -s "$CHECKOUT" toolkit',
    "make": "exit 0",  # the tools are installed
    "ssh-add": "cat > /dev/null",
    "ssh-agent": '[ "$1" = -k ] || echo "export SSH_AGENT_PID=1"',
}
# A node that can have what is asked for, and one that cannot, so that nothing is installed.
HOSTS = {"gpu1": {}, "gpu2": {"tensorflow_gpu": "required"}}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The workspace of a job: the user's repository, the toolkit next to it, and doubles on PATH."""
    (tmp_path / "bin").mkdir()
    for name, text in DOUBLES.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "workspace" / "fleet").mkdir(parents=True)
    (tmp_path / "temp").mkdir()
    (tmp_path / "key").write_text("")
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "tensorflow_version": "2.15.1",
        "tensorflow_root": str(tmp_path / "root"),
    }
    inventory = {"all": {"vars": common, "hosts": HOSTS}}
    (tmp_path / "workspace" / "fleet" / "hosts.yml").write_text(yaml.safe_dump(inventory))
    return tmp_path


def run(site: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", script],
        stdin=subprocess.DEVNULL,
        cwd=site / "workspace",
        env={
            **os.environ,
            "PATH": f"{site / 'bin'}:{os.environ['PATH']}",
            "SITE": str(site),
            "CHECKOUT": str(REPOSITORY),
            "REPORTS": str(site / "kept"),
            "FLEET": "fleet",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def github(site: Path, job: str) -> list[int]:
    toolkit = site / "workspace" / "toolkit"
    if not toolkit.exists():
        toolkit.symlink_to(REPOSITORY)
    variables = {
        "GITHUB_WORKSPACE": str(site / "workspace"),
        "GITHUB_STEP_SUMMARY": str(site / "summary"),
        "GITHUB_REPOSITORY": "me/fleet",
        "RUNNER_TEMP": str(site / "temp"),
        "SSH_KEY": "key",
        "NUMBER": "7",
    }
    return [run(site, script, **variables).returncode for script in commands_of_github(job)]


def gitlab(site: Path, job: str) -> list[int]:
    variables = {
        "CI_PROJECT_DIR": str(site / "workspace"),
        "FLEET_SSH_KEY": str(site / "key"),
        "TOOLKIT": "https://example.org/toolkit.git",
        "TOOLKIT_REF": "main",
    }
    (site / "workspace" / "toolkit").unlink(missing_ok=True)
    return [run(site, script, **variables).returncode for script in commands_of_gitlab(job)]


def test_github_plans_comments_and_applies(site: Path) -> None:
    assert github(site, "lint") == [0, 0]
    # The plan fails, and is shown nevertheless.
    assert github(site, "plan") == [0, 2, 0]
    comment = (site / "comment").read_text()
    assert comment.startswith("pr comment 7 --repo me/fleet --body-file")
    assert "    Fleet of 2 nodes: 1 would be changed, 1 refused" in comment
    assert {path.suffix for path in (site / "temp" / "reports").glob("fleet.*")} >= {".html", ".xml", ".json"}
    assert github(site, "apply") == [0, 2]
    assert "1 not begun, 1 refused" in (site / "summary").read_text()
    assert not (site / "root").exists()


def test_gitlab_plans_and_applies(site: Path) -> None:
    assert gitlab(site, "lint") == [0, 0]
    assert gitlab(site, "plan") == [2, 0]
    kept = yaml.safe_load(GITLAB.read_text())["plan"]["artifacts"]
    assert all((site / "workspace" / path).exists() for path in [*kept["paths"], kept["reports"]["junit"]])
    assert "1 would be changed, 1 refused" in (site / "workspace" / "reports" / "fleet.txt").read_text()
    assert gitlab(site, "apply") == [2, 0]
    assert "1 not begun, 1 refused" in (site / "workspace" / "reports" / "fleet.txt").read_text()
    assert not (site / "root").exists()
