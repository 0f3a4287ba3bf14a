"""What a run did to one node, from the results of its parts; schema: report.schema.json of the role stack_report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def make_report(
    host: str,
    *,
    release_result: Result,
    venv_result: Result,
    check_result: Result,
    system_results: Mapping[str, Result],
    other_results: Sequence[Result],
    written_at: str,
) -> dict[str, Any]:
    """The report of one node. A part that did not run has an empty result, one that failed its message."""
    plan = release_result.get("plan")
    ran = {name: result for name, result in system_results.items() if result and not result.get("skipped")}
    parts = [*ran.values(), *other_results, release_result, venv_result, check_result]
    failed = [part for part in parts if part.get("failed")]
    verdict = check_result.get("verdict")
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
        "error": _message(failed[0]) if failed else None,
        "succeeded": not failed and verdict in ([plan["verdict"]] if plan else _GOOD_VERDICTS),
    }


def _message(result: Result) -> Any:
    """Of a loop, that of its first item that failed: the loop's own says only that one did."""
    items = [item for item in result.get("results", ()) if item.get("failed")]
    return (items[0] if items else result).get("msg")
