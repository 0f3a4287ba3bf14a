"""Why a node needs somebody, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_AGAIN = "Then run the playbook again: it does only what is missing."
_NEXT = {
    "failed": f"Repair the cause; reports/<node>.json and <node>.failed.log have all of it. {_AGAIN}",
    "unreachable": f"Make sure that the node runs and that ssh reaches it. {_AGAIN}",
    "refused": f"Change what the inventory asks for on this node, or the node. {_AGAIN}",
    "unfinished": "If no run is at work, run the playbook again: it does only what is missing.",
    "not_begun": f"Repair the nodes that failed. {_AGAIN}",
    "unknown": "Read the node (report_fresh), or run fleet.yml.",
    "planned": "Run fleet.yml without --check.",
}
_CAUSES = {
    "unreachable": "Ansible could not connect.",
    "unfinished": "The run had not finished this node when this report was written.",
    "not_begun": "The run ended before it changed this node.",
    "unknown": "No report of this node exists.",
}


def explain(
    state: str, error: str | None, environments: Sequence[Mapping[str, Any]], failed: Sequence[str] = ()
) -> tuple[str | None, str | None]:
    """Cause and next step of a node in this state; `failed` are the nodes because of which others were not begun."""
    if state == "proven":
        return None, None
    if state == "refused":
        refusals = [refusal for one in environments for refusal in one["refusals"]]
        if refusals:
            first = refusals[0]
            cause = f"{first['component']}: wanted {first['wanted']}; found {first['found']}."
            return cause, first["set"] or _NEXT[state]
    if state == "failed":
        causes = [cause for one in environments if not one["succeeded"] for cause in one["causes"]]
        if causes:
            return causes[0]["says"], causes[0]["do"]
    if state == "not_begun" and failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"The run ended before it changed this node, because of {failed[0]}{more}.", _NEXT[state]
    if state == "planned":
        return None, _NEXT[state]
    return error or _CAUSES.get(state) or "The run gave no reason.", _NEXT[state]


def groups(nodes: Sequence[Mapping[str, Any]], states: Sequence[str]) -> list[dict[str, Any]]:
    """Nodes of these states with one cause and one next step together, by state and then the largest group first."""
    found: dict[tuple[str, str | None, str | None], list[str]] = {}
    for node in nodes:
        if node["state"] in states:
            found.setdefault((node["state"], node["cause"], node["next_step"]), []).append(node["host"])
    return [
        {"state": state, "cause": cause, "next_step": step, "hosts": hosts}
        for (state, cause, step), hosts in sorted(
            found.items(), key=lambda item: (states.index(item[0][0]), -len(item[1]))
        )
    ]
