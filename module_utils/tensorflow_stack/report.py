"""What a run did to one node, from the results of its parts; schema: report.schema.json of the role stack_report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]
_DONE = ("changed", "action", "environment", "build", "damage", "removed_builds", "bytes_to_fetch", "seconds")
_CHECK = ("verdict", "reason", "reused", "checked_at", "report")


def make_report(host: str, *, release_result: Result, venv_result: Result, check_result: Result) -> dict[str, Any]:
    """The report of one node. A part that did not run has an empty result, one that failed its message."""
    plan = release_result.get("plan")
    failed = [part for part in (release_result, venv_result, check_result) if part.get("failed")]
    verdict = check_result.get("verdict")
    return {
        "schema": 1,
        "host": host,
        "release": plan and plan["release"],
        "plan": plan,
        "done": {key: venv_result[key] for key in _DONE} if "action" in venv_result else None,
        "check": {key: check_result[key] for key in _CHECK} if verdict else None,
        "error": failed[0].get("msg") if failed else None,
        "succeeded": not failed and verdict is not None and plan is not None and verdict == plan["verdict"],
    }
