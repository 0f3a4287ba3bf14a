"""What a run did to one node, from the results of its parts; schema: report.schema.json of the role stack_report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]
_DONE = (
    "changed",
    "action",
    "environment",
    "build",
    "damage",
    "dropped",
    "removed_builds",
    "kept_builds",
    "bytes_to_fetch",
    "seconds",
)
_CHECK = ("verdict", "reason", "causes", "reused", "checked_at", "report")
_SYSTEM = (
    "changed",
    "version",
    "action",
    "transaction",
    "healed",
    "drift",
    "repaired",
    "reboot_required",
    "reboot_reasons",
    "processes",
)
# What counts where no plan asks for one of them, as after a rollback.
_GOOD_VERDICTS = ("ok", "cpu_only_no_gpu")
# The good verdict of `tensorflow_check_level: libraries`, which proves less, as was asked for.
_ASKED_FOR_LESS = "libraries_ok"


def make_report(
    host: str,
    *,
    release_result: Result,
    venv_result: Result,
    check_result: Result,
    system_results: Mapping[str, Result],
    failed_result: Result,
    failed_task: str,
    proof_required: bool,
    written_at: str,
) -> dict[str, Any]:
    """The report of one node. A part that did not run has an empty result; `failed_result` is that of what failed."""
    plan = release_result.get("plan")
    ran = {name: result for name, result in system_results.items() if result and not result.get("skipped")}
    verdict = check_result.get("verdict")
    proven = verdict in ([plan["verdict"]] if plan else _GOOD_VERDICTS)
    error = None
    if failed_result or failed_task:
        error = _message(failed_result) or f"The task {failed_task!r} failed and gave no reason."
    elif proof_required and not proven and verdict != _ASKED_FOR_LESS:
        error = (
            f"Nothing was proven: the verdict of this run is {verdict or 'none, since no check ran'}. "
            "Run the playbook whole, without --start-at-task, --step, --tags and --skip-tags."
        )
    return {
        "schema": 1,
        "host": host,
        "written_at": written_at,
        "release": plan["release"] if plan else venv_result.get("release"),
        "plan": plan,
        "system": {
            name: {key: result[key] for key in _SYSTEM if key in result}
            for name, result in ran.items()
            if not result.get("failed")
        },
        "done": {key: venv_result[key] for key in _DONE} if "action" in venv_result else None,
        "additions": venv_result.get("additions") or [],
        "check": {key: check_result[key] for key in _CHECK} if verdict else None,
        "error": error,
        "succeeded": error is None and proven,
    }


def _message(result: Result) -> Any:
    """Of a loop, that of its first item that failed: the loop's own says only that one did."""
    items = [item for item in result.get("results", ()) if item.get("failed")]
    return (items[0] if items else result).get("msg")
