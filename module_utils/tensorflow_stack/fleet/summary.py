"""What a run did to a fleet, node by node: `fleet.json`, and a few lines for the screen. Pure.

The schema is fleet.schema.json of the role stack_report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .advice import explain, groups

# Version of fleet.schema.json.
SCHEMA = 2
# By what an operator has to look at first.
STATES = ("failed", "unreachable", "refused", "unfinished", "not_begun", "unknown", "planned", "proven")
SAYS = {
    "failed": "failed",
    "unreachable": "not reached",
    "refused": "refused",
    "unfinished": "unfinished",
    "not_begun": "not begun",
    "unknown": "without a report",
    "planned": "would be changed",
    "proven": "proven",
}
# Somebody has to do something about these; the next ones only wait.
NEED_SOMEBODY = ("failed", "unreachable", "refused", "unfinished", "unknown")
# On the screen, at most, besides the first line, two of drained nodes and that of the file.
_MOST_LINES = 15
_MOST_NAMES = 8
_MOST_CHARACTERS = 200
_CUT_SHORT = "The run ended before all environments of this node were installed."

Entries = Mapping[str, Sequence[Mapping[str, Any]]]


def summarise(
    hosts: Iterable[str],
    *,
    decision: Mapping[str, Any] | None,
    plans: Entries,
    reports: Entries,
    errors: Mapping[str, str],
    unreachable: Mapping[str, str],
    drained: Mapping[str, str],
    check_mode: bool,
    written_at: str,
    begun: Collection[str] = (),
    source: str = "run",
    ended: bool = True,
) -> dict[str, Any]:
    """The content of fleet.json.

    `plans` and `reports` have the environments of each host (entries.py); `decision` is null if a run ended before it;
    `begun` are the hosts of batches that were begun.
    """
    nodes = []
    for host in hosts:
        of_host = reports.get(host, ())
        reported = {one["name"] for one in of_host}
        environments = [*of_host, *(one for one in plans.get(host, ()) if one["name"] not in reported)]
        error = errors.get(host) or next((one["error"] for one in of_host if one.get("error")), None)
        state, error = _state(
            host,
            decision,
            environments,
            reports=of_host,
            error=error,
            is_unreachable=host in unreachable,
            is_begun=host in begun,
            only_looks=check_mode or source == "read",
            ended=ended,
        )
        nodes.append(
            {
                "host": host,
                "state": state,
                "error": unreachable.get(host) or error,
                "drained_since": drained.get(host),
                "environments": [
                    {name: value for name, value in one.items() if name != "error"} for one in environments
                ],
            }
        )
    return complete(nodes, source=source, ended=ended, check_mode=check_mode, written_at=written_at)


def complete(
    nodes: Sequence[dict[str, Any]], *, source: str, ended: bool, check_mode: bool, written_at: str
) -> dict[str, Any]:
    """fleet.json of these nodes, with what follows from their states."""
    failed = [node["host"] for node in nodes if node["state"] in NEED_SOMEBODY and node["state"] != "unknown"]
    for node in nodes:
        node["cause"], node["next_step"] = explain(node["state"], node["error"], node["environments"], failed)
    return {
        "schema": SCHEMA,
        "written_at": written_at,
        "source": source,
        "ended": ended,
        "check_mode": check_mode,
        "counts": {state: sum(node["state"] == state for node in nodes) for state in STATES},
        "nodes": list(nodes),
    }


def _state(
    host: str,
    decision: Mapping[str, Any] | None,
    environments: Sequence[Mapping[str, Any]],
    *,
    reports: Sequence[Mapping[str, Any]],
    error: str | None,
    is_unreachable: bool,
    is_begun: bool,
    only_looks: bool,
    ended: bool,
) -> tuple[str, str | None]:
    """The state of a node, and the message of what failed."""
    if is_unreachable:
        return "unreachable", error
    refused = (decision or {"refused": {}})["refused"].get(host)
    if refused or any(one["refusals"] for one in environments):
        messages = [refusal["message"] for one in environments for refusal in one["refusals"]]
        return "refused", [*(refused or ()), *messages][0]
    if error:
        return "failed", error
    if decision is None:
        return "not_begun", None
    is_complete = bool(reports) and len(reports) >= decision["environments"].get(host, 1)
    if host in decision["unchanged"] or (is_complete and all(one["succeeded"] for one in reports)):
        return "proven", None
    if only_looks:
        return "planned", None
    if not is_complete and (is_begun or reports):
        return ("unfinished", None) if not ended else ("failed", _CUT_SHORT)
    if not reports:
        return "not_begun", None
    return "failed", None


def answer(summary: Mapping[str, Any]) -> str:
    """The one line: how many nodes compute, and how many need somebody."""
    counts = summary["counts"]
    total, needing = sum(counts.values()), sum(counts[state] for state in NEED_SOMEBODY)
    said = [f"{counts['proven']} of {total} {'node computes' if total == 1 else 'nodes compute'}"]
    if needing:
        said.append(f"{needing} {'needs' if needing == 1 else 'need'} you")
    said += [f"{counts[state]} {SAYS[state]}" for state in ("not_begun", "planned") if counts[state]]
    return "; ".join(said)


def lines(summary: Mapping[str, Any]) -> list[str]:
    """For the screen: the counts, then each cause with its nodes and the next step, then groups of names."""
    counts = summary["counts"]
    total = sum(counts.values())
    said = ", ".join(f"{counts[state]} {SAYS[state]}" for state in reversed(STATES) if counts[state])
    ended = "" if summary["ended"] else " (interrupted)"
    shown = [f"Fleet of {total} {'node' if total == 1 else 'nodes'}{ended}: {said or 'none'}"]
    waiting = groups(summary["nodes"], ("failed", "unreachable", "refused", "unfinished"))
    room = _MOST_LINES - 2
    has_steps = 2 * len(waiting) <= room
    for group in waiting[:room]:
        shown.append(f"{SAYS[group['state']]}: {names_of(group['hosts'])}: {_first_line(group['cause'])}")
        if has_steps:
            shown.append(f"  next: {_first_line(group['next_step'])}")
    left = sum(len(group["hosts"]) for group in waiting[room:])
    if left:
        shown.append(f"and {left} more, which the report has")
    for state in ("not_begun", "unknown"):
        names = [node["host"] for node in summary["nodes"] if node["state"] == state]
        if names:
            shown.append(f"{SAYS[state]}: {names_of(names)}")
    drained = [node["host"] for node in summary["nodes"] if node["drained_since"]]
    if drained:
        shown.append(f"still drained: {names_of(drained)}; run the playbook again when the cause is mended")
    return shown


def _first_line(text: str | None) -> str:
    first = (text or "see above").strip().splitlines()[0]
    return first if len(first) <= _MOST_CHARACTERS else first[: _MOST_CHARACTERS - 4].rstrip() + " ..."


def names_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
