"""What a run did to a fleet, node by node: `fleet.json`, and a few lines for the screen. Pure.

The schema is fleet.schema.json of the role stack_report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# By what an operator has to look at first.
STATES = ("failed", "unreachable", "refused", "not_begun", "planned", "proven")
_SAYS = {
    "failed": "failed",
    "unreachable": "not reached",
    "refused": "refused",
    "not_begun": "not begun",
    "planned": "would be changed",
    "proven": "proven",
}
# On the screen, at most, beside the first line, those of drained nodes and of the file.
_MOST_LINES = 15
_MOST_NAMES = 8


def summarise(
    hosts: Iterable[str],
    *,
    decision: Mapping[str, Any],
    reports: Mapping[str, Sequence[Mapping[str, Any]]],
    errors: Mapping[str, str],
    unreachable: Iterable[str],
    drained: Mapping[str, str],
    check_mode: bool,
    written_at: str,
) -> dict[str, Any]:
    """The content of fleet.json, from the reports of each host's environments and the messages of failed hosts."""
    unreachable = set(unreachable)
    nodes = []
    for host in hosts:
        of_host = reports.get(host, ())
        is_due = host in decision["canary"] or host in decision["rest"]
        # A batch that another node ended leaves some environments without a report.
        is_complete = bool(of_host) and len(of_host) >= decision["environments"].get(host, 1)
        error = errors.get(host) or next((report["error"] for report in of_host if report["error"]), None)
        if host in unreachable:
            state = "unreachable"
        elif host in decision["refused"]:
            state, error = "refused", decision["refused"][host][0]
        elif error:
            state = "failed"
        elif host in decision["unchanged"] or (is_complete and all(report["succeeded"] for report in of_host)):
            state = "proven"
        elif is_due and not is_complete:
            state = "not_begun" if not of_host else "failed"
            error = None if not of_host else "The run ended before all environments of this node were installed."
        else:
            state = "planned" if check_mode else "failed"
        nodes.append(
            {
                "host": host,
                "state": state,
                "error": error,
                "drained_since": drained.get(host),
                "environments": [_environment(report) for report in of_host],
            }
        )
    return {
        "schema": 1,
        "written_at": written_at,
        "check_mode": check_mode,
        "counts": {state: sum(node["state"] == state for node in nodes) for state in STATES},
        "nodes": nodes,
    }


def _environment(report: Mapping[str, Any]) -> dict[str, Any]:
    plan, check = report["plan"] or {}, report["check"] or {}
    return {
        "release": report["release"],
        "path": (plan.get("environment") or {}).get("path"),
        "changed": bool((report["done"] or {}).get("changed")),
        "verdict": check.get("verdict"),
        "reason": check.get("reason"),
        "causes": [cause["cause"] for cause in check.get("causes") or []],
        "succeeded": report["succeeded"],
    }


def lines(summary: Mapping[str, Any]) -> list[str]:
    """For the screen: the counts, then a line for each node that needs somebody, then groups of names."""
    counts = summary["counts"]
    total = sum(counts.values())
    said = ", ".join(f"{counts[state]} {_SAYS[state]}" for state in reversed(STATES) if counts[state])
    shown = [f"Fleet of {total} {'node' if total == 1 else 'nodes'}: {said or 'none'}"]
    alone = [node for state in ("failed", "refused") for node in summary["nodes"] if node["state"] == state]
    room = _MOST_LINES - 2
    for node in alone[:room]:
        shown.append(f"{_SAYS[node['state']]}: {node['host']}: {_first_line(node['error'])}")
    if len(alone) > room:
        shown.append(f"and {len(alone) - room} more that failed or were refused")
    for state in ("unreachable", "not_begun"):
        names = [node["host"] for node in summary["nodes"] if node["state"] == state]
        if names:
            shown.append(f"{_SAYS[state]}: {_names(names)}")
    drained = [node["host"] for node in summary["nodes"] if node["drained_since"]]
    if drained:
        shown.append(f"still drained: {_names(drained)}; run the playbook again when the cause is mended")
    return shown


def _first_line(text: str | None) -> str:
    return (text or "see above").splitlines()[0][:200]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
