"""`fleet.json` as one page that needs nothing else: no other file, no network, no framework."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..records.component import COMPONENTS
from . import summary as summaries
from .advice import groups
from .entries import ON_A_NODE

_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
_LABELS = {
    **{component.name: component.label for component in COMPONENTS},
    "driver": "Driver",
    "python": "Python",
    "environment": "TensorFlow",
}
_VERDICTS = {
    "failed": "failed",
    "refused": "refused",
    "due": "to be changed",
    "changed": "changed by this run",
    "ok": "as wanted",
    "unused": "not used",
}
_ABOUT = {
    "run": "Run of fleet.yml,",
    "recorded": "From the reports on the controller,",
    "read": "Read from the nodes,",
}


def page(summary: Mapping[str, Any]) -> str:
    """The page of a fleet. Whatever a node says is escaped, and the policy in the page allows its one script alone."""
    style, script = _read("page.css"), _read("page.js")
    environment = Environment(
        autoescape=True, loader=FileSystemLoader(_DIRECTORY), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("page.html.j2").render(
        **_content(summary),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _content(summary: Mapping[str, Any]) -> dict[str, Any]:
    nodes, counts = summary["nodes"], summary["counts"]
    computes, *others = summaries.answer(summary).split("; ")
    needing = next((part for part in others if part.endswith("you")), "")
    rows = [row for number, node in enumerate(nodes) for row in _rows(node, number)]
    segments, start = [], 0
    for state in reversed(summaries.STATES):
        if counts[state]:
            segments.append({"state": state, "start": start, "count": counts[state]})
            start += counts[state]
    when = datetime.datetime.strptime(summary["written_at"], "%Y-%m-%dT%H:%M:%SZ")
    return {
        "summary": summary,
        "answer": "; ".join([computes, *others]),
        "computes": computes,
        "needing": needing,
        "waiting": ", ".join(part for part in others if part != needing),
        "about": ("Check mode of fleet.yml," if summary["check_mode"] else _ABOUT[summary["source"]]),
        "when": f"{when.day} {when:%B %Y, %H:%M} UTC",
        "total": start,
        "segments": segments,
        "attention": groups(nodes, summaries.NEED_SOMEBODY),
        "others": groups(nodes, ("not_begun", "planned")),
        "drained": [node["host"] for node in nodes if node["drained_since"]],
        "drifting": len({row["node"]["host"] for row in rows if row["drift"]}),
        "anchors": {node["host"]: f"node-{number}" for number, node in enumerate(nodes)},
        "rows": rows,
        "columns": [(name, _LABELS[name]) for name in ON_A_NODE],
        "says": summaries.SAYS,
        "verdicts": _VERDICTS,
    }


def _rows(node: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    """One for each environment of the node."""
    environments: list[Any] = node["environments"] or [None]
    return [
        {
            "node": node,
            "anchor": f"node-{number}" if index == 0 else None,
            "name": one["name"] if one and len(environments) > 1 else None,
            "detail": node["cause"] or _unusual_verdict(one),
            "drift": any(part["drift"] for part in one["components"]) if one else False,
            "parts": {name: None for name in ON_A_NODE}
            | {part["component"]: part for part in (one["components"] if one else ())},
        }
        for index, one in enumerate(environments)
    ]


def _unusual_verdict(environment: Mapping[str, Any] | None) -> str | None:
    """Of an environment that computes, unless it is that with a GPU."""
    verdict = (environment or {}).get("verdict")
    return None if verdict == "ok" else verdict


def _read(name: str) -> str:
    with open(os.path.join(_DIRECTORY, name), encoding="utf-8") as stream:
        return stream.read()


def _hash(text: str) -> str:
    """As a Content-Security-Policy names a script or style: of what is between its tags."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
