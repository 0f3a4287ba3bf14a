"""The state of a fleet from what is recorded on the controller: `fleet.json`, and the reports of nodes since then."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..io.reading import read_json
from .drained import read_drained
from .entries import reported_entry
from .files import RECORD
from .shape import is_environment, is_node
from .summary import SCHEMA, complete

_MOST_BYTES = 256 << 20
# Of report.schema.json, what is read here.
_REPORT = {"additions", "check", "done", "error", "host", "plan", "release", "succeeded", "system", "written_at"}


def recorded(directory: str, hosts: Sequence[str], *, written_at: str) -> dict[str, Any]:
    """The content of a new fleet.json. Raises StackError if the record of drained nodes cannot be read."""
    found = _read(os.path.join(directory, RECORD))
    before: Mapping[str, Any] = {"written_at": "", "nodes": []}
    if found.get("schema") == SCHEMA and isinstance(found.get("nodes"), list):
        before = {"written_at": str(found.get("written_at", "")), "nodes": filter(is_node, found["nodes"])}
    nodes = {node["host"]: node for node in before["nodes"]}
    newer = _reports(directory, set(hosts), since=before["written_at"])
    drained = read_drained(directory)
    return complete(
        [{**_node(host, nodes.get(host), newer.get(host, [])), "drained_since": drained.get(host)} for host in hosts],
        source="recorded",
        ended=True,
        check_mode=False,
        written_at=written_at,
    )


def _node(host: str, before: Mapping[str, Any] | None, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the last fleet.json has of a node, with the environments that were reported since then."""
    node = dict(before or {"host": host, "state": "unknown", "error": None, "environments": []})
    if not reports:
        return node
    entries = [reported_entry(report) for report in reports]
    names = {one["name"] for one in entries}
    # A plan that was refused has no name, and a report says what became of it.
    node["environments"] = [
        *(one for one in node["environments"] if one["name"] not in names and one["name"] is not None),
        *entries,
    ]
    error = next((report["error"] for report in reports if report["error"]), None)
    if error:
        return {**node, "state": "failed", "error": error}
    if all(one["succeeded"] for one in node["environments"]):
        return {**node, "state": "proven", "error": None}
    return node if before else {**node, "state": "failed", "error": "Nothing was proven on this node."}


def _reports(directory: str, hosts: set[str], *, since: str) -> dict[str, list[dict[str, Any]]]:
    """By host, the reports that are newer than fleet.json; a node with several environments has one for each."""
    # A report of a node that is damaged is none: the node's state is then unknown, and the others are reported.
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return found
    for name in names:
        if not name.endswith(".json") or name.endswith(".plan.json") or name == RECORD:
            continue
        report = _read(os.path.join(directory, name))
        if _is_report(report) and report["host"] in hosts and report["written_at"] > since:
            found.setdefault(report["host"], []).append(report)
    return found


def _is_report(report: dict[str, Any]) -> bool:
    if not report.keys() >= _REPORT or not isinstance(report["error"], (str, type(None))):
        return False
    try:
        entry = reported_entry(report)
    except (KeyError, TypeError, AttributeError, IndexError):
        return False
    return isinstance(report["host"], str) and isinstance(report["written_at"], str) and is_environment(entry)


def _read(path: str) -> dict[str, Any]:
    """Empty for a file that does not exist, or that is none of ours."""
    try:
        return read_json(path, _MOST_BYTES)
    except (OSError, ValueError):
        return {}
