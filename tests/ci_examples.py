"""The commands of the examples in examples/ci, job by job, as their servers run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "ci"
GITHUB = EXAMPLES / "github" / ".github" / "workflows" / "fleet.yml"
GITLAB = EXAMPLES / "gitlab" / ".gitlab-ci.yml"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def commands_of_github(job: str) -> list[str]:
    """A script for each step; GitHub runs each in a shell of its own."""
    return [step["run"] for step in _read(GITHUB)["jobs"][job]["steps"] if "run" in step]


def commands_of_gitlab(job: str) -> list[str]:
    """One shell for the first script, one for what comes after it."""
    content = _read(GITLAB)
    own: dict[str, Any] = content[job]
    before: list[str] = content[".toolkit"]["before_script"]
    return ["\n".join([*before, *own["script"]]), "\n".join(own.get("after_script", []))]
