"""What the actions of a fleet do: reads the plans of all nodes, and records which nodes are drained."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import StackError
from .decision import check_environments, decide, kind_of, refuse_fleet
from .drained import read_drained

# Of tensorflow_fleet, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "reports": {"type": "path", "required": True},
    "skip_refused": {"type": "bool", "default": False},
    "batches": {"type": "list", "elements": "str", "default": ["10%", "30%", "100%"]},
    "max_fail_percentage": {"type": "int", "default": 0},
    "fetch": {"type": "str", "choices": ["nodes", "controller"], "default": "nodes"},
}
# Of tensorflow_fleet_drained.
DRAINED_OPTIONS: dict[str, dict[str, Any]] = {
    "reports": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "required": True},
}


def decide_fleet(
    options: Mapping[str, Any], hosts: Sequence[str], variables: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], str | None]:
    """The result of `tensorflow_fleet`, and why it fails, if it does.

    `variables` are those of each host: `tensorflow_release_result`, as far as it was planned, and `fleet_environments`.
    """
    try:
        _check_batches(options["batches"])
        for host in hosts:
            asked = variables[host].get("fleet_environments")
            # What a template becomes is not asked; the tasks that take it would fail by themselves.
            if asked and not isinstance(asked, str):
                check_environments(asked)
        drained = read_drained(options["reports"])
    except StackError as error:
        return {}, error.message
    planned = {
        host: [{**one, "kind": kind_of(one["plan"], result["node"])} for one in result.get("plans") or [result]]
        for host, result in ((host, variables[host].get("tensorflow_release_result") or {}) for host in hosts)
        if "node" in result and not result.get("failed")
    }
    decision = decide(hosts, planned, {host: since for host, since in drained.items() if host in hosts})
    result = {
        "hosts": list(hosts),
        "reports": options["reports"],
        **dataclasses.asdict(decision),
        "fetching": [*decision.canary, *decision.rest] if options["fetch"] == "controller" else [],
        "environments": {host: len(environments) for host, environments in planned.items()},
        "batches": list(options["batches"]),
        "max_fail_percentage": options["max_fail_percentage"],
        "refusal": refuse_fleet(decision, skip_refused=options["skip_refused"]) or "",
    }
    return result, None


def _check_batches(batches: Sequence[str]) -> None:
    """Raises StackError unless each is a count of nodes or a percentage, as `serial` of a play takes them."""
    for size in batches:
        digits = size[:-1] if size.endswith("%") else size
        if not re.fullmatch("[0-9]{1,9}", digits) or int(digits) == 0:
            raise StackError(
                f"fleet_batches has {size!r}, but must be a list of node counts or percentages, such as [1, 10%, 100%]."
            )
